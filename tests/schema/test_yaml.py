"""YAML as people mean it, with true lines, and edits that keep what a person wrote."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nlp_skills.errors import Invalid
from nlp_skills.schema import yaml

HERE = Path("some.yaml")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-5", 1e-5),
        ("1E+3", 1000.0),
        (".5", 0.5),
        ("012", 12),
        ("0o14", 12),
        ("0xff", 255),
        ("no", "no"),
        ("on", "on"),
        ("yes", "yes"),
        ("true", True),
        ("'true'", "true"),
        ('"12"', "12"),
        ("~", None),
        ("", None),
        ("2025-01-07", "2025-01-07"),
        ("2026-01-06T10:30:00", "2026-01-06T10:30:00"),
        ("1_000", "1_000"),
        ("12:30:45", "12:30:45"),
        ("v2", "v2"),
        ("-.inf", float("-inf")),
    ],
)
def test_scalars_follow_yaml_1_2(text: str, value: object) -> None:
    assert yaml.loads(f"key: {text}", HERE).data == {"key": value}


def test_every_key_has_its_line() -> None:
    read = yaml.loads("a: 1\nb:\n  c:\n    - x\n    - d: 2\n", HERE)
    assert read.lines["a",] == 1
    assert read.lines["b", "c"] == 3
    assert read.lines["b", "c", 1, "d"] == 5


@pytest.mark.parametrize(
    ("text", "line", "part"),
    [
        ("a: 1\na: 2\n", 2, "twice"),
        ("a: !!python/object/apply:os.system ['true']\n", 1, "tag"),
        ("a: !custom 1\n", 1, "tag"),
        ("a: &x\n  b: *x\n", 1, "itself"),
        ("a: [1, 2\nb: 3\n", 2, "YAML"),
        ("? [1, 2]\n: 3\n", 1, "plain text"),
    ],
)
def test_what_is_refused_names_its_line(text: str, line: int, part: str) -> None:
    with pytest.raises(Invalid) as caught:
        yaml.loads(text, HERE)
    assert part in caught.value.message
    assert caught.value.line == line


def test_bad_utf8_names_its_line(tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_bytes(b"a: 1\nb: \xff\n")
    with pytest.raises(Invalid) as caught:
        yaml.read(path)
    assert caught.value.line == 2


def test_a_change_keeps_comments_order_and_quoting(tmp_path: Path) -> None:
    path = tmp_path / "task.yaml"
    before = "# top\nname: 'x'   # why\nlabels: [\"正面\", no]\n\n# below\nrate: 1e-5\nlist:\n  - a  # first\n"
    path.write_text(before, encoding="utf-8")
    yaml.change(path, {("rate",): 2e-5, ("extra", "deep"): 1, ("list", 1): {"b": 2}, ("name",): "x"})
    after = path.read_text(encoding="utf-8")
    for kept in ("# top", "name: 'x'   # why", 'labels: ["正面", no]', "# below", "- a  # first"):
        assert kept in after
    data = yaml.read(path).data
    assert data["rate"] == 2e-5
    assert data["extra"] == {"deep": 1}
    assert data["list"] == ["a", {"b": 2}]


def test_a_change_of_nothing_changes_no_byte(tmp_path: Path) -> None:
    path = tmp_path / "task.yaml"
    text = "# c\na: 'one'\nb:\n  - x: 1e-5  # small\n  - y: no\nc: |\n  多行\n  文字\n"
    path.write_text(text, encoding="utf-8")
    yaml.change(path, {("a",): "one"})
    assert path.read_text(encoding="utf-8") == text


text = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]))
keys = st.text("abcdef-_é中", min_size=1, max_size=6)
plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(st.text("abcxyz_", min_size=1, max_size=8), plain, min_size=1, max_size=5))
def test_what_is_written_is_read_back(content: dict[str, object]) -> None:
    assert yaml.loads(yaml.dumps(content), HERE).data == content


@pytest.mark.parametrize(
    "text", ["two\nlines \x1b[31m", "a\r\nb\n", "\n\n  a", "a \nb\n\n", "x\n\u200b", "\x00\n", "---\n...\n# a"]
)
def test_any_text_over_several_lines_is_read_as_it_was_written(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(yaml.dumps({"said": [text]}), encoding="utf-8")
    yaml.change(path, {("history", 0): {"reason": text}, ("goal",): text})
    assert yaml.read(path).data == {"said": [text], "history": [{"reason": text}], "goal": text}
