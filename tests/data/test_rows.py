"""The row checker: every fault at its true line, whatever the file looks like."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT

from nlp_skills.data import rows

LABELS = {"label": {"type": "string", "enum": ["yes", "no"]}}
GOOD = b'{"text": "fine", "label": "yes"}'


def checked(path: Path, *lines: bytes, fields: tuple[str, ...] = ("text",), output: Any = None, **more: Any) -> Any:
    path.write_bytes(b"\n".join(lines) + b"\n")
    return rows.check(path, list(fields), output or LABELS, **more)


def faults(report: Any) -> list[tuple[int, str]]:
    return [(fault["line"], fault["code"]) for fault in report["faults"]]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "rows.jsonl"


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b'{"text": "cut', "bad_json"),
        (b"[" * 100_000, "bad_json"),
        (b'{"text": "\xff", "label": "yes"}', "bad_utf8"),
        (b'{"text": "\\ud800", "label": "yes"}', "bad_utf8"),
        (b'\xef\xbb\xbf{"text": "fine", "label": "yes"}', "bom"),
        (b'["text", "label"]', "not_object"),
        (b'"text"', "not_object"),
        (b"3", "not_object"),
        (b'{"text": "fine", "label": "yes", "x": NaN}', "nan"),
        (b'{"text": "fine", "label": "yes", "x": -Infinity}', "nan"),
        (b'{"text": "fine", "label": "yes", "x": 1e999}', "nan"),
        (b'{"label": "yes"}', "missing_field"),
        (b'{"text": "fine"}', "missing_field"),
        (b'{"text": 3, "label": "yes"}', "wrong_type"),
        (b'{"text": null, "label": "yes"}', "wrong_type"),
        (b'{"text": "fine", "label": 3}', "wrong_type"),
        (b'{"text": "fine", "label": ["yes"]}', "wrong_type"),
        (b'{"text": "", "label": "yes"}', "empty_text"),
        ('{"text": "\u3000 \\n", "label": "yes"}'.encode(), "empty_text"),
        (b'{"text": "fine", "label": "YES"}', "unknown_label"),
    ],
)
def test_each_fault_has_its_code_and_line(file: Path, line: bytes, code: str) -> None:
    report = checked(file, GOOD, b"", line, GOOD + b" ")
    assert (3, code) in faults(report)
    assert report["bad"] == 1
    assert report["rows"] == 3
    assert report["blank"] == 1
    assert report["distribution"] == {"yes": 2, "no": 0}


@pytest.mark.parametrize("padding", [0, 3 << 20], ids=["json", "orjson"])
def test_small_and_large_files_are_judged_alike(file: Path, padding: int) -> None:
    filler = b'{"text": "%s", "label": "no"}' % (b"x" * 1000)
    bad = [b'{"text": "\\ud83d", "label": "yes"}', b'{"text": "a", "label": "yes", "x": 1e999}', b"{}", b"{]"]
    fillers = [filler.replace(b"xx", b"%d" % number, 1) for number in range(padding // 1000)]
    report = checked(file, *bad, *fillers)
    assert faults(report) == [(1, "bad_utf8"), (2, "nan"), (3, "missing_field"), (3, "missing_field"), (4, "bad_json")]
    assert report["rows"] == 4 + len(fillers)


def test_line_numbers_survive_crlf_blank_lines_and_unicode_line_ends(file: Path) -> None:
    separators = '{"text": "a\u2028b\u0085c\x0bd", "label": "yes"}'.replace("\x0b", "\\u000b").encode()
    report = checked(file, GOOD + b"\r", b"\r", b"   ", separators, b'{"text": "x"}\r')
    assert faults(report) == [(5, "missing_field")]
    assert report["blank"] == 2


def test_a_last_line_without_an_end_counts(file: Path) -> None:
    file.write_bytes(GOOD + b"\n{")
    report = rows.check(file, ["text"], LABELS)
    assert (report["rows"], faults(report)) == (2, [(2, "bad_json")])


def test_an_empty_file_has_no_rows(file: Path) -> None:
    file.touch()
    assert rows.check(file, ["text"], LABELS)["rows"] == 0


def test_an_overlong_line_costs_no_memory_and_hides_no_line_after_it(file: Path) -> None:
    import resource

    with open(file, "wb") as stream:
        stream.write(GOOD + b"\n" + b'{"text": "')
        for _block in range(200):
            stream.write(b"x" * (1 << 20))
        stream.write(b'", "label": "yes"}\n{"text": 1, "label": "no"}\n')
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    report = rows.check(file, ["text"], LABELS)
    grown_mb = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert faults(report) == [(2, "too_long_line"), (3, "wrong_type")]
    assert grown_mb < 40


def test_repeated_lines_are_named_with_the_first_of_them(file: Path) -> None:
    other = b'{"text": "other", "label": "no"}'
    report = checked(file, GOOD, other, GOOD, b"", b"", GOOD)
    assert [(fault["line"], fault["detail"]) for fault in report["faults"]] == [(3, "= 1"), (6, "= 1")]
    assert (report["duplicates"], report["bad"]) == (2, 0)


def test_details_are_escaped_and_cut(file: Path) -> None:
    hostile = "\x1b[31m\u202egnp\n" + "x" * 500
    line = json.dumps({"text": "fine", "label": hostile}, ensure_ascii=False).encode()
    (fault,) = checked(file, line)["faults"]
    assert len(fault["detail"]) <= 80
    assert fault["detail"].isprintable()


def test_faults_are_capped_but_all_counted(file: Path) -> None:
    report = checked(file, *[b"{%d" % number for number in range(50)], max_faults=10)
    assert len(report["faults"]) == 10
    assert report["codes"] == {"bad_json": 50}


def test_answers_that_are_not_labels(file: Path) -> None:
    output = {"score": {"type": "integer"}, "spans": {"type": "array"}, "kind": {"type": "string", "enum": ["a", "b"]}}
    good = b'{"text": "t", "score": 3, "spans": [], "kind": "a"}'
    report = checked(file, good, b'{"text": "t", "score": true, "spans": {}, "kind": "c"}', output=output)
    assert faults(report) == [(2, "wrong_type"), (2, "wrong_type"), (2, "unknown_label")]
    assert report["distribution"] == {"a": 1, "b": 0}


def test_what_was_checked_is_remembered_and_damage_is_forgotten(file: Path, tmp_path: Path) -> None:
    report = checked(file, GOOD)
    state = tmp_path / "state"
    assert rows.recall(state, "data/train.jsonl") is None
    rows.remember(state, "data/train.jsonl", report)
    rows.remember(state, "data/測試.jsonl", report)
    found = rows.recall(state, "data/train.jsonl")
    assert found is not None
    assert (found["rows"], found["size"]) == (1, file.stat().st_size)
    (state / "checked.json").write_bytes(b'{"data/train.jsonl": {"rows"')
    assert rows.recall(state, "data/train.jsonl") is None
    rows.remember(state, "data/train.jsonl", report)
    assert rows.recall(state, "data/train.jsonl") == found
    assert [path.name for path in state.iterdir()] == ["checked.json"]


def test_it_runs_on_the_standard_library_alone() -> None:
    """The hook loads it with the system's interpreter, where none of our packages are."""
    program = (
        "import sys, runpy; sys.path = [p for p in sys.path if 'site-packages' not in p];"
        f"runpy.run_path({str(ROOT / 'nlp_skills' / 'data' / 'rows.py')!r});"
        "assert not any(name.startswith('nlp_skills') for name in sys.modules)"
    )
    subprocess.run([sys.executable, "-I", "-S", "-c", program], check=True)


