"""data.lock.yaml says what the splits were made of, and what no longer fits is named with its reason."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import reviews, write_rows

from nlp_skills import files
from nlp_skills.data import lock_file, snapshot, staleness
from nlp_skills.data.regenerate import regenerate
from nlp_skills.data.sources import file_import
from nlp_skills.workspace.folder import TaskFolder

SPLITS = ("train", "valid", "test")


@pytest.fixture
def task(make_task: Callable[..., Path]) -> Path:
    root = make_task()
    regenerate(TaskFolder.at(root))
    return root


def edit(root: Path, old: str, new: str, document: str = "data_source.yaml") -> None:
    path = root / document
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))


def codes(root: Path) -> tuple[list[str], dict[str, list[str]]]:
    """The reasons of the only source, and those of each output."""
    status = staleness.stale(TaskFolder.at(root))
    outputs = {output.name: [reason.code for reason in output.reasons] for output in status.outputs}
    return [reason.code for reason in status.sources[0].reasons], outputs


def words(root: Path) -> str:
    status = staleness.stale(TaskFolder.at(root))
    return "; ".join(reason.words for part in (*status.sources, *status.outputs) for reason in part.reasons)


def test_it_pins_sources_pipeline_and_outputs_by_hash(task: Path) -> None:
    lock = lock_file.load(TaskFolder.at(task))
    assert lock is not None
    source = lock.sources["reviews"]
    assert source.inputs == {"reviews.jsonl": files.sha256_file(task / "reviews.jsonl")}
    assert source.sha256 == files.sha256_file(task / "data" / "raw" / "reviews.jsonl")
    assert (source.rows, source.code_version) == (120, file_import.VERSION)
    for name in SPLITS:
        path = task / "data" / f"{name}.jsonl"
        assert lock.outputs[name].sha256 == files.sha256_file(path)
        assert lock.outputs[name].rows == len(path.read_bytes().splitlines())
    assert lock.pipeline.config_hash == lock_file.hashed(lock.pipeline.settings)


def test_it_is_written_again_only_when_it_says_something_else(task: Path) -> None:
    path = task / "data" / "data.lock.yaml"
    before = path.read_bytes()
    regenerate(TaskFolder.at(task), everything=True)
    assert path.read_bytes() == before
    edit(task, "seed: 7", "seed: 8")
    regenerate(TaskFolder.at(task))
    assert path.read_bytes() != before


def test_after_a_regeneration_nothing_is_stale(task: Path) -> None:
    status = staleness.stale(TaskFolder.at(task))
    assert not status.stale
    assert (status.sources[0].rows, status.sources[0].usable) == (120, True)


def test_a_task_that_was_never_regenerated(make_task: Callable[..., Path]) -> None:
    root = make_task()
    source, outputs = codes(root)
    assert source == ["never_fetched"]
    assert all(reasons == ["output_missing", "source"] for reasons in outputs.values())
    assert set(outputs) == set(SPLITS)


def test_changed_settings_are_named_by_key(task: Path) -> None:
    edit(task, "path: reviews.jsonl", "path: reviews.jsonl\n    encoding: utf-8")
    assert codes(task)[0] == ["settings"]
    assert "settings changed: encoding" in words(task)
    edit(task, "\n    encoding: utf-8", "")
    assert codes(task)[0] == []
    edit(task, "seed: 7", "seed: 8\ndedup: {near: 0.8}")
    source, outputs = codes(task)
    assert source == []
    assert all(reasons == ["settings"] for reasons in outputs.values())
    assert "split.seed" in words(task)
    assert "dedup.near" in words(task)


def test_a_label_more_in_the_task_concerns_the_splits(task: Path) -> None:
    edit(task, "enum: [positive,", "enum: [mixed, positive,", "task.yaml")
    assert codes(task)[1]["train"] == ["settings"]
    assert "task.output.label.enum" in words(task)


def test_a_comment_or_the_order_of_keys_is_no_change(task: Path) -> None:
    path = task / "data_source.yaml"
    path.write_text("# mine\n" + path.read_text().replace("name: reviews", "name: reviews  # the reviews"))
    edit(task, "learning_rate: 1e-3", "learning_rate: 2e-3", "task.yaml")
    assert not staleness.stale(TaskFolder.at(task)).stale


def test_a_file_that_changed_is_named(task: Path) -> None:
    write_rows(task / "reviews.jsonl", reviews(121))
    source, outputs = codes(task)
    assert source == ["input"]
    assert outputs["test"] == ["source"]
    assert "reviews.jsonl" in words(task)
    (task / "reviews.jsonl").unlink()
    assert codes(task)[0] == ["input"]


def test_newer_code_makes_what_it_made_stale(task: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from nlp_skills.data import rebuild

    monkeypatch.setattr(file_import, "VERSION", file_import.VERSION + 1)
    assert codes(task)[0] == ["code"]
    monkeypatch.undo()
    monkeypatch.setattr(rebuild, "VERSION", rebuild.VERSION + 1)
    assert codes(task)[1]["valid"] == ["code"]


def test_raw_files_and_splits_that_are_gone_or_edited(task: Path) -> None:
    raw = task / "data" / "raw" / "reviews.jsonl"
    raw.write_bytes(raw.read_bytes() + b'{"text": "mine", "label": "neutral"}\n')
    assert codes(task)[0] == ["raw_edited"]
    raw.unlink()
    assert codes(task)[0] == ["raw_missing"]
    regenerate(TaskFolder.at(task))
    valid = task / "data" / "valid.jsonl"
    valid.write_bytes(valid.read_bytes()[:-10] + b"x" * 10)
    assert codes(task)[1]["valid"] == ["output_edited"]
    assert codes(task)[1]["train"] == []
    (task / "data" / "test.jsonl").unlink()
    assert codes(task)[1]["test"] == ["output_missing"]


def test_rows_another_version_was_tested_on(task: Path) -> None:
    folder = TaskFolder.at(task)
    snapshot.write(folder, "v1")
    assert codes(task)[1]["train"] == []
    before = [(task / "data" / f"{name}.jsonl").read_bytes() for name in SPLITS]
    edit(task, "version: v1", "version: v2", "task.yaml")
    assert not staleness.stale(folder).stale, "the rows are the same, and stay where they are"
    assert not regenerate(folder, everything=True).changed
    assert [(task / "data" / f"{name}.jsonl").read_bytes() for name in SPLITS] == before
    edit(task, "version: v2", "version: v1", "task.yaml")
    edit(task, "seed: 7", "seed: 8", "data_source.yaml")
    regenerate(folder)
    edit(task, "version: v1", "version: v2", "task.yaml")
    assert codes(task)[1]["train"] == ["pinned"], "v1 was tested on other rows than these"


def test_data_made_before_there_was_a_lock(task: Path) -> None:
    (task / "data" / "data.lock.yaml").unlink()
    assert codes(task)[1]["train"] == ["never_locked"]
    record = task / "data" / "raw" / "reviews.source.json"
    first = {
        key: value for key, value in json.loads(record.read_text()).items() if key not in ("inputs", "code_version")
    }
    record.write_text(json.dumps(first))
    assert "never_locked" in codes(task)[0]


@pytest.mark.parametrize("text", ["", "sources: 3\n", "schema_version: 99\n", "<<<<<<< ours\n"])
def test_a_lock_that_cannot_be_read_is_said_to_be_and_made_anew(task: Path, text: str) -> None:
    path = task / "data" / "data.lock.yaml"
    whole = path.read_bytes()
    path.write_text(text)
    assert codes(task)[1]["train"] == ["lock_damaged"]
    assert not regenerate(TaskFolder.at(task)).changed
    assert lock_file.load(TaskFolder.at(task)) is not None
    assert path.read_bytes().splitlines()[3:] == whole.splitlines()[3:]


def test_it_is_quick_nothing_that_stayed_is_hashed_again(task: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import os
    import time

    folder = TaskFolder.at(task)
    past = time.time() - 60
    for path in [task / "reviews.jsonl", *(task / "data").rglob("*.jsonl")]:
        os.utime(path, (past, past))
    staleness.stale(folder)
    hashed: list[Path] = []
    real = files.sha256_file
    monkeypatch.setattr(files, "sha256_file", lambda path: hashed.append(path) or real(path))
    assert not staleness.stale(folder).stale
    assert hashed == []
    train = task / "data" / "train.jsonl"
    twin = train.read_bytes().replace(b"positive", b"positivE", 1)
    train.write_bytes(twin)
    os.utime(train, (past, past))
    assert codes(task)[1]["train"] == ["output_edited"], "same size, same time of change"
    assert hashed == [train]


def test_a_copy_of_the_folder_is_as_current_as_the_folder(task: Path) -> None:
    assert not staleness.stale(TaskFolder.at(Path(shutil.copytree(task, task.parent / "copy")))).stale


def test_the_network_is_never_asked(task: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    edit(
        task,
        "split:",
        "  - {type: api, name: remote, endpoint: 'http://127.0.0.1:9/rows'}\n"
        "  - {type: database, name: server, connection: 'postgresql://u:${NOWHERE}@127.0.0.1:9/d', query: SELECT 1}\n"
        "split:",
    )

    def refuse(*_args: Any) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    status = staleness.stale(TaskFolder.at(task))
    assert [state.reasons[0].code for state in status.sources[1:]] == ["never_fetched"] * 2
