"""Versions get their data back, byte for byte, from a store that nothing damages unnoticed."""

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Ran, reviews, write_rows

from nlp_skills import files
from nlp_skills.data import snapshot
from nlp_skills.data.regenerate import interrupted, regenerate
from nlp_skills.errors import Invalid
from nlp_skills.workspace import store
from nlp_skills.workspace.folder import TaskFolder

SPLITS = ("train", "valid", "test")


@pytest.fixture
def folder(make_task: Callable[..., Path]) -> TaskFolder:
    return TaskFolder.at(make_task())


def test_a_blob_is_read_only_and_kept_once(folder: TaskFolder) -> None:
    path = folder.root / "reviews.jsonl"
    digest = store.keep(folder, path)
    kept = store.blob(folder, digest)
    assert digest == files.sha256_file(path) == f"sha256:{kept.name}"
    assert kept.read_bytes() == path.read_bytes()
    assert not kept.samefile(path), "an edit of the file must not reach the store"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o444
    born = kept.stat().st_ino
    assert store.keep(folder, path) == digest
    assert kept.stat().st_ino == born
    path.chmod(0o600)
    path.write_text("private\n")
    assert stat.S_IMODE(store.blob(folder, store.keep(folder, path)).stat().st_mode) == 0o400


def test_a_restored_file_is_a_link_and_replacing_it_leaves_the_blob(folder: TaskFolder) -> None:
    path = folder.root / "reviews.jsonl"
    content = path.read_bytes()
    digest = store.keep(folder, path)
    path.write_text("other\n")
    store.restore(folder, digest, path)
    assert path.read_bytes() == content
    assert path.samefile(store.blob(folder, digest))
    store.restore(folder, digest, path)
    assert [entry.name for entry in folder.root.glob(".*.tmp")] == []
    files.write_text(path, "new\n")
    assert store.check(folder, digest).read_bytes() == content
    assert os.access(path, os.W_OK)
    assert path.stat().st_mode & stat.S_IWUSR


