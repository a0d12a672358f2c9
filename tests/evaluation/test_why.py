from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import answered
import pytest
from conftest import LABELS, Ran, reviews

from nlp_skills.errors import Invalid
from nlp_skills.evaluation.why import analysis
from nlp_skills.workspace.folder import TaskFolder

LABEL = {"label": {"type": "string", "enum": list(LABELS)}}


def wrong_label(label: str) -> str:
    return LABELS[(LABELS.index(label) + 1) % 3]


def sliced(root: Path, seed: int, *, planted: bool) -> TaskFolder:
    """240 rows of three annotators; those of `ines` are answered wrongly far more often where that is planted."""
    draw = random.Random(seed)
    rows: list[dict[str, Any]] = reviews(240)
    for row in rows:
        row |= {"annotator": draw.choice(["ines", "noor", "wei"]), "price": draw.random(), "_source": draw.choice("ab")}
    share = [0.55 if planted and row["annotator"] == "ines" else 0.2 for row in rows]
    given = [
        wrong_label(row["label"]) if draw.random() < p else row["label"] for row, p in zip(rows, share, strict=True)
    ]
    return answered.task(root, "classification", LABEL, rows, given)


@pytest.mark.parametrize("seed", range(10))
def test_a_slice_that_is_worse_is_found_and_one_that_is_not_is_left_alone(tmp_path: Path, seed: int) -> None:
    found = analysis.of(sliced(tmp_path / "planted", seed, planted=True))
    assert [(one.column, one.name) for one in found.worse] == [("annotator", "ines")]
    (worst,) = found.worse
    assert found.slices[0] == worst and worst.p_holm < 0.05 and worst.score < worst.rest
    assert worst.interval is not None and worst.interval[0] < worst.value < worst.interval[1]
    assert {one.column for one in found.slices} == {"annotator", "price", "_source", "class", "length"}
    null = analysis.of(sliced(tmp_path / "null", seed, planted=False))
    assert null.worse == [] and {one.column for one in null.slices} == {one.column for one in found.slices}


