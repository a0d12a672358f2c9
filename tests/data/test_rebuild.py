"""From raw files to splits: what is dropped and why, what stays together, and the same bytes for the same rows."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from conftest import reviews, write_rows
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nlp_skills import progress
from nlp_skills.data import near, rebuild
from nlp_skills.data.rebuild import Built
from nlp_skills.errors import Invalid
from nlp_skills.workspace.folder import TaskFolder

Row = dict[str, Any]
SPLITS = ("train", "valid", "test")
LONG = "the quick review of this particular product number {} says that everything went very well with it, thank you"


class Building:
    """A task whose raw files are given, and what is built of them."""

    def __init__(self, root: Path) -> None:
        self.root, self.runs = root, 0
        self.notes: list[str] = []

    def set(self, **split: Any) -> None:
        """Change the `split` of data_source.yaml."""
        path = self.root / "data_source.yaml"
        path.write_text(path.read_text() + "".join(f"  {key}: {value}\n" for key, value in split.items()))

    def __call__(self, *sources: list[Row], pinned: Collection[str] = (), **dedup: Any) -> Built:
        folder = TaskFolder.at(self.root)
        task, config = folder.task(), folder.sources()
        config.dedup = config.dedup.model_copy(update=dedup)
        first = config.sources[0]
        raw = []
        for number, rows in enumerate(sources):
            # Names whose order is not the sources' own.
            source = first.model_copy(update={"name": f"source{9 - number}"})
            raw.append((source, write_rows(folder.raw / f"{source.name}.jsonl", rows)))
        self.runs += 1
        work = self.root / "work" / str(self.runs)
        work.mkdir(parents=True)
        with progress.bar("build", 3) as bar:
            built = rebuild.build(folder, task, config, raw, pinned, work, bar)
            assert bar.done == 3
        assert sorted(path.name for path in work.iterdir()) == sorted(f"{name}.jsonl" for name in (*SPLITS, "dropped"))
        assert {name: len(lines(built, name)) for name in SPLITS} == {n: p["rows"] for n, p in built.splits.items()}
        return built


@pytest.fixture
def build(make_task: Callable[..., Path]) -> Building:
    return Building(make_task())


def lines(built: Built, name: str) -> list[Row]:
    return [json.loads(line) for line in built.files[name].read_text(encoding="utf-8").splitlines()]


def texts(built: Built, *names: str) -> set[str]:
    return {row["text"] for name in names or SPLITS for row in lines(built, name)}


def key(text: str) -> str:
    return near.row_key({"text": text}, ["text"])


def row(text: str, label: str = "positive") -> Row:
    return {"text": text, "label": label}


def said(number: int) -> str:
    """A long text; those of different numbers are not near-identical."""
    return LONG.format("".join(random.Random(number).choices("abcdefghijklmnopqrstuvwxyz", k=25)))


def splits_of(built: Built) -> dict[str, bytes]:
    return {name: built.files[name].read_bytes() for name in SPLITS}


def test_every_row_lands_once(build: Building) -> None:
    built = build(reviews(120))
    assert sorted(texts(built)) == sorted(one["text"] for one in reviews(120))
    assert (built.rows, built.duplicates, built.near_dropped, built.near_kept) == (120, 0, 0, 0)
    assert built.splits["test"] == {"rows": 36, "distribution": {"positive": 12, "neutral": 12, "negative": 12}}
    assert built.warnings == []
    assert lines(built, "dropped") == []


def test_an_equal_row_of_an_earlier_source_is_kept_and_the_others_are_told(build: Building) -> None:
    first, second = reviews(60), reviews(62)
    second[3] = {**second[3], "text": second[3]["text"].upper()}
    second[4] = {**second[4], "label": "neutral" if second[4]["label"] != "neutral" else "positive"}
    built = build(first, second)
    assert (built.rows, built.duplicates, built.near_kept) == (122, 59, 1)
    assert {one["text"] for one in first} <= texts(built)
    dropped = lines(built, "dropped")
    assert len(dropped) == 59
    upper = next(one for one in dropped if one["dropped"]["text"].isupper())
    same = key(first[3]["text"])
    assert upper == {
        "reason": "duplicate",
        "similarity": 1.0,
        "kept": {"source": "source9", "line": 4, "key": same},
        "dropped": {"source": "source8", "line": 4, "key": same, "text": second[3]["text"]},
    }


def test_a_near_identical_row_of_the_same_answer_is_dropped(build: Building) -> None:
    one, other = LONG.format("one"), LONG.format("one") + "!"
    built = build(reviews(120), [row(other)], [row(one)])
    assert (built.near_dropped, built.near_kept, built.duplicates) == (1, 0, 0)
    assert other in texts(built)
    assert one not in texts(built)
    (told,) = lines(built, "dropped")
    assert told["reason"] == "near_duplicate"
    assert told["similarity"] == round(near.similarity(near.grams(one), near.grams(other)), 4)
    assert told["kept"] == {"source": "source8", "line": 1, "key": key(other)}
    assert told["dropped"] == {"source": "source7", "line": 1, "key": key(one), "text": one}


def test_within_a_source_the_smaller_key_is_kept(build: Building) -> None:
    pair = [LONG.format("two"), LONG.format("two") + "."]
    built = build([*reviews(120), *map(row, pair)])
    assert texts(built) & set(pair) == {min(pair, key=key)}


def test_other_answers_and_keep_leave_all_on_one_side(build: Building) -> None:
    pairs = [(said(n), said(n) + "!") for n in range(15)]
    differing = [row(text, label) for pair in pairs for text, label in zip(pair, ("positive", "negative"), strict=True)]
    agreeing = [row(text) for pair in pairs for text in pair]
    for rows, dedup in ((differing, "drop"), (agreeing, "keep")):
        built = build([*reviews(120), *rows], near_duplicates=dedup)
        assert built.near_dropped == 0
        assert built.near_kept >= len(pairs)
        sides = [texts(built, name) for name in SPLITS]
        assert all(sum(one in side and other in side for side in sides) == 1 for one, other in pairs)


def test_a_pinned_row_outranks_the_source_and_stays_in_test(build: Building) -> None:
    one, other, third = LONG.format("nine"), LONG.format("nine") + "!", LONG.format("nine") + "?"
    built = build([*reviews(120), row(one)], [row(other)], [row(third)], pinned={key(third), key("gone")})
    assert texts(built) & {one, other, third} == {third}
    assert third in texts(built, "test")
    assert (built.pinned, built.pinned_gone, built.near_dropped) == (1, 1, 2)
    assert {told["kept"]["key"] for told in lines(built, "dropped")} == {key(third)}
    assert any("1" in warning for warning in built.warnings)
    # What a version was tested on stays whole, even where it repeats itself.
    both = build([*reviews(120), row(one)], [row(other)], [row(third)], pinned={key(other), key(third)})
    assert texts(both) & {one, other, third} == {other, third}
    assert texts(both, "test") >= {other, third}


def test_a_neighbours_neighbour_is_not_dropped(build: Building) -> None:
    """A chain a ~ b ~ c … in which the ends are not alike: everyone left out is near to the one that is kept."""
    rng = random.Random(8)
    text = "".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=120))
    chain = [text]
    for at in range(20, 100, 4):
        text = text[:at] + "0123456789"[at % 10] + text[at + 1 :]
        chain.append(text)
    built = build([*reviews(120), *map(row, chain)])
    left = texts(built) & set(chain)
    assert len(left) > 3
    assert built.near_dropped == len(chain) - len(left)
    by_key = {key(text): text for text in chain}
    for told in lines(built, "dropped"):
        kept, gone = by_key[told["kept"]["key"]], told["dropped"]["text"]
        assert kept in left
        assert near.similarity(near.grams(kept), near.grams(gone)) >= 0.9
    assert sum(bool(texts(built, name) & left) for name in SPLITS) == 1


@settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.randoms(use_true_random=False))
def test_the_order_of_a_sources_rows_changes_no_byte(build: Building, rng: random.Random) -> None:
    near_ones = [
        row(LONG.format("y" * n) + end, label) for n in range(9) for end in ".!" for label in ("positive", "neutral")
    ]
    one = [*reviews(90), *near_ones, *[{**found, "extra": n} for n, found in enumerate(reviews(30))]]
    other = reviews(90, start=60)
    pinned = {key(found["text"]) for found in one[:100:9]}
    expected = build(one, other, pinned=pinned)
    again = build(rng.sample(one, len(one)), rng.sample(other, len(other)), pinned=pinned)
    assert splits_of(again) == splits_of(expected)
    assert (again.duplicates, again.near_dropped, again.near_kept) == (
        expected.duplicates,
        expected.near_dropped,
        expected.near_kept,
    )


def test_the_same_files_give_the_same_bytes_whatever_the_hash_seed(build: Building) -> None:
    built = build([*reviews(90), *[row(LONG.format("z" * n) + end) for n in range(9) for end in ".!"]])
    script = (
        "import sys; from pathlib import Path; from nlp_skills import progress; from nlp_skills.data import rebuild\n"
        "from nlp_skills.workspace.folder import TaskFolder\n"
        "f = TaskFolder.at(Path(sys.argv[1])); c = f.sources()\n"
        "s = c.sources[0].model_copy(update={'name': 'source9'})\n"
        "w = Path(sys.argv[2]); w.mkdir()\n"
        "with progress.bar('x', 3) as bar:\n"
        "    rebuild.build(f, f.task(), c, [(s, f.raw / 'source9.jsonl')], [], w, bar)\n"
    )
    for seed in ("1", "2"):
        work = build.root / f"hash{seed}"
        command = [sys.executable, "-c", script, str(build.root), str(work)]
        subprocess.run(command, check=True, env={"PYTHONHASHSEED": seed}, timeout=60, capture_output=True)
        for name in (*SPLITS, "dropped"):
            assert (work / f"{name}.jsonl").read_bytes() == built.files[name].read_bytes()


def test_another_seed_is_another_split(build: Building) -> None:
    before = build(reviews(120))
    path = build.root / "data_source.yaml"
    path.write_text(path.read_text().replace("seed: 7", "seed: 8"))
    after = build(reviews(120))
    assert texts(after) == texts(before)
    assert texts(after, "test") != texts(before, "test")


def test_new_rows_bring_no_tested_row_into_train(build: Building) -> None:
    before = build(reviews(300))
    tested = {key(text) for text in texts(before, "test")}
    build.set(test_rows="growing")
    after = build(reviews(500), pinned=tested)
    assert tested <= {key(text) for text in texts(after, "test")}
    assert after.pinned == len(tested)
    assert after.splits["test"]["rows"] == 150


def grouped(count: int) -> list[Row]:
    """Rows by 40 authors; every tenth has none."""
    rng = random.Random(2)
    return [
        {**found, "author": {"id": rng.randrange(40)}} if n % 10 else found for n, found in enumerate(reviews(count))
    ]


def test_rows_of_one_group_stay_on_one_side(build: Building) -> None:
    build.set(group="author")
    built = build(grouped(300))
    sides: dict[str, set[str]] = {}
    for name in SPLITS:
        for found in lines(built, name):
            if "author" in found:
                sides.setdefault(json.dumps(found["author"]), set()).add(name)
    assert len(sides) == 40
    assert all(len(names) == 1 for names in sides.values())
    assert {name: part["rows"] for name, part in built.splits.items()} == {"train": 180, "valid": 30, "test": 90}
    assert built.warnings == []


def test_groups_and_near_identical_texts_hold_together(build: Building) -> None:
    """Row 1 and row 2 share an author, row 2 and row 3 say nearly the same: all three are on one side."""
    build.set(group="author")
    rows: list[Row] = [*reviews(120)]
    for n in range(8):
        text = said(n)
        rows += [
            {**row(f"quite another text number {n * 77773}"), "author": n},
            {**row(text), "author": n},
            {**row(text + "!", "negative"), "author": f"other {n}"},
        ]
    built = build(rows)
    sides = {found["text"]: name for name in SPLITS for found in lines(built, name)}
    for n in range(8):
        assert len({sides[found["text"]] for found in rows[120 + 3 * n : 123 + 3 * n]}) == 1


def test_a_group_too_large_is_told(build: Building) -> None:
    build.set(group="author")
    rows = [{**found, "author": "Chen" if n < 40 else f"a{n}"} for n, found in enumerate(reviews(120))]
    built = build(rows)
    (warning,) = built.warnings
    assert "author = 'Chen' has 40 rows" in warning
    assert "valid" in warning


@pytest.mark.parametrize("setting", ["group", "stratify"])
def test_a_column_that_no_row_has_is_named_with_its_line(build: Building, setting: str) -> None:
    build.set(**{setting: "writer"})
    with pytest.raises(Invalid, match="writer") as caught:
        build(grouped(60))
    config = build.root / "data_source.yaml"
    assert caught.value.file == str(config)
    assert config.read_text().splitlines()[int(caught.value.line or 0) - 1].strip() == f"{setting}: writer"
    assert "text, label" in str(caught.value.cause)


def test_shares_hold_for_the_column_to_stratify_by(build: Building) -> None:
    build.set(stratify="city")
    rows = [{**found, "city": ("Taipei", "Tainan")[n % 10 == 0]} for n, found in enumerate(reviews(300))]
    rows += [{**found, "city": f"village {n}"} for n, found in enumerate(reviews(30, start=300))]
    built = build(rows)
    got = Counter((found["city"][:7], name) for name in SPLITS for found in lines(built, name))
    assert [got["Taipei", name] for name in SPLITS] == [162, 27, 81]
    assert [got["Tainan", name] for name in SPLITS] == [18, 3, 9]
    assert [got["village", name] for name in SPLITS] == [18, 3, 9]


def test_a_class_missing_from_a_split_is_told(build: Building) -> None:
    build.set(stratify="city")
    rows = [{**row(f"rare number {n * 7907}", "negative"), "city": "x"} for n in range(2)]
    rows += [{**found, "city": "x"} for found in reviews(120) if found["label"] != "negative"]
    built = build(rows)
    assert any("negative" in warning for warning in built.warnings)


@contextmanager
def several_labels(root: Path) -> Iterator[None]:
    path = root / "task.yaml"
    text = path.read_text()
    plain = "      type: string\n      enum: [positive, neutral, negative]\n"
    many = "      type: array\n      items: {enum: [positive, neutral, negative]}\n"
    path.write_text(text.replace(plain, many).replace("type: text", "type: json"))
    yield
    path.write_text(text)


def test_rows_of_several_labels_keep_each_labels_share(build: Building) -> None:
    rng = random.Random(4)
    shares = {"positive": 0.6, "neutral": 0.3, "negative": 0.04}
    rows = [
        {"text": found["text"], "label": [label for label, share in shares.items() if rng.random() < share]}
        for found in reviews(600)
    ]
    with several_labels(build.root):
        built = build(rows)
    totals = Counter(label for found in rows for label in found["label"])
    for name, share in (("train", 0.6), ("valid", 0.1), ("test", 0.3)):
        for label, count in built.splits[name]["distribution"].items():
            assert abs(count - share * totals[label]) <= 2
    assert sum(part["rows"] for part in built.splits.values()) == 600


def test_without_rensa_nothing_is_dropped_as_near_and_it_is_said(
    build: Building, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(near, "available", lambda: False)
    one = LONG.format("one")
    built = build([*reviews(120), row(one), row(one + "!"), row(one, "neutral")])
    assert (built.near_dropped, built.near_kept) == (0, 1)
    assert any("rensa" in warning for warning in built.warnings)
    sides = [name for name in SPLITS for found in lines(built, name) if found["text"] == one]
    assert len(sides) == 2
    assert len(set(sides)) == 1


def test_small_classes_are_repeated_in_train_only(build: Building) -> None:
    path = build.root / "data_source.yaml"
    path.write_text(path.read_text() + "augmentation:\n  - {method: oversample}\n")
    rows = [found for n, found in enumerate(reviews(300)) if found["label"] != "negative" or n % 9 == 2]
    built = build(rows)
    assert built.augmented > 0
    assert len(set(built.splits["train"]["distribution"].values())) == 1
    marked = [found for found in lines(built, "train") if "_augmented" in found]
    assert len(marked) == built.augmented
    assert {found["label"] for found in marked} == {"negative"}
    assert not any("_augmented" in found for name in ("valid", "test") for found in lines(built, name))
    assert [found for found in lines(built, "train")[-built.augmented :] if "_augmented" not in found]
    assert splits_of(build(random.Random(1).sample(rows, len(rows)))) == splits_of(built)


def test_long_passes_say_how_far_they_are(build: Building, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rebuild, "_SECONDS", 0.0)
    noted: list[str] = []
    monkeypatch.setattr(progress.Bar, "advance", lambda _bar, _steps=1, note=None: noted.append(str(note)))
    with pytest.raises(AssertionError):
        build([*reviews(120), *reviews(9)])
    said = "\n".join(noted)
    assert "rows 128" in said
    assert "compared 120 of 120" in said
    assert "dropping duplicates" in said
    assert "writing the splits" in said


def test_an_interruption_leaves_nothing_but_the_work_folder(build: Building, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {path for path in build.root.rglob("*") if path.is_file()}

    def stop(*_given: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(rebuild.split, "divide", stop)
    with pytest.raises(KeyboardInterrupt):
        build(reviews(120))
    after = {path for path in build.root.rglob("*") if path.is_file()} - before
    assert {str(path.relative_to(build.root)) for path in after} == {"data/raw/source9.jsonl", "work/1/dropped.jsonl"}


def test_memory_does_not_grow_with_the_rows_length(build: Building) -> None:
    """Five times the bytes in as many rows: the peak of the process stays where it was, and far below the bytes."""
    peaks, sizes = [], []
    for length in (400, 2000):
        rng = random.Random(length)
        rows = [row("".join(rng.choices("abcdefghijklmnopqrstuvwxyz ", k=length)) + str(n)) for n in range(8000)]
        for n, found in enumerate(rows):
            found["label"] = ("positive", "neutral", "negative")[n % 3]
        raw = write_rows(build.root / "data" / "raw" / "source9.jsonl", rows)
        sizes.append(raw.stat().st_size)
        script = (
            "import sys; from pathlib import Path; from nlp_skills import progress\n"
            "from nlp_skills.data import rebuild; from nlp_skills.workspace.folder import TaskFolder\n"
            "f = TaskFolder.at(Path(sys.argv[1])); c = f.sources(); w = Path(sys.argv[2]); w.mkdir()\n"
            "with progress.bar('x', 3) as bar:\n"
            "    rebuild.build(f, f.task(), c, [(c.sources[0], f.raw / 'source9.jsonl')], [], w, bar)\n"
            "peak = next(line for line in open('/proc/self/status') if line.startswith('VmHWM'))\n"
            "print(int(peak.split()[1]) * 1024)\n"
        )
        command = [sys.executable, "-c", script, str(build.root), str(build.root / f"work{length}")]
        done = subprocess.run(command, check=True, timeout=120, capture_output=True, text=True)
        peaks.append(int(done.stdout))
    assert sizes[1] > 4 * sizes[0]
    assert peaks[1] - peaks[0] < (sizes[1] - sizes[0]) / 2