def test_where_links_are_not_to_be_had_it_copies(folder: TaskFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    path = folder.root / "reviews.jsonl"
    content, digest = path.read_bytes(), store.keep(folder, path)
    path.unlink()

    def refuse(*_args: Any, **_kwargs: Any) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    store.restore(folder, digest, path)
    assert path.read_bytes() == content
    assert not path.samefile(store.blob(folder, digest))


def test_a_damaged_blob_is_named_never_restored_and_healed_by_keeping_again(folder: TaskFolder) -> None:
    path = folder.root / "reviews.jsonl"
    digest = store.keep(folder, path)
    kept = store.blob(folder, digest)
    kept.chmod(0o644)
    kept.write_bytes(kept.read_bytes()[:-2] + b"x\n")
    target = folder.root / "back.jsonl"
    with pytest.raises(Invalid, match="damaged") as caught:
        store.restore(folder, digest, target)
    assert caught.value.file == str(kept)
    assert not target.exists()
    assert store.keep(folder, path) == digest
    store.restore(folder, digest, target)
    assert target.read_bytes() == path.read_bytes()


@pytest.fixture
def two_versions(folder: TaskFolder) -> tuple[TaskFolder, dict[str, bytes]]:
    """v1 was made with the data of then; v2 is current, with other data and another data_source.yaml."""
    for version in ("v1", "v2"):
        (folder.root / "versions" / version).mkdir(parents=True)
        (folder.root / "versions" / version / "config.yaml").write_text("base_model: none/none\nmethod: sft\n")
    regenerate(folder)
    snapshot.write(folder, "v1")
    first = data(folder)
    path = folder.root / "task.yaml"
    path.write_text(path.read_text().replace("version: v1", "version: v2"))
    write_rows(folder.root / "reviews.jsonl", reviews(240))
    config = folder.sources_path
    config.write_text(config.read_text().replace("seed: 7", "seed: 8"))
    regenerate(folder)
    snapshot.write(folder, "v2")
    return folder, first


def data(folder: TaskFolder) -> dict[str, bytes]:
    return {str(p.relative_to(folder.root)): p.read_bytes() for p in (folder.root / "data").rglob("*") if p.is_file()}


def test_a_snapshot_pins_everything_the_splits_were_made_of(folder: TaskFolder) -> None:
    regenerate(folder)
    taken = snapshot.write(folder, "v1")
    assert set(taken.files) == set(data(folder))
    assert {path: files.sha256_bytes(content) for path, content in data(folder).items()} == taken.files
    assert taken.sources["reviews"].rows == 120
    assert taken.config is not None
    assert store.check(folder, taken.config).read_bytes() == folder.sources_path.read_bytes()
    written = folder.version("v1").snapshot_path.read_bytes()
    regenerate(folder, everything=True)
    snapshot.write(folder, "v1")
    assert folder.version("v1").snapshot_path.read_bytes() == written


def test_a_password_in_the_settings_is_not_kept_a_second_time(folder: TaskFolder) -> None:
    regenerate(folder)
    path = folder.sources_path
    url = "postgresql://me:hunter2secret@127.0.0.1:9/d"
    path.write_text(
        path.read_text().replace("split:", f"  - {{type: database, connection: '{url}', query: q}}\nsplit:")
    )
    assert snapshot.write(folder, "v1").config is None
    for kept in (folder.state).rglob("*"):
        assert not kept.is_file() or b"hunter2secret" not in kept.read_bytes()


def test_a_version_gets_its_data_back(two_versions: tuple[TaskFolder, dict[str, bytes]], cli: Any) -> None:
    folder, first = two_versions
    second, config = data(folder), folder.sources_path.read_bytes()
    assert all(second[f"data/{name}.jsonl"] != first[f"data/{name}.jsonl"] for name in ("train", "valid"))
    shown: Ran = cli("data", "restore", folder.root, "v1", "--dry-run", "--json")
    assert shown.code == 0
    assert data(folder) == second
    assert "data/train.jsonl" in shown.json["restored"]
    ran: Ran = cli("data", "restore", folder.root, "v1")
    assert ran.code == 0
    assert data(folder) == first
    assert "replaced: data/train.jsonl" in ran.out
    assert folder.sources_path.read_bytes() == config
    assert "split.seed" in ran.err
    assert not interrupted(folder)
    again: Ran = cli("data", "restore", folder.root, "v1", "--json")
    assert again.json["restored"] == []
    assert cli("data", "restore", folder.root, "v2", "--json").code == 0
    assert data(folder) == second


def test_after_a_restore_data_may_be_made_anew(two_versions: tuple[TaskFolder, dict[str, bytes]], cli: Any) -> None:
    folder, first = two_versions
    second = data(folder)
    cli("data", "restore", folder.root, "v1")
    assert cli("regenerate", folder.root).code == 0
    for name in SPLITS:
        assert data(folder)[f"data/{name}.jsonl"] == second[f"data/{name}.jsonl"]
        assert folder.split(name).stat().st_mode & stat.S_IWUSR
    assert cli("data", "restore", folder.root, "v1").code == 0
    assert data(folder) == first


def test_what_is_not_in_the_store_is_named_before_anything_is_touched(
    two_versions: tuple[TaskFolder, dict[str, bytes]], cli: Any
) -> None:
    folder, _first = two_versions
    second = data(folder)
    taken = folder.version("v1").snapshot()
    assert taken is not None
    kept = store.blob(folder, taken.files["data/valid.jsonl"])
    kept.unlink()
    ran: Ran = cli("data", "restore", folder.root, "v1")
    assert ran.code == 1
    assert "data/valid.jsonl of version v1" in ran.err
    assert kept.name in ran.err
    assert "nlp-skills regenerate" in ran.err
    assert data(folder) == second
    assert not interrupted(folder)


def test_a_snapshot_of_the_first_release_loads_and_cannot_be_restored(folder: TaskFolder, cli: Any) -> None:
    regenerate(folder)
    snapshot.write(folder, "v1")
    (folder.version("v1").root / "config.yaml").write_text("base_model: none/none\nmethod: sft\n")
    path = folder.version("v1").snapshot_path
    whole = json.loads(path.read_text())
    path.write_text(json.dumps({key: whole[key] for key in ("created", "source_hash", "splits", "test_keys")}))
    ran: Ran = cli("data", "restore", folder.root, "v1")
    assert ran.code == 1
    assert "never kept" in ran.err
    assert "nlp-skills regenerate" in ran.err
    path.unlink()
    assert "no data snapshot" in cli("data", "restore", folder.root, "v1").err
    assert cli("data", "restore", folder.root, "v9").code == 1
    assert cli("data", "restore", folder.root).code == 2


def test_a_path_that_leaves_the_task_is_refused(two_versions: tuple[TaskFolder, dict[str, bytes]], cli: Any) -> None:
    folder, _first = two_versions
    path = folder.version("v1").snapshot_path
    path.write_text(path.read_text().replace('"data/valid.jsonl"', '"../valid.jsonl"'))
    assert cli("data", "restore", folder.root, "v1").code == 2
    assert not (folder.root.parent / "valid.jsonl").exists()


def test_killed_while_restoring_the_mixture_is_known_and_the_next_run_ends_it(
    two_versions: tuple[TaskFolder, dict[str, bytes]], cli: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, first = two_versions
    real, done = store.restore, []

    def dies(*arguments: Any) -> None:
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(arguments)
        real(*arguments)

    monkeypatch.setattr(store, "restore", dies)
    ran: Ran = cli("data", "restore", folder.root, "v1")
    assert ran.code == 130
    assert "nlp-skills data restore v1" in ran.err
    assert interrupted(folder)
    monkeypatch.undo()
    assert cli("status", folder.root).code == 1
    assert cli("data", "restore", folder.root, "v1").code == 0
    assert data(folder) == first
    assert not interrupted(folder)