def test_slices_too_small_and_columns_of_names_are_told_and_not_tested(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = reviews(60)
    for number, row in enumerate(rows):
        row |= {"id": f"row {number}", "channel": "mail" if number < 4 else "shop", "tags": ["a"] if number % 2 else []}
    folder = answered.task(tmp_path / "t", "classification", LABEL, rows, ["neutral"] * 60)
    found = analysis.of(folder)
    few = [(one.column, one.name, one.rows) for one in found.small if one.column != "length"]
    assert few == [("channel", "mail", 4)]
    assert found.not_sliced == {"id": "it has 60 different values"}
    assert {one.column for one in found.slices} == {"channel", "class", "length"}
    by_class = {one.name: one for one in found.slices if one.column == "class"}
    assert by_class["positive"].worse and by_class["positive"].metric == "accuracy" and not by_class["neutral"].worse


def test_costs_reorder_the_confusions(tmp_path: Path) -> None:
    rows = reviews(60)
    given = [row["label"] for row in rows]
    given[0], given[3], given[6] = "neutral", "neutral", "neutral"  # positive, three times
    given[2] = "positive"  # negative, once
    plain = analysis.of(answered.task(tmp_path / "plain", "classification", LABEL, rows, given)).confusions
    assert [(one.gold, one.predicted, one.count, one.cost) for one in plain] == [
        ("positive", "neutral", 3, 3.0),
        ("negative", "positive", 1, 1.0),
    ]
    assert plain[0].rows == [1, 4, 7] and plain[0].share == 0.75
    costs = {"evaluation": {"costs": {"negative": {"positive": 10}, "positive": {"neutral": 0.5}}}}
    found = analysis.of(answered.task(tmp_path / "dear", "classification", LABEL, rows, given, **costs))
    assert [(one.gold, one.cost) for one in found.confusions] == [("negative", 10.0), ("positive", 1.5)]
    assert found.errors[0].line == 3 and found.errors[0].cost == 10.0


def probabilities(given: str, share: float, second: str) -> dict[str, float]:
    rest = 1 - share
    (other,) = {*LABELS} - {given, second}
    return {given: share, second: rest * 0.8, other: rest * 0.2}


def test_planted_wrong_labels_rank_first_and_the_versions_own_errors_are_not_doubted(tmp_path: Path) -> None:
    rows, draw = reviews(120, start=400), random.Random(1)
    said = [row["label"] for row in rows]  # the words of a row say its class
    planted, mistaken = {5, 30, 61, 90}, {11, 44, 77}
    for number in planted:
        rows[number] = {**rows[number], "label": wrong_label(rows[number]["label"])}
    for number in mistaken:
        said[number] = wrong_label(said[number])
    shares = [probabilities(label, 0.85 + 0.14 * draw.random(), wrong_label(label)) for label in said]
    folder = answered.task(
        tmp_path / "t", "classification", LABEL, rows, said, train=reviews(180), probabilities=shares
    )
    found = analysis.of(folder)
    assert {doubt.line for doubt in found.doubts} == {number + 1 for number in planted}
    first = found.doubts[0]
    assert first.suggested == said[first.line - 1] and first.gold == rows[first.line - 1]["label"]
    marked = {error.line for error in found.errors if "doubtful_label" in error.marks}
    assert marked == {number + 1 for number in planted} and len(found.errors) == 7


def test_sure_errors_come_first_and_near_misses_by_how_near(tmp_path: Path) -> None:
    rows = reviews(30)
    said = [row["label"] for row in rows]
    shares = [probabilities(label, 0.8, wrong_label(label)) for label in said]
    for number, share in {3: 0.97, 6: 0.55, 9: 0.51, 12: 0.7}.items():
        right = said[number]
        said[number] = wrong_label(right)
        shares[number] = probabilities(said[number], share, right)
    found = analysis.of(answered.task(tmp_path / "t", "classification", LABEL, rows, said, probabilities=shares))
    assert [error.line for error in found.errors] == [4, 13, 7, 10]
    assert found.errors[0].marks == ["confident"] and found.errors[0].probability == 0.97
    assert [error.line for error in found.near_misses] == [10, 7]


@pytest.mark.parametrize(("rename", "language"), [(str, "en"), (lambda text: text.replace(" ", ""), "zh-TW")])
def test_the_likest_training_row_is_shown_and_one_that_contradicts_is_marked(
    tmp_path: Path, rename: Callable[[str], str], language: str
) -> None:
    train = [{"text": rename(row["text"]), "label": row["label"]} for row in reviews(60, start=600)]
    train[7] = {"text": rename("The grey kettle arrived with a dent in its lid"), "label": "positive"}
    test = [
        {"text": rename(row["text"]), "label": row["label"]}
        for row in [*reviews(20), {"text": "The grey kettle arrived with a dent in its lid.", "label": "negative"}]
    ]
    said = [*(row["label"] for row in test[:-1]), "positive"]
    found = analysis.of(
        answered.task(tmp_path / "t", "classification", LABEL, test, said, train=train, language=language)
    )
    (error,) = found.errors
    near = error.neighbours[0]
    assert (near.line, near.text, near.answer) == (8, train[7]["text"], "positive") and near.similarity > 0.8
    assert "contradicted" in error.marks


def test_several_labels_are_missed_or_given_for_nothing(tmp_path: Path) -> None:
    schema = {"topics": {"type": "array", "items": {"type": "string", "enum": ["food", "price", "staff"]}}}
    rows = [{"text": f"{number} words", "topics": ["food", "price"]} for number in range(12)]
    given: list[Any] = [["food", "price"]] * 12
    given[0], given[1], given[2] = ["food"], ["food", "price", "staff"], None
    costs = {"evaluation": {"costs": {"none": {"staff": 5}}}}
    found = analysis.of(answered.task(tmp_path / "t", "classification", schema, rows, given, **costs))
    assert [(one.fault, one.gold, one.predicted, one.cost) for one in found.confusions] == [
        ("spurious", None, "staff", 5.0),
        ("unread", None, None, 1.0),
        ("missed", "price", None, 1.0),
    ]
    assert found.unread == 1 and found.wrong == 3


def test_entities_are_missed_spurious_misplaced_or_of_another_type(tmp_path: Path) -> None:
    entity = {"text": {"type": "string"}, "type": {"type": "string"}}
    schema = {"entities": {"type": "array", "items": {"type": "object", "properties": entity}}}

    def answer(*pairs: tuple[str, str]) -> dict[str, Any]:
        return {"entities": [{"text": text, "type": name} for text, name in pairs]}

    text = "Mei Lin of New York met Bob in Oslo on Monday"
    right = answer(("Mei Lin", "person"), ("New York", "place"), ("Bob", "person"), ("Oslo", "place"))
    given = answer(("Mei", "person"), ("New York", "person"), ("Oslo", "place"), ("Monday", "place"))
    rows = [{"text": f"{text} {number}", **right} for number in range(6)]
    found = analysis.of(answered.task(tmp_path / "t", "extraction", schema, rows, [given] + [right] * 5))
    assert {(one.fault, one.gold, one.predicted) for one in found.confusions} == {
        ("boundary", "person", "person"),
        ("type", "place", "person"),
        ("missed", "person", None),
        ("spurious", None, "place"),
    }
    (error,) = found.errors
    assert error.cost == 4.0 and error.score == pytest.approx(0.25) and found.metric == "entity_f1"


def test_relations_are_missed_or_given_for_nothing(tmp_path: Path) -> None:
    ends = {name: {"type": "string"} for name in ("head", "tail", "relation")}
    schema = {"facts": {"type": "array", "items": {"type": "object", "properties": ends}}}
    fact = {"head": "Mei", "tail": "Oslo", "relation": "lives in"}
    rows = [{"text": f"Mei lives in Oslo {number}", "facts": [fact]} for number in range(6)]
    given: list[Any] = [
        {"facts": []},
        {"facts": [{**fact, "relation": "left"}]},
        *({"facts": [fact]} for _row in "1234"),
    ]
    found = analysis.of(answered.task(tmp_path / "t", "extraction", schema, rows, given))
    assert [(one.fault, one.gold, one.predicted, one.count) for one in found.confusions] == [
        ("missed", "lives in", None, 2),
        ("spurious", None, "left", 1),
    ]


SAME = [{"text": "the very same", "label": "positive"}] * 24
BLANK = [{"text": " ", "label": "positive"}, {"text": "", "label": "negative"}] * 12


@pytest.mark.parametrize(
    ("rows", "given", "train"),
    [
        (reviews(1), ["negative"], reviews(3)),
        (reviews(24), [row["label"] for row in reviews(24)], reviews(3)),
        (reviews(24), [None] * 24, reviews(30)),
        (reviews(24), ["no label of the task"] * 24, []),
        (SAME, ["positive", "negative"] * 12, SAME),
        (BLANK, ["neutral"] * 24, BLANK),
    ],
    ids=["one row", "all right", "none read", "foreign label", "same text", "blank text"],
)
def test_rows_with_little_to_say_are_analysed_all_the_same(
    project: Path, cli: Callable[..., Ran], rows: list[Any], given: list[Any], train: list[Any]
) -> None:
    folder = answered.task(project / "t", "classification", LABEL, rows, given, train=train)
    shown, told = cli("errors", folder.root), cli("errors", folder.root, "--json").json
    assert shown.code == 0 and "Traceback" not in shown.err
    assert told["wrong"] == sum(one != row["label"] for one, row in zip(given, rows, strict=True))


def test_fields_are_told_one_by_one_and_chosen_values_by_what_they_were_taken_for(tmp_path: Path) -> None:
    schema = {"size": {"type": "string", "enum": ["big", "small"]}, "note": {"type": "string"}}
    rows = [{"text": f"{number} boxes", "size": "big", "note": f"n{number}"} for number in range(6)]
    given: list[Any] = [{"size": row["size"], "note": row["note"]} for row in rows]
    given[1], given[2], given[3] = {**given[1], "note": "x"}, {**given[2], "note": "y"}, {**given[3], "size": "small"}
    found = analysis.of(answered.task(tmp_path / "t", "extraction", schema, rows, given))
    assert [(one.field, one.gold, one.predicted, one.count) for one in found.confusions] == [
        ("note", None, None, 2),
        ("size", "big", "small", 1),
    ]


def test_texts_that_are_least_like_the_right_one_come_first_and_a_worse_source_is_found(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"text": f"question {number + 10}", "answer": f"the shop opens at {number + 10} o'clock", "branch": "south"}
        for number in range(40)
    ]
    given = [row["answer"].replace("opens", "closes") for row in rows]
    for number in range(0, 40, 3):
        rows[number]["branch"], given[number] = "north", f"we sell {number + 10} lamps"
    given[9] = "zzz"
    found = analysis.of(answered.task(tmp_path / "t", "generation", {"answer": {"type": "string"}}, rows, given))
    assert found.errors[0].line == 10 and found.errors[0].score < 0.05
    assert [one.score for one in found.errors] == sorted(one.score for one in found.errors)
    assert [(one.column, one.name) for one in found.worse] == [("branch", "north")]
    assert found.confusions[0].rows[0] == 10