def test_characters_are_bounded_and_measured(file: Path) -> None:
    lines = [json.dumps({"text": "字" * count, "label": "no"}).encode() for count in (1, 3, 3, 4, 9, 7)]
    report = checked(file, *lines, b"", min_chars=2, max_chars=8)
    assert [(fault["line"], fault["code"], fault["detail"]) for fault in report["faults"]] == [
        (1, "too_short", "1 < 2"),
        (3, "duplicate", "= 2"),
        (5, "too_long", "9 > 8"),
    ]
    assert report["lengths"]["counts"] == {3: 2, 4: 1, 7: 1}
    assert report["lengths"]["longest"][:2] == [(7, 6), (4, 4)]
    assert report["lengths"]["shortest"][:2] == [(3, 2), (3, 3)]
    assert report["distribution"] == {"yes": 0, "no": 4}


def test_the_longest_and_shortest_are_found_in_any_block(file: Path) -> None:
    count = 3000
    lengths = [1000 + number * 7919 % count for number in range(count)]
    with open(file, "wb") as stream:
        for length in lengths:
            stream.write(b'{"text": "%s", "label": "no"}\n' % (b"x" * length))
    found = rows.check(file, ["text"], LABELS)["lengths"]
    by_length = sorted((length, line) for line, length in enumerate(lengths, 1))
    assert found["shortest"] == by_length[:5]
    assert found["longest"] == by_length[:-6:-1]
    assert sum(found["counts"].values()) == count


