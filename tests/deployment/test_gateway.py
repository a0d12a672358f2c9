"""The gateway as its clients meet it: rows, conversations, versions, and what is refused."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest
from conftest import reviews
from fixtures_serving import Gateway

ROWS = [{"text": row["text"]} for row in reviews(12, start=400)]
RIGHT = [row["label"] for row in reviews(12, start=400)]


def post(served: Gateway, path: str, body: Any = None, **given: Any) -> httpx2.Response:
    return httpx2.post(served.address + path, json=body, timeout=60, **given)


def test_a_row_is_answered_with_its_label_its_probabilities_and_the_version(served: Gateway) -> None:
    found = post(served, "/api/v1/predict", ROWS[0])
    assert found.status_code == 200, found.text
    told = found.json()
    assert told["version"] == "v2" == found.headers["x-nlp-skills-version"]
    assert told["answer"] == {"label": RIGHT[0]}
    assert set(told["probabilities"]) == {"positive", "neutral", "negative"}
    assert told["probability"] == pytest.approx(max(told["probabilities"].values()))
    assert told["latency_ms"] > 0
