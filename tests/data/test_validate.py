"""The gate before training: what it lets through, what it stops, and where it points."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import reviews, write_rows

from nlp_skills import extras
from nlp_skills.data import rows as lines
from nlp_skills.data import snapshot
from nlp_skills.data.regenerate import regenerate
from nlp_skills.data.validate import Report, validate
from nlp_skills.workspace.folder import TaskFolder


@pytest.fixture
def folder(make_task: Callable[..., Path]) -> TaskFolder:
    found = TaskFolder.at(make_task())
    regenerate(found)
    return found


def rows_of(folder: TaskFolder, name: str) -> list[dict[str, Any]]:
    return list(lines.read(folder.split(name)))


def append(folder: TaskFolder, name: str, *rows: dict[str, Any]) -> int:
    """Add rows to a split as a person would; returns the line of the first."""
    before = rows_of(folder, name)
    write_rows(folder.split(name), [*before, *rows])
    return len(before) + 1


def codes(report: Report) -> dict[str, str]:
    return {finding.code: finding.severity for finding in report.findings}


def finding(report: Report, code: str) -> Any:
    (found,) = [entry for entry in report.findings if entry.code == code]
    return found


def test_what_regenerate_wrote_is_valid_and_remembered(folder: TaskFolder) -> None:
    report = validate(folder)
    assert report.ok
    assert report.findings == []
    assert {name: part["rows"] for name, part in report.splits.items()} == {"train": 72, "valid": 12, "test": 36}
    remembered = lines.recall(folder.state, "data/train.jsonl")
    assert remembered is not None
    assert remembered["mtime_ns"] == folder.split("train").stat().st_mtime_ns
    digest = json.loads((folder.state / "digest.json").read_text())
    assert digest["fields"] == ["text"]


def test_the_hook_finds_nothing_to_do_after_validate(folder: TaskFolder) -> None:
    from nlp_skills.hooks.data_validation import Check

    assert Check(str(folder.root)).moved("data/train.jsonl")
    validate(folder)
    assert not Check(str(folder.root)).moved("data/train.jsonl")
    path = folder.sources_path
    path.write_text(path.read_text() + "checks:\n  min_chars: 5\n")
    validate(folder, documents_only=True)
    assert Check(str(folder.root)).moved("data/train.jsonl")


def test_a_test_row_in_train_is_an_error_with_both_places(folder: TaskFolder) -> None:
    leaked = dict(rows_of(folder, "test")[4])
    leaked["text"] = leaked["text"].upper()
    line = append(folder, "train", leaked)
    report = validate(folder)
    assert not report.ok
    found = finding(report, "leak")
    assert f"data/train.jsonl:{line}" in found.cause
    assert "data/test.jsonl:5" in found.cause


def test_a_nearly_equal_test_row_in_train_is_an_error(folder: TaskFolder) -> None:
    long = "A long and winding review of a product that was bought in a shop around the corner last {}."
    append(folder, "test", {"text": long.format("May"), "label": "neutral"})
    append(folder, "train", {"text": long.format("Mai"), "label": "neutral"})
    assert codes(validate(folder)) == {"near_leak": "error"}


def test_without_rensa_it_says_what_it_did_not_look_for(folder: TaskFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extras, "installed", lambda module: module != "rensa")
    report = validate(folder)
    assert report.ok
    assert codes(report) == {"near_unsearched": "warning"}
    assert "[data]" in finding(report, "near_unsearched").mend
    assert any("rensa" in warning for warning in regenerate(folder).warnings)


def test_one_text_with_two_labels_is_an_error_with_both_places(folder: TaskFolder) -> None:
    twin = {**rows_of(folder, "train")[2]}
    twin["label"] = "neutral" if twin["label"] != "neutral" else "positive"
    line = append(folder, "train", twin)
    found = finding(validate(folder), "contradiction")
    assert found.severity == "error"
    assert "data/train.jsonl:3 = data/train.jsonl:" + str(line) in found.cause


def test_contradictions_in_the_source_come_through_to_validate(folder: TaskFolder) -> None:
    rows = reviews(120)
    write_rows(folder.root / "reviews.jsonl", [*rows, {**rows[0], "label": "negative"}])
    regenerate(folder)
    assert codes(validate(folder)) == {"contradiction": "error"}


def test_training_on_what_another_version_was_tested_on_is_an_error(folder: TaskFolder) -> None:
    snapshot.write(folder, "v1")
    path = folder.task_path
    path.write_text(path.read_text().replace("version: v1", "version: v2"))
    train, test = rows_of(folder, "train"), rows_of(folder, "test")
    write_rows(folder.split("train"), [*train[1:], test[0]])
    write_rows(folder.split("test"), [train[0], *test[1:]])
    found = finding(validate(folder), "tested_before")
    assert (found.severity, found.count, found.line) == ("error", 1, len(train))


def test_bad_rows_are_named_by_kind_line_and_count(folder: TaskFolder) -> None:
    with open(folder.split("valid"), "ab") as stream:
        stream.write(b'{"text": 3, "label": "neutral"}\n{"text": "x", "label": "meh"}\n')
        stream.write(b'{\n\n{"text": "y", "label": "ha"}\n')
    report = validate(folder)
    assert codes(report) == dict.fromkeys(("wrong_type", "unknown_label", "bad_json"), "error") | {"blank": "warning"}
    found = finding(report, "unknown_label")
    assert (found.line, found.count) == (14, 2)
    assert "14 (label = 'meh'), 17 (label = 'ha')" in found.cause
    assert report.splits["valid"]["bad"] == 4


def test_a_missing_and_an_empty_split(folder: TaskFolder) -> None:
    folder.split("valid").write_bytes(b"")
    assert codes(validate(folder)) == {"empty_split": "error"}
    folder.split("test").unlink()
    report = validate(folder)
    assert codes(report) == {"empty_split": "error", "missing_file": "error"}
    assert finding(report, "missing_file").mend == "nlp-skills regenerate"


def test_an_empty_valid_is_right_where_its_share_is_zero(folder: TaskFolder) -> None:
    path = folder.sources_path
    path.write_text(path.read_text().replace("valid: 0.1", "valid: 0").replace("train: 0.6", "train: 0.7"))
    regenerate(folder)
    assert folder.split("valid").read_bytes() == b""
    assert validate(folder).ok


def test_a_class_without_rows_and_a_repeated_row_are_warnings(folder: TaskFolder) -> None:
    rows = [row for row in rows_of(folder, "valid") if row["label"] != "neutral"]
    write_rows(folder.split("valid"), [*rows, rows[0]])
    report = validate(folder)
    assert report.ok
    assert codes(report) == {"missing_class": "warning", "duplicate": "warning"}
    assert "neutral" in finding(report, "missing_class").message


def test_rows_that_are_bad_have_places_and_a_mend_in_json_too(folder: TaskFolder) -> None:
    line = append(folder, "train", *[{"text": f"{number}", "label": "meh\u202e"} for number in range(8)])
    entry = next(entry for entry in validate(folder).as_dict()["findings"] if entry["code"] == "unknown_label")
    assert entry["lines"] == tuple(range(line, line + 5))
    assert (entry["count"], entry["line"], entry["file"]) == (8, line, str(folder.split("train")))
    assert "'meh\\u202e'" in entry["cause"]
    assert "regenerate" in entry["mend"]


def test_characters_outside_the_bounds_are_errors(folder: TaskFolder) -> None:
    path = folder.sources_path
    path.write_text(path.read_text() + "checks:\n  min_chars: 10\n  max_chars: 200\n")
    append(folder, "valid", {"text": "short", "label": "neutral"}, {"text": "long " * 50, "label": "neutral"})
    report = validate(folder)
    assert {"too_short": "error", "too_long": "error"}.items() <= codes(report).items()
    assert finding(report, "too_short").cause == "rows: 1; lines: 13 (5 < 10)"
    digest = json.loads((folder.state / "digest.json").read_text())
    assert digest["checks"] == {"min_chars": 10, "max_chars": 200}


def test_texts_far_from_the_others_are_warnings(folder: TaskFolder) -> None:
    line = append(folder, "train", {"text": "word " * 400, "label": "neutral"}, {"text": "y", "label": "neutral"})
    report = validate(folder)
    assert report.ok
    assert (finding(report, "long_texts").line, finding(report, "short_texts").line) == (line, line + 1)
    assert f"{line} (2000)" in finding(report, "long_texts").cause
    chars = report.splits["train"]["chars"]
    assert (chars["min"], chars["max"]) == (1, 2000)
    assert chars["min"] < chars["p50"] <= chars["p95"] < chars["max"]


def test_small_classes_and_imbalance_are_warnings(folder: TaskFolder) -> None:
    rows = rows_of(folder, "train")
    small = [row for row in rows if row["label"] == "neutral"][:2]
    write_rows(folder.split("train"), [row for row in rows if row["label"] != "neutral"] + small)
    report = validate(folder)
    assert report.ok
    assert codes(report) == {"few_rows": "warning", "imbalance": "warning"}
    assert finding(report, "few_rows").cause == "neutral 2"
    assert "12 times" in finding(report, "imbalance").message


def test_texts_in_another_language_are_warnings_with_their_places(folder: TaskFolder) -> None:
    chinese = [{"text": f"这个质量确实很差，不会再买了{number}", "label": "negative"} for number in range(8)]
    line = append(folder, "train", *chinese)
    found = finding(validate(folder), "other_language")
    assert (found.severity, found.line, found.count) == ("warning", line, 8)
    assert "10 percent" in found.message
    assert "Simplified Chinese 8" in found.cause
    path = folder.sources_path
    path.write_text(path.read_text() + "checks: {languages: [en, zh]}\n")
    assert "other_language" not in codes(validate(folder))
    path.write_text(path.read_text().replace("[en, zh]", "[en, zh-TW]"))
    assert "other_language" in codes(validate(folder))


def test_classes_mixed_otherwise_than_in_the_last_version_are_a_warning(folder: TaskFolder) -> None:
    snapshot.write(folder, "v1")
    task = folder.task_path
    task.write_text(task.read_text().replace("version: v1", "version: v2"))
    assert "drift" not in codes(validate(folder))
    append(folder, "train", *[row | {"label": "negative"} for row in reviews(60, start=5000)])
    report = validate(folder)
    found = finding(report, "drift")
    assert found.severity == "warning"
    assert "v1" in found.message
    assert "negative 33.3% → " in found.cause
    assert found.file == str(folder.split("train"))


def test_answers_that_miss_their_schema_are_errors_with_a_pointer(folder: TaskFolder) -> None:
    as_list = "type: array\n      items: {type: object, properties: {name: {type: string}}, required: [name]}"
    path = folder.task_path
    text = path.read_text().replace("type: string\n      enum: [positive, neutral, negative]", as_list)
    path.write_text(text.replace("classification", "generation").replace("type: text", "type: json"))
    for name, count in (("train", 9), ("valid", 3), ("test", 3)):
        rows = [{"text": f"{name} {number}", "label": [{"name": "x"}]} for number in range(count)]
        write_rows(folder.split(name), rows)
    assert validate(folder).ok
    append(folder, "train", {"text": "bad", "label": [{"name": "x"}, {"nam": "x"}]})
    report = validate(folder)
    assert codes(report) == {"off_schema": "error"}
    assert "10 (/label/1: required name)" in finding(report, "off_schema").cause
    path.write_text(path.read_text().replace("{type: string}", "{type: strin}"))
    found = finding(validate(folder), "schema")
    assert (found.severity, found.file) == ("error", str(path))


class Words:
    """A tokenizer as the renderer needs it: one token a word; its chat template only joins the turns."""

    chat_template = "joined"

    def apply_chat_template(self, messages: list[dict[str, str]], add_generation_prompt: bool, **_more: Any) -> str:
        text = "".join(f"<{message['role']}> {message['content']} <end> " for message in messages)
        return text + "<assistant> " * add_generation_prompt

    def __call__(self, text: str, **_more: Any) -> dict[str, list[int]]:
        return {"input_ids": list(range(len(text.split())))}


def test_rows_that_training_could_not_take_whole_are_warned_of_in_tokens(folder: TaskFolder) -> None:
    line = append(folder, "train", {"text": "word " * 150, "label": "neutral"})
    report = validate(folder, tokenizer=Words())
    found = finding(report, "over_max_length")
    assert (found.severity, found.count, found.line) == ("warning", 1, line)
    assert "max_length 128" in found.message
    tokens = report.splits["train"]["tokens"]
    assert (tokens["rows"], tokens["p50"]) == (73, 18)
    assert tokens["max"] == 150 + 12
    assert report.ok


def test_a_tokenizer_that_cannot_be_used_is_a_remark(folder: TaskFolder) -> None:
    bare = Words()
    bare.chat_template = ""
    report = validate(folder, tokenizer=bare)
    assert report.ok
    assert codes(report) == {"tokens_uncounted": "info"}
    assert "tokens" not in report.splits["train"]


def test_a_base_model_that_is_not_here_is_a_remark_and_not_fetched(folder: TaskFolder, cli: Callable[..., Any]) -> None:
    ran = cli("validate", folder.root, "--json")
    assert ran.code == 0
    (entry,) = ran.json["findings"]
    assert (entry["severity"], entry["code"]) == ("info", "tokens_uncounted")
    assert "none/none" in entry["message"]
    assert cli("validate", folder.root, "--json", "--no-tokens").json["findings"] == []
    shown = cli("validate", folder.root)
    assert "note: tokens were not counted" in shown.err
    assert "characters" in shown.out


def test_leaks_are_found_whatever_else_is_in_the_files(folder: TaskFolder) -> None:
    rows = rows_of(folder, "test")
    junk = b'\xff\xfe\n{"text": 3}\n\n[1]\n' + b"x" * (2 << 20) + b"\n"
    path = folder.split("train")
    path.write_bytes(junk + path.read_bytes() + lines.dump(rows[7]))
    found = finding(validate(folder), "leak")
    assert found.cause == f"at data/train.jsonl:{5 + 72 + 1} = data/test.jsonl:8"
    assert found.lines == (8,)


def test_wrong_documents_are_findings_with_their_lines(folder: TaskFolder) -> None:
    folder.sources_path.write_text("sources: []\nsplt:\n  seed: 1\n")
    folder.task_path.write_text(folder.task_path.read_text().replace("epochs: 2", "epochs: many\n  epoch: 3"))
    report = validate(folder)
    places = {(Path(entry.file or "").name, entry.line) for entry in report.findings}
    assert places == {("data_source.yaml", 2), ("task.yaml", 20), ("task.yaml", 21)}
    assert "split" in str([entry.mend for entry in report.findings])
    assert not report.ok


def test_documents_alone_can_be_checked(folder: TaskFolder) -> None:
    folder.split("train").unlink()
    assert validate(folder, documents_only=True).ok


def test_a_snapshot_says_which_data_it_was(folder: TaskFolder) -> None:
    taken = snapshot.write(folder, "v1")
    version = folder.version("v1")
    assert taken.splits["test"].rows == len(taken.test_keys) == 36
    assert taken.splits["train"].class_distribution == {"positive": 24, "neutral": 24, "negative": 24}
    lineage = version.lineage()
    assert lineage is not None
    assert lineage.data is not None
    assert (lineage.data.train_count, lineage.data.source_hash) == (72, taken.source_hash)
    before = version.snapshot_path.read_bytes()
    regenerate(folder)
    snapshot.write(folder, "v1")
    assert version.snapshot_path.read_bytes() == before


def test_the_source_hash_follows_what_matters_and_nothing_else(folder: TaskFolder) -> None:
    def now() -> str:
        return snapshot.source_hash(folder.sources())

    before = now()
    path = folder.sources_path
    path.write_text("# a note\n" + path.read_text())
    assert now() == before
    path.write_text(path.read_text().replace("seed: 7", "seed: 8"))
    assert now() != before
