"""What the outside world answered is kept, whatever interrupts."""

from __future__ import annotations

from pathlib import Path

import pytest

from nlp_skills.data.sources.recording import Recording, request_key
from nlp_skills.errors import Unavailable


def test_answers_survive_and_the_last_one_counts(tmp_path: Path) -> None:
    path = tmp_path / "raw" / "recorded" / "api.jsonl"
    recording = Recording(path)
    recording.put("a", {"text": "一"})
    recording.put("b", {"text": "2"})
    recording.put("a", {"text": "new"})
    again = Recording(path)
    assert [again.get(key) for key in ("a", "b", "c")] == [{"text": "new"}, {"text": "2"}, None]
    assert len(again) == 2
    assert "a" in again


def test_a_line_that_a_kill_cut_off_is_dropped_and_written_over(tmp_path: Path) -> None:
    path = tmp_path / "api.jsonl"
    Recording(path).put("a", {"n": 1})
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"key": "b", "answer": {"n"')
    recording = Recording(path)
    assert recording.get("b") is None
    recording.put("c", {"n": 3})
    assert path.read_bytes().startswith(whole)
    assert [Recording(path).get(key) for key in "abc"] == [{"n": 1}, None, {"n": 3}]


def test_a_preview_adds_nothing_and_clearing_forgets(tmp_path: Path) -> None:
    path = tmp_path / "api.jsonl"
    Recording(path, read_only=True).put("a", {})
    assert not path.exists()
    recording = Recording(path)
    recording.put("a", {"n": 1})
    recording.clear()
    assert recording.get("a") is None
    assert not path.exists()


def test_a_place_that_cannot_be_written_is_a_problem_in_words(tmp_path: Path) -> None:
    (tmp_path / "raw").write_text("a file where the folder should be")
    with pytest.raises(Unavailable):
        Recording(tmp_path / "raw" / "api.jsonl").put("a", {})


def test_the_key_depends_on_the_request_and_not_on_the_order_of_its_parts() -> None:
    assert request_key({"a": 1, "b": "股"}) == request_key({"b": "股", "a": 1})
    assert request_key({"a": 1}) != request_key({"a": 2})
