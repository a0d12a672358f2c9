"""From sources to splits: the same bytes for the same rows, whatever happens in between."""

from __future__ import annotations

import json
import os
import random
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import DATA_SOURCE_YAML, LABELS, Ran, reviews, write_rows
from fixtures_llm import Said

from nlp_skills.data import regenerate as room
from nlp_skills.data import review, snapshot, sources
from nlp_skills.data.regenerate import Regenerated, regenerate
from nlp_skills.errors import Invalid, Usage
from nlp_skills.schema.source import LlmGenerated
from nlp_skills.workspace.folder import TaskFolder

SPLITS = ("train", "valid", "test")


def split_rows(root: Path, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (root / "data" / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]


def texts(root: Path, name: str) -> set[str]:
    return {row["text"] for row in split_rows(root, name)}


def written(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted((root / "data").rglob("*.jsonl"))}


def set_version(root: Path, name: str) -> None:
    path = root / "task.yaml"
    path.write_text(path.read_text().replace("version: v1", f"version: {name}"))


@pytest.fixture
def task(make_task: Callable[..., Path]) -> Path:
    return make_task()


def test_every_row_lands_once_with_its_source(task: Path) -> None:
    done = regenerate(TaskFolder.at(task))
    rows = [row for name in SPLITS for row in split_rows(task, name)]
    assert sorted(row["text"] for row in rows) == sorted(row["text"] for row in reviews(120))
    assert {row["_source"] for row in rows} == {"reviews"}
    assert {name: part["rows"] for name, part in done.splits.items()} == {"train": 72, "valid": 12, "test": 36}
    assert all(set(part["distribution"]) == set(LABELS) for part in done.splits.values())


def test_again_and_in_another_order_it_gives_the_same_bytes(task: Path) -> None:
    folder = TaskFolder.at(task)
    regenerate(folder)
    before = written(task)
    assert not regenerate(folder).changed
    assert written(task) == before
    shuffled = reviews(120)
    random.Random(3).shuffle(shuffled)
    write_rows(task / "reviews.jsonl", shuffled)
    assert not regenerate(folder).changed
    assert {name: body for name, body in written(task).items() if "raw" not in name} == {
        name: body for name, body in before.items() if "raw" not in name
    }


def test_the_record_of_a_source_changes_only_with_its_rows(task: Path) -> None:
    folder = TaskFolder.at(task)
    regenerate(folder)
    record = task / "data" / "raw" / "reviews.source.json"
    before = record.read_bytes()
    regenerate(folder)
    assert record.read_bytes() == before
    write_rows(task / "reviews.jsonl", reviews(90))
    regenerate(folder)
    assert json.loads(record.read_text())["rows"] == 90


def test_comments_stay_and_the_life_cycle_moves(task: Path) -> None:
    path = task / "data_source.yaml"
    path.write_text("# mine\n" + path.read_text())
    regenerate(TaskFolder.at(task))
    assert path.read_text().startswith("# mine\n")
    folder = TaskFolder.at(task)
    assert folder.sources().regeneration.last_run is not None
    assert folder.task().status == "configuring"
    assert json.loads((task / ".nlp-skills" / "digest.json").read_text())["status"] == "configuring"


def test_repeated_rows_are_dropped_and_counted(task: Path) -> None:
    rows = reviews(120)
    twin = {**rows[0], "text": f"  {rows[0]['text'].upper()} "}
    write_rows(task / "reviews.jsonl", [*rows, rows[0], twin])
    done = regenerate(TaskFolder.at(task))
    assert done.duplicates_dropped == 2
    assert sum(part["rows"] for part in done.splits.values()) == 120


def test_near_identical_texts_stay_on_one_side(task: Path) -> None:
    base = "The quick review of this particular product number {} says that everything went very well, thank you{}"
    rows = [{"text": base.format("seven " * (n + 3), end), "label": "positive"} for n in range(20) for end in ".!"]
    write_rows(task / "reviews.jsonl", [*reviews(120), *rows])
    path = task / "data_source.yaml"
    path.write_text(path.read_text() + "dedup: {near_duplicates: keep}\n")
    done = regenerate(TaskFolder.at(task))
    assert done.near_kept >= 20
    assert done.near_dropped == 0
    for name in SPLITS:
        here = texts(task, name)
        for row in rows[::2]:
            assert (row["text"] in here) == (row["text"][:-1] + "!" in here)


def test_what_a_version_was_tested_on_never_reaches_a_later_train(task: Path) -> None:
    folder = TaskFolder.at(task)
    regenerate(folder)
    tested = texts(task, "test")
    snapshot.write(folder, "v1")
    set_version(task, "v2")
    write_rows(task / "reviews.jsonl", reviews(360))
    path = task / "data_source.yaml"
    path.write_text(path.read_text().replace("seed: 7", "seed: 8"))
    done = regenerate(folder)
    assert texts(task, "test") == tested
    assert done.pinned == len(tested)
    path.write_text(path.read_text().replace("seed: 8", "seed: 8\n  test_rows: growing"))
    regenerate(folder)
    assert texts(task, "test") > tested


def test_test_rows_that_vanish_are_counted(task: Path) -> None:
    folder = TaskFolder.at(task)
    regenerate(folder)
    snapshot.write(folder, "v1")
    set_version(task, "v2")
    gone = sorted(texts(task, "test"))[0]
    write_rows(task / "reviews.jsonl", [row for row in reviews(120) if row["text"] != gone])
    done = regenerate(folder)
    assert done.pinned_gone == 1
    assert any("1" in warning for warning in done.warnings)


def add_source(task: Path, name: str, path: str) -> None:
    config = task / "data_source.yaml"
    entry = f"  - {{type: file_import, name: {name}, path: {path}}}\nsplit:"
    config.write_text(config.read_text().replace("split:", entry, 1))


def fetched(done: Regenerated) -> list[str]:
    return [source.name for source in done.sources if not source.reused]


@pytest.fixture
def two(task: Path) -> Path:
    """A task with two sources, regenerated."""
    write_rows(task / "more.jsonl", reviews(30, start=500))
    add_source(task, "more", "more.jsonl")
    regenerate(TaskFolder.at(task))
    return task


def test_only_what_is_stale_is_done_again(two: Path) -> None:
    folder = TaskFolder.at(two)
    before = {path: path.stat().st_mtime_ns for path in (two / "data").rglob("*") if path.is_file()}
    config = (two / "data_source.yaml").read_bytes()
    done = regenerate(folder)
    assert (fetched(done), done.rebuilt, done.changed) == ([], False, False)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert (two / "data_source.yaml").read_bytes() == config
    assert done.splits["train"]["rows"] == len(split_rows(two, "train"))
    write_rows(two / "more.jsonl", reviews(60, start=500))
    done = regenerate(folder)
    assert (fetched(done), done.rebuilt, done.changed) == (["more"], True, True)
    assert "more.jsonl" in done.sources[1].reasons[0]


def test_a_setting_of_the_split_makes_the_splits_anew_and_fetches_nothing(two: Path) -> None:
    path = two / "data_source.yaml"
    path.write_text(path.read_text().replace("seed: 7", "seed: 8"))
    done = regenerate(TaskFolder.at(two))
    assert (fetched(done), done.rebuilt, done.changed) == ([], True, True)


def test_a_mapping_is_no_reason_to_fetch(two: Path) -> None:
    path = two / "data_source.yaml"
    path.write_text(path.read_text().replace("path: reviews.jsonl", "path: reviews.jsonl\n    mapping: {text: text}"))
    done = regenerate(TaskFolder.at(two))
    assert (fetched(done), done.rebuilt, done.changed) == ([], True, False)


def test_all_takes_every_step_and_comes_to_the_same(two: Path) -> None:
    before = {path: path.read_bytes() for path in (two / "data").rglob("*") if path.is_file()}
    done = regenerate(TaskFolder.at(two), everything=True)
    assert (fetched(done), done.rebuilt, done.changed) == (["reviews", "more"], True, False)
    assert {path: path.read_bytes() for path in (two / "data").rglob("*") if path.is_file()} == before


def test_refresh_reaches_the_named_sources_only(two: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[str, bool]] = []
    real = sources.fetch

    def listen(source: Any, fetching: sources.Fetching) -> Any:
        told.append((source.name, fetching.refresh))
        return real(source, fetching)

    monkeypatch.setattr(sources, "fetch", listen)
    folder = TaskFolder.at(two)
    regenerate(folder, everything=True)
    regenerate(folder, refresh=True)
    (two / "data" / "raw" / "reviews.jsonl").unlink()
    regenerate(folder, ["more"], refresh=True)
    assert told == [
        ("reviews", False),
        ("more", False),
        ("reviews", True),
        ("more", True),
        ("reviews", False),
        ("more", True),
    ]


def test_one_source_may_be_fetched_while_the_others_stay(two: Path) -> None:
    folder = TaskFolder.at(two)
    (two / "reviews.jsonl").unlink()
    write_rows(two / "more.jsonl", reviews(60, start=500))
    done = regenerate(folder, ["more"])
    assert [(source.name, source.rows, source.reused) for source in done.sources] == [
        ("reviews", 120, True),
        ("more", 60, False),
    ]
    assert any("reviews" in warning and "stale" in warning for warning in done.warnings)
    with pytest.raises(Usage, match="other"):
        regenerate(folder, ["other"])


def test_an_edited_source_is_fetched_although_not_named(two: Path) -> None:
    path = two / "data_source.yaml"
    write_rows(two / "other.jsonl", reviews(90))
    path.write_text(path.read_text().replace("path: reviews.jsonl", "path: other.jsonl"))
    assert [source.reused for source in regenerate(TaskFolder.at(two), ["more"]).sources] == [False, False]


def test_a_source_that_fails_is_named_and_nothing_is_lost(two: Path, cli: Any) -> None:
    before = written(two)
    add_source(two, "logs", "logs.jsonl")
    (two / "logs.jsonl").write_text('{"text": "whole", "label": "neutral"}\n{"text": \n')
    ran: Ran = cli("regenerate", two)
    assert ran.code == 1
    assert "source logs" in ran.err
    assert "logs.jsonl:2" in ran.err
    assert written(two) == before
    (two / "logs.jsonl").write_text("")
    assert "logs" in cli("regenerate", two).err
    assert written(two) == before


def test_a_source_renamed_keeps_its_rows(two: Path, cli: Any) -> None:
    raw = two / "data" / "raw"
    path = two / "data_source.yaml"
    before = (raw / "reviews.jsonl").read_bytes()
    path.write_text(path.read_text().replace("name: reviews", "name: opinions"))
    ran: Ran = cli("regenerate", two, "--json")
    assert [(entry["name"], entry["reused"]) for entry in ran.json["sources"]] == [("opinions", True), ("more", True)]
    assert any("reviews" in warning and "opinions" in warning for warning in ran.json["warnings"])
    assert (raw / "opinions.jsonl").read_bytes() == before
    assert not list(raw.glob("reviews*"))
    assert {row["_source"] for row in split_rows(two, "train")} == {"opinions", "more"}


def test_a_source_renamed_and_changed_or_removed_leaves_files_that_are_told_of(two: Path, cli: Any) -> None:
    path = two / "data_source.yaml"
    config = path.read_text()
    (two / "reviews.jsonl").rename(two / "opinions.jsonl")
    path.write_text(config.replace("name: reviews", "name: opinions").replace("path: reviews", "path: opinions"))
    ran: Ran = cli("regenerate", two)
    assert ran.code == 0
    assert "data/raw/reviews.jsonl data/raw/reviews.source.json" in ran.err
    entry = "  - type: file_import\n    name: opinions\n    path: opinions.jsonl\n"
    path.write_text(path.read_text().replace(entry, ""))
    ran = cli("regenerate", two)
    assert "data/raw/opinions.jsonl" in ran.err
    assert {row["_source"] for row in split_rows(two, "train")} == {"more"}


def test_a_column_that_is_gone_is_named_with_file_line_and_source(two: Path, cli: Any) -> None:
    before = {name: (two / "data" / f"{name}.jsonl").read_bytes() for name in SPLITS}
    rows: list[dict[str, Any]] = [*reviews(30, start=500)]
    rows[4] = {"body": rows[4]["text"], "label": "neutral"}
    write_rows(two / "more.jsonl", rows)
    ran: Ran = cli("regenerate", two)
    assert ran.code == 1
    for word in ("data/raw/more.jsonl:5", "source more", "column text", "nlp-skills regenerate --source more"):
        assert word in ran.err
    assert {name: (two / "data" / f"{name}.jsonl").read_bytes() for name in SPLITS} == before


def test_a_task_that_the_first_release_made_comes_to_the_same_and_gets_a_lock(task: Path) -> None:
    folder = TaskFolder.at(task)
    database(task / "reviews.db", reviews(120))
    query = "    connection: sqlite:///reviews.db\n    query: SELECT text, label FROM reviews ORDER BY id\n"
    text = DATA_SOURCE_YAML.replace("file_import", "database").replace("    path: {path}\n", query)
    (task / "data_source.yaml").write_text(text)
    regenerate(folder)
    record = task / "data" / "raw" / "reviews.source.json"
    known = json.loads(record.read_text())
    first = {key: known[key] for key in ("name", "type", "settings", "settings_hash", "rows", "sha256", "fetched")}
    record.write_text(json.dumps(first))
    (task / "data" / "data.lock.yaml").unlink()
    done = regenerate(folder)
    assert (done.rebuilt, done.changed) == (True, False)
    assert (task / "data" / "data.lock.yaml").is_file()


_REVIEWED = """
  - type: llm_generated
    name: made
    model: fake-small
    base_url: {url}/v1
    prompt_template: Write {{count}} reviews.
    count: 6
    batch_size: 3
    validation: {{require_review: true}}
split:"""


def answer(body: dict[str, Any]) -> Said:
    """Rows that have nothing in common, others for every other question of the fake model."""
    chance = random.Random(json.dumps([body["messages"], body.get("seed")]))
    texts = ["".join(chance.choices("abcdefghijklmnopqrstuvwxyz ", k=40)).strip() for _row in range(3)]
    return Said(json.dumps({"rows": [{"text": text, "label": "neutral"} for text in texts]}))


def test_rows_that_wait_for_review_hold_up_nothing_but_themselves(task: Path, fake_chat: Any, cli: Any) -> None:
    fake = fake_chat(answer)
    path = task / "data_source.yaml"
    path.write_text(path.read_text().replace("\nsplit:", _REVIEWED.format(url=fake.url)))
    done: Ran = cli("regenerate", task, "--json")
    assert [(entry["rows"], entry["waiting"]) for entry in done.json["sources"]] == [(120, 0), (0, 6)]
    assert any("nlp-skills review" in warning for warning in done.json["warnings"])
    status: Ran = cli("status", task, "--json")
    assert (status.code, status.json["waiting"], status.json["next"]) == (0, {"made": 6}, "nlp-skills review")
    asked, folder = fake.questions, TaskFolder.at(task)
    source = folder.sources().sources[1]
    assert isinstance(source, LlmGenerated)
    for entry in review.state(folder, source).entries:
        review.decide(folder, source, entry.key, review.Decision("accept"))
    status = cli("status", task, "--json")
    assert (status.code, status.json["waiting"], status.json["next"]) == (1, {}, "nlp-skills regenerate")
    done = cli("regenerate", task, "--json")
    assert [(entry["rows"], entry["reused"]) for entry in done.json["sources"]] == [(120, True), (6, False)]
    assert sum(row["_source"] == "made" for name in SPLITS for row in split_rows(task, name)) == 6
    assert fake.questions == asked, "what was answered is replayed"
    cli("regenerate", task, "--source", "made", "--refresh")
    assert fake.questions == 2 * asked


def test_when_every_row_waits_there_is_nothing_to_split(task: Path, fake_chat: Any, cli: Any) -> None:
    path = task / "data_source.yaml"
    text = "sources:" + _REVIEWED.format(url=fake_chat(answer).url)
    path.write_text(text + path.read_text().partition("split:")[2])
    ran: Ran = cli("regenerate", task)
    assert ran.code == 1
    assert "rows that wait for review: 6" in ran.err
    assert "nlp-skills review" in ran.err
    assert not (task / "data" / "train.jsonl").exists()


_HOLD = """
import sys, time
from pathlib import Path
from nlp_skills.workspace.folder import TaskFolder
from nlp_skills.workspace.lock import writing
with writing(TaskFolder.at(Path(sys.argv[1]))):
    print("held", flush=True)
    time.sleep(float(sys.argv[2]))
"""


@pytest.fixture
def held(task: Path) -> Iterator[Callable[[float], subprocess.Popen[str]]]:
    """Another process holds the task for so many seconds."""
    started = []

    def start(seconds: float) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", _HOLD, str(task), str(seconds)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()


def test_the_second_of_two_regenerations_says_that_it_waits_and_goes_on(task: Path, held: Any, cli: Any) -> None:
    held(0.7)
    ran: Ran = cli("regenerate", task)
    assert ran.code == 0
    assert "another command is changing this task; waiting up to 60 s" in ran.err
    assert not (task / ".nlp-skills" / "lock.json").exists()


def test_it_names_who_holds_the_task_when_it_waited_in_vain(
    task: Path, held: Any, cli: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "WAIT_SECONDS", 0.2)
    holder = held(30)
    ran: Ran = cli("regenerate", task)
    assert ran.code == 1
    assert f"process {holder.pid}" in ran.err
    assert "-c" in ran.err
    assert not (task / "data").exists()


def test_columns_are_mapped_and_others_come_along(task: Path) -> None:
    rows = [{"body": row["text"], "stars": row["label"], "id": n, "_source": "x"} for n, row in enumerate(reviews(60))]
    write_rows(task / "reviews.jsonl", rows)
    path = task / "data_source.yaml"
    path.write_text(path.read_text().replace("split:", "    mapping: {text: body, label: stars}\nsplit:"))
    regenerate(TaskFolder.at(task))
    row = split_rows(task, "test")[0]
    assert list(row) == ["text", "label", "id", "_source"]
    assert row["_source"] == "reviews"


def test_a_column_called_label_stands_for_the_only_answer(task: Path) -> None:
    path = task / "task.yaml"
    path.write_text(path.read_text().replace("    label:\n", "    sentiment:\n"))
    regenerate(TaskFolder.at(task))
    assert set(split_rows(task, "test")[0]) == {"text", "sentiment", "_source"}


def test_a_class_of_one_row_is_refused_and_earlier_splits_stay(task: Path) -> None:
    folder = TaskFolder.at(task)
    regenerate(folder)
    before = {name: (task / "data" / f"{name}.jsonl").read_bytes() for name in SPLITS}
    write_rows(task / "reviews.jsonl", [row for row in reviews(90) if row["label"] != "neutral"] + reviews(120)[1:2])
    with pytest.raises(Invalid, match="neutral"):
        regenerate(folder)
    assert {name: (task / "data" / f"{name}.jsonl").read_bytes() for name in SPLITS} == before


def test_wrong_rows_are_all_named_and_nothing_is_written(task: Path) -> None:
    rows: list[dict[str, Any]] = [*reviews(120)]
    rows[3] = {"text": 12, "label": "positive"}
    rows[7] = {"text": "fine", "label": "splendid"}
    write_rows(task / "reviews.jsonl", rows)
    with pytest.raises(Invalid) as caught:
        regenerate(TaskFolder.at(task))
    problems = [caught.value, *caught.value.also]
    assert [problem.line for problem in problems] == [4, 8]
    assert caught.value.file is not None and caught.value.file.endswith("data/raw/reviews.jsonl")
    assert not (task / "data" / "train.jsonl").exists()


def in_a_child_killed_at(root: Path, deaths: int) -> int:
    """Regenerate in a process that dies at its `deaths`-th replacement or removal of a file.

    Returns 137 when it died, else how many there were.
    """
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    done = 0

    def deadly(real: Callable[..., None]) -> Callable[..., None]:
        def call(*args: Any, **kwargs: Any) -> None:
            nonlocal done
            done += 1
            if done == deaths:
                os._exit(137)
            real(*args, **kwargs)

        return call

    os.replace, os.unlink = deadly(os.replace), deadly(os.unlink)
    try:
        regenerate(TaskFolder.at(root))
    finally:
        os._exit(done if done < 137 else 1)


def test_killed_before_any_write_the_next_run_goes_on(make_task: Callable[..., Path], cli: Any) -> None:
    """Killed at every single replacement or removal of a file, then run again: as if never interrupted."""
    whole = make_task("whole", rows=60)
    count = in_a_child_killed_at(whole, 0)
    assert 8 <= count < 50
    expected = written(whole)
    # An earlier, other regeneration is there already: the dangerous mixture is of old splits and new.
    earlier = make_task("earlier", rows=60)
    write_rows(earlier / "reviews.jsonl", reviews(60, start=600))
    regenerate(TaskFolder.at(earlier))
    write_rows(earlier / "reviews.jsonl", reviews(60))
    for deaths in range(1, count + 1):
        root = Path(shutil.copytree(earlier, earlier.parent / f"task{deaths}"))
        died = in_a_child_killed_at(root, deaths) == 137
        assert died or deaths > count - 2  # this task left its first state before: one move less
        mixed = {name: (root / "data" / f"{name}.jsonl").read_bytes() for name in SPLITS}
        for body in mixed.values():
            assert all(json.loads(line) for line in body.splitlines())
        new = [mixed[name] == expected[f"data/{name}.jsonl"] for name in SPLITS]
        if any(new) and not all(new):
            checked: Ran = cli("validate", root, "--json")
            assert "interrupted" in {finding["code"] for finding in checked.json["findings"]}
        regenerate(TaskFolder.at(root))
        assert written(root) == expected
        assert not list((root / "data").rglob("*.tmp"))
        assert cli("validate", root).code == 0


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB."""
    small = tmp_path / "small"
    small.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=256k", "none", small]
    if os.geteuid() or subprocess.run(command, check=False).returncode:
        pytest.skip("needs to mount a small tmpfs")
    yield small
    subprocess.run(["umount", small], check=True)


@pytest.mark.parametrize("rows", [3000, 6000], ids=["while splitting", "while fetching"])
def test_a_full_disk_leaves_everything_as_it_was(
    make_task: Callable[..., Path], tmp_path: Path, small_disk: Path, cli: Any, rows: int
) -> None:
    moved = small_disk / "sentiment"
    subprocess.run(["cp", "-r", make_task("sentiment", rows=60), moved], check=True)
    regenerate(TaskFolder.at(moved))
    before = {name: (moved / "data" / f"{name}.jsonl").read_bytes() for name in SPLITS}
    source = write_rows(tmp_path / "large.jsonl", reviews(rows))
    (moved / "data_source.yaml").write_text(DATA_SOURCE_YAML.format(path=source))
    ran: Ran = cli("regenerate", moved)
    assert ran.code == 3
    assert "no space left" in ran.err
    assert "Traceback" not in ran.err
    assert {name: (moved / "data" / f"{name}.jsonl").read_bytes() for name in SPLITS} == before
    assert not list(moved.rglob("*.tmp"))
    assert not (moved / ".nlp-skills" / "work").exists()
    assert cli("status", moved).code == 1
    subprocess.run(["mount", "-o", "remount,size=8m", small_disk], check=True)
    done: Ran = cli("regenerate", moved, "--json")
    assert done.code == 0
    assert sum(len(split_rows(moved, name)) for name in SPLITS) + done.json["near_dropped"] == rows
    assert cli("status", moved).code == 0


def database(path: Path, rows: list[dict[str, str]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with sqlite3.connect(path) as connection:
        connection.execute("create table reviews(id integer primary key, text text, label text, rating real)")
        connection.executemany("insert into reviews(text, label, rating) values(:text, :label, 1.5)", rows)
    connection.close()
    return path


def test_a_database_gives_the_rows_a_file_gives(task: Path) -> None:
    folder = TaskFolder.at(task)
    regenerate(folder)
    expected = {name: texts(task, name) for name in SPLITS}
    database(task / "data" / "raw" / "reviews.db", reviews(120))
    text = DATA_SOURCE_YAML.replace("file_import", "database").replace(
        "    path: {path}\n",
        "    connection: sqlite:///data/raw/reviews.db\n    query: SELECT text, label, rating FROM reviews\n",
    )
    (task / "data_source.yaml").write_text(text)
    regenerate(folder)
    assert {name: texts(task, name) for name in SPLITS} == expected
    assert split_rows(task, "test")[0]["rating"] == 1.5