@pytest.mark.parametrize("others", [[], ["entity"]])
def test_the_quick_way_and_the_thorough_way_agree(others: list[str], file: Path) -> None:
    """Every hostile line, judged as classification and as something else of the same shape."""
    texts = ["fine", "", " ", 3, None, ["x"], {"a": 1}, "\u3000", "x" * 40]
    values = [*texts, "yes", "no"]
    lines = [json.dumps({"text": text, "entity": other, "label": label})
             for text in texts for other in texts for label in values]  # fmt: skip
    lines += ["[]", "3", "null", "{", "", '{"text": "a"}']
    file.write_text("\n".join(lines), encoding="utf-8")
    fields, bounds = ["text", *others], {"min_chars": 2, "max_chars": 40}
    quick = rows.check(file, fields, LABELS, **bounds)
    thorough = rows.check(file, fields, LABELS, also=lambda _row: [], **bounds)
    assert quick == thorough
    assert quick["bad"] > 800
    assert quick["rows"] > quick["bad"]


def test_a_fault_of_every_kind_has_its_places_however_many_another_has(file: Path) -> None:
    report = checked(file, *[b'{"text": "%d", "label": "?"}' % number for number in range(500)], b"{", max_faults=5)
    assert report["codes"] == {"unknown_label": 500, "bad_json": 1}
    assert [fault["line"] for fault in report["faults"]] == [1, 2, 3, 4, 5, 501]


def test_what_else_is_asked_of_a_row_counts_like_its_own_faults(file: Path) -> None:
    def also(row: dict[str, Any]) -> list[tuple[str, str]]:
        return [("odd", row["text"])] if row["text"].startswith("odd") else []

    report = checked(file, GOOD, b'{"text": "odd one", "label": "no"}', b'{"text": "odd", "label": "?"}', also=also)
    assert faults(report) == [(2, "odd"), (3, "unknown_label")]
    assert report["bad"] == 2


def test_a_sample_is_spread_over_the_file_with_true_line_numbers(file: Path) -> None:
    file.write_bytes(b"".join(b'{"n": %d}\n' % number for number in range(1, 101)) + b"{oops\n[]\n")
    assert list(rows.sampled(file, 100, 1000)) == [(number, {"n": number}) for number in range(1, 101)]
    few = list(rows.sampled(file, 100, 10))
    assert [line for line, _row in few] == [1, 11, 21, 31, 41, 51, 61, 71, 81, 91]
    assert all(row == {"n": line} for line, row in few)


def test_a_glance_looks_at_both_ends_and_names_what_it_saw(file: Path) -> None:
    lines = [b'{"text": "%06d %s", "label": "yes"}\n' % (number, b"x" * 60) for number in range(20_000)]
    lines[2] = lines[10_000] = b'{"text": "x", "label": "?"}\n'
    lines[-1] = b'{"text": "x", "label": "?"}\n'
    file.write_bytes(b"".join(lines))
    report = rows.glance(file, ["text"], LABELS, budget=200_000)
    assert [(fault["line"], fault.get("byte")) for fault in report["faults"]] == [
        (3, None),
        (None, file.stat().st_size - len(lines[-1])),
    ]
    assert report["codes"] == {"unknown_label": 2}
    assert 180_000 < report["seen"] <= 200_000
    assert report["rows"] == pytest.approx(report["seen"] / len(lines[0]), abs=2)


def test_a_value_in_brief_shows_nothing_that_does_not_print() -> None:
    for value in ("a\u200bb", "\u202eabc", "x\n\r\t", "\x1b[0m", "a\ufe0f", "\u3164", "\U000e0041", "\u2800"):
        shown = rows.brief(value)
        assert shown.isprintable()
        assert shown.isascii()
    assert rows.brief("長" * 30) == f"'{'長' * 30}'"
    assert rows.brief("長" * 31) == f"'{'長' * 12}…' (31)"
