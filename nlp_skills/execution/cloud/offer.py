"""What a machine would cost, put before whoever pays, and the answer. Without an answer nothing is rented."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass

from nlp_skills.errors import Usage
from nlp_skills.i18n import _


@dataclass(frozen=True)
class Offer:
    """`usd_per_hour` is for all machines together: SkyPilot's lowest price; None where it knows none.

    `free` says that the provider takes no money by the hour: a cluster of one's own.
    """

    cluster: str
    provider: str
    gpu: str | None
    spot: bool
    nodes: int
    usd_per_hour: float | None
    free: bool
    budget_usd: float | None
    max_hours: float | None
    idle_minutes: int

    @property
    def most_usd(self) -> float | None:
        """What it may come to before the run is ended; None where nothing ends it, or the price is not known."""
        hours = None if self.max_hours is None or self.usd_per_hour is None else self.max_hours * self.usd_per_hour
        limits = [limit for limit in (self.budget_usd, hours) if limit is not None]
        return min(limits, default=None)


_asked: ContextVar[Callable[[Offer], bool] | None] = ContextVar("offer", default=None)


@contextlib.contextmanager
def answered_by(ask: Callable[[Offer], bool]) -> Iterator[None]:
    """Within it, offers are put to `ask`."""
    before = _asked.set(ask)
    try:
        yield
    finally:
        _asked.reset(before)


def agree(offer: Offer) -> None:
    """Go on only where somebody said yes.

    Raises:
        Usage: nobody was there to say so, or they said no.
    """
    ask = _asked.get()
    if ask is None or not ask(offer):
        raise Usage(
            _("nothing was rented: nobody agreed to the price"),
            mend=_("run it again and answer yes, or say so beforehand with --yes"),
        )
