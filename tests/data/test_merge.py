"""Raw rows under the task's names: columns, paths into nested rows, and what is wrong with them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import write_rows

from nlp_skills.data.merge import merged, preview
from nlp_skills.errors import Invalid
from nlp_skills.workspace.folder import TaskFolder


@pytest.fixture
def task(make_task: Callable[..., Path]) -> Path:
    return make_task()


def mapped(root: Path, mapping: dict[str, str]) -> TaskFolder:
    """The task with a mapping for its source, written as a person would."""
    lines = "".join(f"      {name}: {json.dumps(column, ensure_ascii=False)}\n" for name, column in mapping.items())
    path = root / "data_source.yaml"
    path.write_text(path.read_text().replace("split:", f"    mapping:\n{lines}split:"), encoding="utf-8")
    return TaskFolder.at(root)


def rows_of(folder: TaskFolder, raw: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What merging makes of raw rows; looking at them before makes the same."""
    path = write_rows(folder.raw / "reviews.jsonl", raw)
    source = folder.sources().sources[0]
    found = list(merged(folder, folder.task(), [(source, path)]))
    assert [json.loads(one.body) for one in found] == [one.row for one in found]
    assert [one.line for one in found] == list(range(1, len(raw) + 1))
    rows = [one.row for one in found]
    assert preview(source, folder.task(), raw) == rows
    return rows


def test_a_path_reaches_into_nested_rows(task: Path) -> None:
    folder = mapped(task, {"text": "content.body", "label": "tags[0]"})
    raw = [{"id": 1, "content": {"body": "很好用", "lang": "zh"}, "tags": ["positive", "x"]}]
    assert rows_of(folder, raw) == [{"text": "很好用", "label": "positive", **raw[0], "_source": "reviews"}]


def test_an_exact_column_wins_over_a_path_and_is_renamed(task: Path) -> None:
    folder = mapped(task, {"text": "content.body"})
    raw = [{"content.body": "flat", "content": {"body": "nested"}, "label": "neutral"}]
    row = rows_of(folder, raw)[0]
    assert row == {"text": "flat", "label": "neutral", "content": {"body": "nested"}, "_source": "reviews"}


def test_a_column_whose_name_is_no_path_is_a_column(task: Path) -> None:
    folder = mapped(task, {"text": "客戶 留言"})
    assert rows_of(folder, [{"客戶 留言": "好", "label": "positive"}])[0]["text"] == "好"


def test_names_in_quotes_are_paths_in_any_script(task: Path) -> None:
    folder = mapped(task, {"text": '"留言"."內容"'})
    assert rows_of(folder, [{"留言": {"內容": "好"}, "label": "positive"}])[0]["text"] == "好"


def test_functions_of_the_path_language_work(task: Path) -> None:
    folder = mapped(task, {"text": "join(' ', parts)"})
    assert rows_of(folder, [{"parts": ["a", "b"], "label": "positive"}])[0]["text"] == "a b"


@pytest.mark.parametrize("path", ["content..body", "tags[", "留言.內容", "nothing(x)", "join(' ', label)"])
def test_what_is_neither_column_nor_path_is_named_with_its_line(task: Path, path: str) -> None:
    folder = mapped(task, {"text": path})
    with pytest.raises(Invalid, match="neither a column nor a JMESPath") as caught:
        rows_of(folder, [{"content": {"body": "x"}, "label": "neutral"}])
    problem = caught.value
    assert problem.file == str(folder.sources_path)
    assert "mapping" in folder.sources_path.read_text().splitlines()[int(problem.line or 0) - 1]
    assert "content, label" in str(problem.cause)


def test_a_path_that_finds_nothing_is_a_missing_column(task: Path) -> None:
    folder = mapped(task, {"text": "content.body"})
    raw = [{"content": {"body": "x"}, "label": "neutral"}, {"content": {"title": "x"}, "label": "neutral"}]
    with pytest.raises(Invalid, match=r"no column content\.body") as caught:
        rows_of(folder, raw)
    assert caught.value.line == 2
    with pytest.raises(Invalid, match="no column"):
        preview(folder.sources().sources[0], folder.task(), raw)


def test_text_that_stands_for_another_type_is_read(task: Path) -> None:
    path = task / "task.yaml"
    enum = "      enum: [positive, neutral, negative]\n"
    text = path.read_text().replace(enum, f"{enum}    stars: {{type: integer}}\n")
    path.write_text(text.replace("type: text", "type: json"))
    row = rows_of(TaskFolder.at(task), [{"text": "x", "label": "positive", "stars": "5"}])[0]
    assert row["stars"] == 5


def test_marks_that_are_ours_are_not_taken_from_a_source(task: Path) -> None:
    raw = [{"text": "x", "label": "neutral", "_source": "other", "_augmented": {"of": "y"}}]
    assert rows_of(TaskFolder.at(task), raw) == [{"text": "x", "label": "neutral", "_source": "reviews"}]


def test_twenty_wrong_rows_are_named_and_all_are_counted(task: Path) -> None:
    folder = TaskFolder.at(task)
    raw = [{"text": "fine", "label": "neutral" if n % 2 else "splendid"} for n in range(100)]
    with pytest.raises(Invalid) as caught:
        rows_of(folder, raw)
    problems = [caught.value, *caught.value.also]
    assert [problem.line for problem in problems] == list(range(1, 41, 2))
    assert "50" in str(caught.value.mend)


def test_a_row_longer_than_a_line_may_be_is_refused(task: Path) -> None:
    folder = TaskFolder.at(task)
    with pytest.raises(Invalid, match="too long"):
        rows_of(folder, [{"text": "x", "label": "neutral", "extra": "y" * (1 << 20)}])


def test_a_raw_file_that_someone_damaged_is_named_by_line(task: Path) -> None:
    folder = TaskFolder.at(task)
    path = write_rows(folder.raw / "reviews.jsonl", [{"text": "x", "label": "neutral"}])
    for damage in (b'{"text": "x", \n', b"[1]\n", b'{"text": "\xff"}\n'):
        path.write_bytes(b'{"text": "x", "label": "neutral"}\n' + damage)
        with pytest.raises(Invalid) as caught:
            list(merged(folder, folder.task(), [(folder.sources().sources[0], path)]))
        assert caught.value.line == 2
        assert "--refresh" in str(caught.value.mend)