def test_the_command_shows_it_writes_the_rows_and_gives_json(
    project: Path, cli: Callable[..., Ran], tmp_path: Path
) -> None:
    folder = sliced(project / "sentiment", 0, planted=True)
    shown = cli("errors", folder.root)
    assert shown.code == 0 and "annotator: ines" in shown.out and "taken for another" in shown.out
    one_column = cli("errors", folder.root, "--slice", "annotator")
    assert "noor" in one_column.out and "taken for another" not in one_column.out
    told = cli("errors", folder.root, "--json", "--limit", 2, "--out", project / "look.jsonl").json
    assert told["ok"] and len(told["errors"]) == 2 and told["slices"][0]["name"] == "ines"
    rows = [json.loads(line) for line in (project / "look.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len(rows) == told["wrong"] and {"line", "text", "gold", "predicted", "suggested"} <= set(rows[0])
    mistyped = cli("errors", folder.root, "--slice", "anotator")
    assert mistyped.code == 2 and "did you mean annotator?" in mistyped.err


def test_text_from_data_moves_no_cursor_and_is_cut(project: Path, cli: Callable[..., Ran]) -> None:
    rows = [{"text": f"\x1b[2J{'長' * 900} {number}", "label": "positive"} for number in range(12)]
    folder = answered.task(project / "t", "classification", LABEL, rows, ["negative"] * 12)
    shown = cli("errors", folder.root)
    assert shown.code == 0 and "\x1b[2J" not in shown.out and "長" * 100 not in shown.out


def test_a_version_that_was_not_evaluated_or_whose_predictions_broke_is_refused(
    project: Path, cli: Callable[..., Ran]
) -> None:
    folder = sliced(project / "sentiment", 0, planted=True)
    version = folder.version("v1")
    lines = version.predictions_path.read_text(encoding="utf-8").splitlines()
    version.predictions_path.write_text("\n".join([*lines[:2], lines[2][:20]]), encoding="utf-8")
    broken = cli("errors", folder.root)
    assert broken.code == 1 and "predictions.jsonl:3" in broken.err and "evaluate --again" in broken.err
    version.results_path.unlink()
    with pytest.raises(Invalid, match="not been evaluated yet"):
        analysis.of(folder)


def test_rows_that_are_gone_and_a_missing_train_are_told_not_guessed(tmp_path: Path) -> None:
    folder = sliced(tmp_path / "t", 0, planted=True)
    kept = folder.split("test").read_text(encoding="utf-8").splitlines()[40:]
    folder.split("test").write_text("\n".join(kept) + "\n", encoding="utf-8")
    folder.split("train").unlink()
    found = analysis.of(folder)
    assert "40" in found.notes[0] and "data/train.jsonl has no rows" in found.notes[1]
    assert sum(one.rows for one in found.slices if one.column == "annotator") == 200


def test_it_writes_nothing(project: Path, cli: Callable[..., Ran]) -> None:
    folder = sliced(project / "sentiment", 0, planted=True)

    def state() -> dict[Path, tuple[int, int]]:
        return {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in project.rglob("*")}

    before = state()
    assert cli("errors", folder.root).code == 0 and state() == before
