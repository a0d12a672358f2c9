"""Figures of the gateway for Prometheus. Labels are of small sets: known paths, versions that answered, states."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from nlp_skills.deployment.serving import answering
from nlp_skills.deployment.serving.pool import Pool

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
_METHODS = frozenset({"GET", "POST", "HEAD", "OPTIONS", "PUT", "DELETE", "PATCH"})


class Figures:
    """Of one gateway, in a registry of its own."""

    def __init__(self, pool: Pool) -> None:
        from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

        self.registry = CollectorRegistry()
        registry: dict[str, Any] = {"registry": self.registry, "namespace": "nlp_skills"}
        self._requests = Counter("requests", "Requests answered.", ["route", "method", "status", "version"], **registry)
        self._seconds = Histogram(
            "request_seconds", "From the first byte in to the last out.", ["route"], buckets=_SECONDS, **registry
        )
        self._under_way = Gauge("requests_in_progress", "Requests that are being answered.", **registry)
        self._queue = Gauge("requests_waiting", "Requests that wait for a place.", **registry)
        self._rejected = Counter("requests_rejected", "Requests sent away, by reason.", ["reason"], **registry)
        self.registry.register(_Engines(pool))

    def begun(self) -> None:
        """A request came in."""
        self._under_way.inc()

    def ended(self, path: str, method: str, status: int, version: str, seconds: float) -> None:
        """A request was answered."""
        route = path if path in answering.ROUTES else "other"
        self._under_way.dec()
        self._requests.labels(route, method if method in _METHODS else "other", str(status), version).inc()
        self._seconds.labels(route).observe(seconds)

    def waiting(self, count: int) -> None:
        """So many wait for a place now."""
        self._queue.set(count)

    def rejected(self, reason: str) -> None:
        """A request was sent away."""
        self._rejected.labels(reason).inc()

    def text(self) -> bytes:
        """All of them, as Prometheus reads them."""
        from prometheus_client import generate_latest

        return bytes(generate_latest(self.registry))


class _Engines:
    """What the pool holds, looked at when it is asked for."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool

    def describe(self) -> list[Any]:
        return []

    def collect(self) -> Iterator[Any]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        up = GaugeMetricFamily("nlp_skills_version_up", "Whether a loaded version answers.", labels=["version"])
        active = GaugeMetricFamily("nlp_skills_version_active", "The active version is 1.", labels=["version"])
        restarts = CounterMetricFamily(
            "nlp_skills_engine_restarts", "How often a loaded version's engine was replaced.", labels=["version"]
        )
        for name, seat in self.pool.seats.copy().items():
            up.add_metric([name], float(seat.answers))
            active.add_metric([name], float(name == self.pool.active))
            restarts.add_metric([name], float(seat.generation))
        yield from (up, active, restarts)
