"""Files of every format and encoding, packed and globbed, and what is said when they are wrong."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zstandard

from nlp_skills.data import sources
from nlp_skills.errors import Invalid, Problem, Unavailable
from nlp_skills.schema.source import FileImport
from nlp_skills.workspace.folder import TaskFolder


@pytest.fixture
def folder(make_task: Callable[..., Path]) -> TaskFolder:
    return TaskFolder.at(make_task())


def fetched(
    folder: TaskFolder, path: str, *, preview: bool = False, **settings: Any
) -> tuple[list[dict[str, Any]], sources.Fetching]:
    fetching = sources.Fetching(folder, preview=preview)
    source = FileImport(type="file_import", name="s", path=path, **settings)
    return list(sources.fetch(source, fetching)), fetching


def refusal(folder: TaskFolder, path: str, **settings: Any) -> Problem:
    with pytest.raises(Problem) as caught:
        fetched(folder, path, **settings)
    assert caught.value.mend
    return caught.value


def put(folder: TaskFolder, name: str, content: bytes) -> Path:
    path = folder.root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


ROWS = [{"text": f"第{n}則,很好", "label": "yes" if n % 2 else "no"} for n in range(2500)]
JSONL = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS).encode()


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.compress], ids=["gz", "zst"])
@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.JSON"])
def test_packed_files_give_the_same_rows(
    folder: TaskFolder, name: str, pack: Callable[[bytes], bytes], request: pytest.FixtureRequest
) -> None:
    csv = "text,label\n" + "".join(f'"{row["text"]}",{row["label"]}\n' for row in ROWS)
    content = {"a.jsonl": JSONL, "a.csv": csv.encode(), "a.JSON": json.dumps(ROWS).encode()}[name]
    packed = f"{name}.{request.node.callspec.id.rsplit('-')[-1]}"
    put(folder, packed, pack(content))
    rows, fetching = fetched(folder, packed)
    assert rows == ROWS
    assert fetching.record["files"][0]["rows"] == 2500


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.compress], ids=["gz", "zst"])
def test_a_packed_file_that_was_cut_off_or_is_none(
    folder: TaskFolder, pack: Callable[[bytes], bytes], request: pytest.FixtureRequest
) -> None:
    suffix = request.node.callspec.id
    put(folder, f"cut.jsonl.{suffix}", pack(JSONL)[:-200])
    put(folder, f"not.jsonl.{suffix}", JSONL)
    for name in ("cut", "not"):
        problem = refusal(folder, f"{name}.jsonl.{suffix}")
        assert problem.exit_code == 1
        assert "cannot be read" in problem.message
        assert problem.cause


def test_lines_keep_their_numbers_in_packed_files(folder: TaskFolder) -> None:
    put(folder, "a.jsonl.gz", gzip.compress(JSONL + b"{\n"))
    assert refusal(folder, "a.jsonl.gz").line == 2501
    put(folder, "a.csv.gz", gzip.compress('text,label\n"two\nlines",yes\n好\n'.encode()))
    assert refusal(folder, "a.csv.gz").line == 4
    put(folder, "b.csv.gz", gzip.compress(b'text,label\na,b\n"open,b\nc,d\n'))
    assert refusal(folder, "b.csv.gz").line == 3
    put(folder, "c.csv.gz", gzip.compress(b"text,label\n" + b"ok,yes\n" * 50_000 + b"\xff,no\n"))
    assert refusal(folder, "c.csv.gz").line == 50_002


TRADITIONAL = [
    "這台相機拍照很清楚,出貨也快",
    "客服態度很差,等了三天沒有回覆",
    "電池一下就沒電了,非常失望",
    "包裝完整,會再回購",
]
SIMPLIFIED = [
    "这台相机拍照很清楚,发货也快",
    "客服态度很差,等了三天没有回复",
    "电池一下就没电了,非常失望",
    "包装完整,会再回购",
]
JAPANESE = [
    "このカメラはとても使いやすいです",
    "配送が遅くて残念でした",
    "電池がすぐに切れてしまいます",
    "また買いたいと思います",
]
KOREAN = [
    "이 카메라는 정말 마음에 들어요",
    "배송이 너무 늦어서 실망했습니다",
    "배터리가 빨리 닳아요",
    "다시 구매하고 싶습니다",
]
GERMAN = [
    "Sehr schöne Kamera, größer als gedacht",
    "Für den Preis völlig in Ordnung",
    "Das Gehäuse ist schon zerbrochen, ärgerlich",
]
FRENCH = [
    "Très déçu, la qualité est médiocre",
    "Livraison rapide, déjà recommandé à ma mère",
    "Ça marche très bien à la maison",
]
POLISH = [
    "Przesyłka przyszła za późno, jestem zły",
    "Bardzo dobry aparat, polecam każdemu",
    "Bateria się szybko wyczerpuje",
]


def encoded(texts: list[str], count: int, encoding: str) -> tuple[bytes, list[dict[str, str]]]:
    rows = [{"text": f"{n} {texts[n % len(texts)]}", "label": "yes"} for n in range(count)]
    return ("text,label\r\n" + "".join(f'"{row["text"]}",yes\r\n' for row in rows)).encode(encoding), rows


@pytest.mark.parametrize("count", [4, 400, 40_000])
@pytest.mark.parametrize(
    ("texts", "encoding", "found"),
    [
        (TRADITIONAL, "big5", "cp950"),
        (TRADITIONAL, "gbk", "gb18030"),
        (SIMPLIFIED, "gbk", "gb18030"),
        (JAPANESE, "shift_jis", "cp932"),
        (KOREAN, "euc_kr", "cp949"),
        (GERMAN, "cp1252", "cp1252"),
        (TRADITIONAL, "utf-16-le", "utf-16-le"),
        (SIMPLIFIED, "utf-16-be", "utf-16-be"),
        (TRADITIONAL, "utf-16", "utf-16"),
        (TRADITIONAL, "utf-8-sig", "utf-8-sig"),
        (TRADITIONAL, "utf-8", "utf-8"),
    ],
)
def test_an_encoding_is_found_and_a_guess_said(
    folder: TaskFolder, texts: list[str], encoding: str, found: str, count: int
) -> None:
    content, rows = encoded(texts, count, encoding)
    put(folder, "a.csv", content)
    given, fetching = fetched(folder, "a.csv")
    assert given == rows
    assert fetching.record["files"][0]["encoding"] == found
    certain = found.startswith("utf")
    assert [found in text for text in fetching.warnings] == ([] if certain else [True])


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (encoded(TRADITIONAL, 1, "big5")[0], 2),
        (encoded(POLISH, 3, "cp1250")[0], 2),
        (encoded(FRENCH, 4, "cp1252")[0], 2),
        (encoded(["Очень хорошая камера, рекомендую всем"], 20, "koi8_r")[0], 2),
        (encoded(["このカメラはとても使いやすいです"], 20, "euc_jp")[0], 2),
        ("text,label\n很好,yes\n普通,no\n".encode() + b"\xa4\xff,no\n", 4),
        (b"text,label\na,b\n\x00\xff\x81,b\n", 3),
    ],
    ids=["short", "polish", "french", "russian", "euc-jp", "spoilt", "binary"],
)
def test_what_is_not_certain_is_asked_for(folder: TaskFolder, content: bytes, line: int) -> None:
    put(folder, "a.csv", content)
    problem = refusal(folder, "a.csv")
    assert (problem.line, problem.exit_code) == (line, 1)
    assert "not utf-8 text" in problem.message
    assert "encoding:" in str(problem.mend)


def test_an_encoding_that_is_given_is_taken(folder: TaskFolder) -> None:
    content, rows = encoded(TRADITIONAL, 1, "big5")
    put(folder, "a.csv", content)
    given, fetching = fetched(folder, "a.csv", encoding="big5")
    assert (given, fetching.warnings) == (rows, [])
    problem = refusal(folder, "a.csv", encoding="utf-16")
    assert "not utf-16 text" in problem.message
    folder.sources_path.write_text("sources:\n  - type: file_import\n    path: a.csv\n    encoding: klingon\n")
    source = folder.sources().sources[0]
    with pytest.raises(Invalid, match="klingon") as caught:
        list(sources.fetch(source, sources.Fetching(folder)))
    assert caught.value.line == 4


@pytest.mark.parametrize(
    ("text", "delimiter", "first"),
    [
        ("text;label\n好, 很好;yes\n", ";", {"text": "好, 很好", "label": "yes"}),
        ("text\tlabel\n好, 很好\tyes\n", "\t", {"text": "好, 很好", "label": "yes"}),
        ("text|label\n好; 很好|yes\n", "|", {"text": "好; 很好", "label": "yes"}),
        ("text,label\n好; 很好,yes\n", ",", {"text": "好; 很好", "label": "yes"}),
        ("text\n好; 很好\n好; 不; 好\n", ",", {"text": "好; 很好"}),
        ("text;label\n好\n壞;no;x\n", ",", None),
    ],
)
def test_the_delimiter_is_the_headers(
    folder: TaskFolder, text: str, delimiter: str, first: dict[str, str] | None
) -> None:
    put(folder, "a.csv", text.encode())
    rows, fetching = fetched(folder, "a.csv")
    assert fetching.record["files"][0]["delimiter"] == delimiter
    assert first is None or rows[0] == first


def test_a_line_without_end_is_refused_without_being_held(folder: TaskFolder) -> None:
    put(folder, "a.csv", b"text,label\nok,yes\n" + b"x" * 30_000_000)
    problem = refusal(folder, "a.csv")
    assert (problem.line, "too long" in problem.message) == (3, True)
    put(folder, "a.jsonl", ('{"text": "' + "x" * 3_000_000 + '"}\n{"text": 1}\n').encode("utf-16"))
    problem = refusal(folder, "a.jsonl")
    assert (problem.line, "too long" in problem.message) == (1, True)


def test_a_glob_takes_every_file_in_the_order_of_their_names(folder: TaskFolder) -> None:
    put(folder, "data/in/b.csv", "text;label\n乙;no\n".encode())
    put(folder, "data/in/a.csv.gz", gzip.compress("text,label\n甲,yes\n".encode()))
    put(folder, "data/in/deep/c.jsonl", '{"text": "丙", "more": 1}\n'.encode())
    put(folder, "data/in/empty.csv", b"")
    (folder.root / "data/in/folder.csv").mkdir()
    rows, fetching = fetched(folder, "data/in/**/*.*")
    assert rows == [{"text": "甲", "label": "yes"}, {"text": "乙", "label": "no"}, {"text": "丙", "more": 1}]
    names = ["data/in/a.csv.gz", "data/in/b.csv", "data/in/deep/c.jsonl", "data/in/empty.csv"]
    assert [entry["path"] for entry in fetching.record["files"]] == names
    assert any("empty.csv" in text for text in fetching.warnings)
    source = FileImport(type="file_import", name="s", path="data/in/**/*.*")
    before = sources.inputs(source, folder)
    assert list(before) == names
    put(folder, "data/in/deep/c.jsonl", b'{"text": "new"}\n')
    after = sources.inputs(source, folder)
    assert [name for name in names if before[name] != after[name]] == ["data/in/deep/c.jsonl"]


def test_globs_outside_the_task_and_names_with_brackets(folder: TaskFolder, tmp_path: Path) -> None:
    (folder.root.parent / "elsewhere").mkdir()
    (folder.root.parent / "elsewhere" / "x.jsonl").write_text('{"text": "x"}\n')
    assert fetched(folder, "../elsewhere/*.jsonl")[0] == [{"text": "x"}]
    assert fetched(folder, f"{folder.root.parent}/else*/x.jsonl")[0] == [{"text": "x"}]
    put(folder, "a[1].jsonl", b'{"text": "one"}\n')
    put(folder, "a1.jsonl", b'{"text": "other"}\n')
    assert fetched(folder, "a[1].jsonl")[0] == [{"text": "one"}]


def test_what_is_not_there_or_cannot_be_read(folder: TaskFolder) -> None:
    folder.sources_path.write_text("sources:\n  - type: file_import\n    path: data/*.csv\n")
    with pytest.raises(Invalid, match=r"no file matches data/\*\.csv") as caught:
        list(sources.fetch(folder.sources().sources[0], sources.Fetching(folder)))
    assert caught.value.line == 3
    (folder.root / "data" / "in").mkdir(parents=True)
    problem = refusal(folder, "data/in", format="csv")
    assert "folder" in problem.message
    assert "data/in/*.csv" in str(problem.mend)
    # A file that is there and gives an input/output error when it is read.
    (folder.root / "broken.csv").symlink_to("/proc/self/mem")
    assert "cannot be read" in refusal(folder, "broken.csv").message
    put(folder, "data/empty.csv", b"")
    put(folder, "data/empty.jsonl", b"\n")
    assert "none of the files" in refusal(folder, "data/empty.*").message


@pytest.mark.parametrize(
    ("content", "records", "expected"),
    [
        ({"meta": {"n": 1}, "features": [{"id": 1, "p": {"x": [2]}}], "none": []}, None, [{"id": 1, "p": {"x": [2]}}]),
        ({"data": {"items": [{"a": 1}, {"a": 2}]}}, "data.items", [{"a": 1}, {"a": 2}]),
        ([{"kind": "x", "r": [{"a": 1}]}, {"kind": "y", "r": [{"a": 2}]}], "[?kind=='y'].r[]", [{"a": 2}]),
    ],
)
def test_rows_within_a_json_file(folder: TaskFolder, content: Any, records: str | None, expected: Any) -> None:
    put(folder, "a.json", json.dumps(content).encode())
    assert fetched(folder, "a.json", records=records)[0] == expected


@pytest.mark.parametrize(
    ("text", "records", "message", "hint"),
    [
        ('{"a": [{"x": 1}], "b": [{"x": 2}]}', None, "several lists", "records: a"),
        ('{"a": {"x": 1}}', "a", "no list", "records:"),
        ('{"a": [1]}', "a[", "JMESPath", "data.items"),
        ('{"a": 1}', "length(a)", "JMESPath", "data.items"),
        ('{"a": [3]}', "a", "list of objects", None),
        ('{"a": 1}\n{"a": 2}\n', None, "not valid JSON", "format: jsonl"),
    ],
)
def test_a_json_file_without_a_list_says_what_it_has(
    folder: TaskFolder, text: str, records: str | None, message: str, hint: str | None
) -> None:
    put(folder, "a.json", text.encode())
    with pytest.raises(Invalid) as caught:
        fetched(folder, "a.json", records=records)
    assert message in caught.value.message
    assert hint is None or hint in str(caught.value.mend)


def test_parquet_is_read_a_batch_at_a_time(folder: TaskFolder) -> None:
    import datetime as dt

    import pyarrow
    from pyarrow import parquet

    day = dt.date(2026, 1, 2)
    columns = {
        "text": [row["text"] for row in ROWS],
        "n": list(range(2500)),
        "day": [day] * 2500,
        "tags": [["甲"], None] * 1250,
        "at": [{"x": 1.5}] * 2500,
    }
    path = folder.root / "a.parquet"
    parquet.write_table(pyarrow.table(columns), path, row_group_size=700)
    rows, fetching = fetched(folder, "a.parquet")
    assert rows[2400] == {"text": ROWS[2400]["text"], "n": 2400, "day": "2026-01-02", "tags": ["甲"], "at": {"x": 1.5}}
    assert fetching.record["files"] == [{"path": "a.parquet", "format": "parquet", "rows": 2500}]
    parquet.write_table(pyarrow.table({"x": [1.0, float("nan")]}), path)
    problem = refusal(folder, "a.parquet")
    assert (problem.line, problem.cause) == (2, "nan is not a number")
    path.write_bytes(path.read_bytes()[:50])
    assert "no parquet file" in refusal(folder, "a.parquet").message
    put(folder, "b.parquet.gz", gzip.compress(b"x"))
    assert "unpack" in str(refusal(folder, "b.parquet.gz").cause)


WORKBOOK = """
import datetime as dt, sys
import openpyxl
book = openpyxl.Workbook()
book.active.title = "說明"
book.active["A1"] = "readme"
sheet = book.create_sheet("評論")
sheet["B2"], sheet["C2"], sheet["D2"], sheet["E2"], sheet["F2"] = "text", "stars", "share", "at", "ok"
for n in range(3):
    sheet.append([None, f"第{n}則", n, n + 0.5, dt.date(2026, 1, 2 + n), n == 1])
sheet.append([])
sheet.append([None, "最後", None, None, dt.datetime(2026, 1, 2, 3, 4, 5)])
wrong = book.create_sheet("wrong")
wrong.append(["text", None, "label"])
wrong.append(["a", None, "x"])
wrong.append(["b", "stray", "y"])
twice = book.create_sheet("twice")
twice.append(["text", "text"])
book.create_sheet("empty")
book.save(sys.argv[1])
"""


@pytest.fixture(scope="session")
def workbook(uv: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A workbook that openpyxl wrote."""
    path = tmp_path_factory.mktemp("xlsx") / "book.xlsx"
    command = [uv["UV"], "run", "-q", "--isolated", "--no-project", "--with", "openpyxl==3.1.5", "python", "-c"]
    environment = {**os.environ, **uv}
    done = subprocess.run(
        [*command, WORKBOOK, str(path)], env=environment, capture_output=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    return path.read_bytes()


@pytest.mark.parametrize("sheet", ["評論", 2, "2"])
def test_a_workbook_gives_the_rows_of_a_sheet(folder: TaskFolder, workbook: bytes, sheet: str | int) -> None:
    put(folder, "a.xlsx", workbook)
    rows, fetching = fetched(folder, "a.xlsx", sheet=sheet)
    assert rows == [
        {"text": "第0則", "stars": 0, "share": 0.5, "at": "2026-01-02", "ok": False},
        {"text": "第1則", "stars": 1, "share": 1.5, "at": "2026-01-03", "ok": True},
        {"text": "第2則", "stars": 2, "share": 2.5, "at": "2026-01-04", "ok": False},
        {"text": "最後", "stars": None, "share": None, "at": "2026-01-02T03:04:05", "ok": None},
    ]
    assert fetching.record["files"][0]["sheet"] == "評論"
    assert fetching.warnings == []


def test_a_workbook_that_is_wrong(folder: TaskFolder, workbook: bytes) -> None:
    put(folder, "a.xlsx", workbook)
    assert "評論" in str(refusal(folder, "a.xlsx", sheet="none").cause)
    assert "no sheet 9" in refusal(folder, "a.xlsx", sheet=9).message
    stray = refusal(folder, "a.xlsx", sheet="wrong")
    assert (stray.line, "'stray'" in str(stray.cause)) == (3, True)
    assert "twice" in refusal(folder, "a.xlsx", sheet="twice").message
    assert "no rows" in refusal(folder, "a.xlsx", sheet="empty").message
    with pytest.raises(Invalid):
        fetched(folder, "a.xlsx")
    put(folder, "b.xlsx", b"PK\3\4 no workbook")
    assert "no xlsx file" in refusal(folder, "b.xlsx").message


def test_several_sheets_are_pointed_out(folder: TaskFolder, workbook: bytes) -> None:
    put(folder, "a.xlsx", workbook)
    fetching = sources.Fetching(folder, preview=True)
    with pytest.raises(Invalid):
        list(sources.fetch(FileImport(type="file_import", name="s", path="a.xlsx"), fetching))
    assert any("several sheets" in text for text in fetching.warnings)


def test_a_missing_extra_is_named(folder: TaskFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    from nlp_skills import extras

    monkeypatch.setattr(extras, "installed", lambda module: False)
    for name in ("a.parquet", "a.xlsx", "a.jsonl.zst"):
        put(folder, name, b"x")
        with pytest.raises(Unavailable) as caught:
            fetched(folder, name)
        assert caught.value.mend == extras.install_command("files")
    # What the core can read it reads, and a missing guess is no guess.
    put(folder, "a.csv", encoded(TRADITIONAL, 40, "big5")[0])
    assert extras.install_command("files") in str(refusal(folder, "a.csv").mend)


def test_the_path_may_come_from_the_environment(folder: TaskFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IN", "incoming")
    put(folder, "incoming/a.jsonl", b'{"text": "a"}\n')
    assert fetched(folder, "${IN}/*.jsonl")[0] == [{"text": "a"}]
