"""The audit finds what was planted, shows nothing it should not, and always ends well."""

from __future__ import annotations

import json
import random
import re
import subprocess
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from conftest import LABELS, Ran, reviews, write_rows

from nlp_skills import i18n
from nlp_skills.data.audit import audit, consistency, label_errors
from nlp_skills.data.audit.reading import entry_of
from nlp_skills.workspace.folder import TaskFolder

Cli = Callable[..., Ran]
Row = dict[str, Any]


def splits(root: Path, rows: list[Row]) -> Path:
    """Rows as the three splits, without a pipeline in between."""
    cut = [rows[: len(rows) * 6 // 10], rows[len(rows) * 6 // 10 : len(rows) * 7 // 10], rows[len(rows) * 7 // 10 :]]
    for name, part in zip(("train", "valid", "test"), cut, strict=True):
        write_rows(root / "data" / f"{name}.jsonl", part)
    return root


def noisy(rows: list[Row], share: float) -> tuple[list[Row], set[str]]:
    """Some labels changed to another; the texts of those."""
    draw = random.Random(11)
    wrong = set(draw.sample(range(len(rows)), round(len(rows) * share)))
    changed = [
        {**row, "label": draw.choice([label for label in LABELS if label != row["label"]])} if at in wrong else row
        for at, row in enumerate(rows)
    ]
    return changed, {rows[at]["text"] for at in wrong}


@pytest.fixture
def task(make_task: Callable[..., Path]) -> Path:
    return make_task()


def found(root: Path) -> Row:
    return audit(TaskFolder.at(root)).found


def at(root: Path, entry: Row) -> Row:
    """The row a result points at, by file and line."""
    line: Row = json.loads((root / entry["file"]).read_text(encoding="utf-8").splitlines()[entry["line"] - 1])
    return line


def test_planted_label_errors_are_found(task: Path) -> None:
    rows, wrong = noisy(reviews(900), 0.04)
    splits(task, rows)
    result = found(task)["label_errors"]
    named = [at(task, entry) for entry in result["found"]]
    hits = [row for row in named if row["text"] in wrong]
    truth = {row["text"]: row["label"] for row in reviews(900)}
    precision, recall = len(hits) / len(named), len(hits) / len(wrong)
    # Measured with four draws of the wrong rows: precision 1.00 each time, recall 0.89 to 0.97.
    assert precision > 0.95 and recall > 0.8, (precision, recall)
    right = sum(truth[at(task, e)["text"]] == e["suggested"] for e in result["found"] if at(task, e)["text"] in wrong)
    assert right / len(hits) > 0.9
    assert all(entry["given"] == at(task, entry)["label"] for entry in result["found"])
    assert result["reliable"] and result["rows"] == 900
    assert sum(pair["count"] for pair in result["confusion"]) == result["count"]


def test_where_the_labels_are_chance_it_says_that_it_knows_nothing(task: Path) -> None:
    draw = random.Random(4)
    splits(task, [{**row, "label": draw.choice(LABELS)} for row in reviews(300)])
    assert found(task)["label_errors"]["reliable"] is False
    assert "hardly knows these labels" in (task / "docs/data_card.md").read_text(encoding="utf-8")


def test_clean_labels_give_next_to_no_suspicion(task: Path) -> None:
    splits(task, reviews(600))
    assert found(task)["label_errors"]["count"] <= 6


def several_labels(task: Path) -> None:
    text = (task / "task.yaml").read_text(encoding="utf-8").replace("type: text", "type: json")
    old = "type: string\n      enum: [positive, neutral, negative]"
    new = "type: array\n      items: {type: string, enum: [camera, fast, cheap]}"
    assert old in text
    (task / "task.yaml").write_text(text.replace(old, new), encoding="utf-8")


def test_label_errors_among_several_labels(task: Path) -> None:
    several_labels(task)
    draw = random.Random(6)
    words = {"camera": "the camera takes sharp pictures", "fast": "it starts at once", "cheap": "the price is low"}
    rows, wrong = [], set()
    for number in range(400):
        labels = [label for label in words if draw.random() < 0.5]
        text = f"No. {number}: " + "; ".join(words[label] for label in labels or []) + "."
        if number % 25 == 0:
            flip = draw.choice(list(words))
            labels = [label for label in words if (label in labels) != (label == flip)]
            wrong.add(text)
        rows.append({"text": text, "label": labels})
    splits(task, rows)
    result = found(task)["label_errors"]
    hits = sum(at(task, entry)["text"] in wrong for entry in result["found"])
    # Measured with four draws and three seeds each: precision 1.00 each time, recall 0.62 to 1.00.
    assert hits / len(wrong) > 0.55 and hits / result["count"] > 0.9


@pytest.mark.parametrize(
    ("rows", "code"),
    [
        ([{**row, "label": "neutral"} for row in reviews(90)], "one_class"),
        (reviews(30), "too_few_rows"),
        ([{**row, "label": "positive" if n < 87 else "neutral"} for n, row in enumerate(reviews(90))],
         "too_few_rows_in_classes"),
    ],
)  # fmt: skip
def test_what_cannot_be_judged_is_said(task: Path, cli: Cli, rows: list[Row], code: str) -> None:
    splits(task, rows)
    ran = cli("audit")
    assert ran.code == 0
    assert "left out: label errors: " in ran.out
    assert cli("audit", "--json").json["label_errors"]["skipped"]["code"] == code


def test_a_rare_class_is_left_out_by_name(task: Path) -> None:
    splits(task, [row for n, row in enumerate(reviews(300)) if row["label"] != "negative" or n < 9])
    assert found(task)["label_errors"]["left_out"] == {"negative": 3}


def test_the_same_and_nearly_the_same_with_other_answers(task: Path) -> None:
    long = "This is a long enough review of a camera that somebody wrote twice with another comma"
    rows = [
        {"text": long, "label": "positive"},
        {"text": f"{long}!", "label": "negative"},
        {"text": "Same words", "label": "positive"},
        {"text": "same  WORDS", "label": "neutral"},
        {"text": "Other same words, agreed on", "label": "neutral"},
        {"text": "Other same words, agreed on.", "label": "neutral"},
        *reviews(60),
    ]
    splits(task, rows)
    result = found(task)["conflicts"]
    assert result["searched"] == "near"
    answers = [{member["answer"] for member in group["members"]} for group in result["found"]]
    assert answers == [{"positive", "negative"}, {"positive", "neutral"}]
    assert {(m["file"], m["line"]) for m in result["found"][0]["members"]} == {
        ("data/train.jsonl", 1), ("data/train.jsonl", 2)}  # fmt: skip


SECRETS = ["A123456789", "0912-345-678", "02-2345-6789", "ming@example.com", "4111 1111 1111 1111"]


def test_personal_data_is_placed_and_never_written(task: Path, cli: Cli) -> None:
    rows: list[Row] = list(reviews(90))
    rows[3] = {**rows[3], "text": f"{rows[3]['text']} 身分證 {SECRETS[0]}，電話 {SECRETS[1]}。"}
    rows[50] = {**rows[50], "note": {"who": [f"mail {SECRETS[3]}"]}, "annotator": SECRETS[3]}
    rows[80] = {**rows[80], "text": f"{SECRETS[2]} {SECRETS[4]} {rows[80]['text']}"}
    # It stands in every place that shows a text: a suspected label, a contradiction, a dispute.
    rows += [{"text": f"call {SECRETS[1]} now please, it is great", "label": label} for label in LABELS]
    splits(task, rows)
    raw = [{**rows[3], "annotator": name, "label": label} for name, label in (("a", "neutral"), ("b", "positive"))]
    write_rows(task / "data/raw/reviews.jsonl", raw)
    ran = cli("audit", "--json")
    result = ran.json["pii"]
    assert result["kinds"] == {"tw_id": 1, "mobile": 4, "landline": 1, "email": 2, "card": 1}
    assert (result["count"], result["rows"]) == (9, 6)
    first = result["places"][0]
    assert (first["file"], first["line"], first["kind"], first["field"]) == ("data/train.jsonl", 4, "tw_id", "text")
    assert "[tw_id]" in first["excerpt"] and "[mobile]" in first["excerpt"]
    note = next(place for place in result["places"] if place["field"] == "note")
    assert note["excerpt"] == "mail [email]"
    shown = cli("audit")
    written = [path.read_text(encoding="utf-8") for path in (task / "docs").iterdir()]
    assert len(written) == 3
    for text in (ran.out, ran.err, shown.out, shown.err, *written):
        for secret in SECRETS:
            assert secret not in text
            assert secret.replace("-", "").replace(" ", "") not in text


def test_three_files_the_same_but_for_the_time(task: Path, cli: Cli) -> None:
    splits(task, noisy(reviews(200), 0.05)[0])
    first = found(task)
    second = found(task)
    assert {**first, "created": ""} == {**second, "created": ""}
    assert json.loads((task / "docs/data_audit.json").read_text(encoding="utf-8")) == second


NER = """\
task_name: ner
version: v1
task_type: extraction
input_template: "{text}"
output_format:
  type: json
  schema:
    entities:
      type: array
      items:
        type: object
        properties: {text: {type: string}, type: {type: string}, start: {type: integer}, end: {type: integer}}
"""


def marked(text: str, *entities: tuple[str, str]) -> Row:
    listed = [{"text": e, "type": k, "start": text.index(e), "end": text.index(e) + len(e)} for e, k in entities]
    return {"text": text, "entities": listed}


@pytest.fixture
def ner(project: Path) -> TaskFolder:
    root = project / "ner"
    root.mkdir()
    (root / "task.yaml").write_text(NER, encoding="utf-8")
    (root / "data_source.yaml").write_text("sources: []\n", encoding="utf-8")
    return TaskFolder.at(root)


def consistent(folder: TaskFolder, rows: list[Row]) -> Row:
    task = folder.task()
    return consistency.search([entry_of(row, "train", n, task) for n, row in enumerate(rows, 1)], task)


def test_entities_marked_now_this_way_now_that(ner: TaskFolder) -> None:
    result = consistent(
        ner,
        [
            marked("台積電今天大漲", ("台積電", "公司")),
            marked("聽說台積電要擴廠", ("台積電", "公司")),
            marked("我愛台積電", ("台積電", "品牌")),
            marked("台積電又跌了"),
            marked("台積電公司公布財報", ("台積電公司", "公司")),
            marked("台積電公司的股東會", ("台積電", "公司")),
        ],
    )
    (several,) = result["several_types"]
    assert several["text"] == "台積電"
    assert [(kind["type"], kind["rows"]) for kind in several["types"]] == [("公司", 3), ("品牌", 1)]
    assert several["types"][1]["places"] == [{"file": "data/train.jsonl", "line": 3}]
    (forgotten,) = result["forgotten"]
    assert (forgotten["text"], forgotten["marked"], forgotten["unmarked"]) == ("台積電", 4, 1)
    assert forgotten["places"] == [{"file": "data/train.jsonl", "line": 4}]
    (ends,) = result["ends"]
    assert (ends["longer"], ends["shorter"]) == ("台積電公司", "台積電")
    assert ends["places"] == [{"file": "data/train.jsonl", "line": 6}]
    assert result["count"] == 3


def test_what_is_consistent_is_left_alone(ner: TaskFolder) -> None:
    rows = [
        marked("Ann went home", ("Ann", "person")),
        marked("Then Ann slept", ("Ann", "person")),
        marked("ANN woke up", ("ANN", "person")),
        marked("The Annual meeting"),
        marked("Apple grows", ("Apple", "company")),
        marked("an apple a day"),
        marked("one more apple"),
        marked("another apple"),
        marked("台積電與台積電公司", ("台積電公司", "公司")),
        {"text": "x", "entities": ["broken", {"text": 3}]},
    ]
    result = consistent(ner, rows)
    assert (result["several_types"], result["forgotten"], result["ends"]) == ([], [], [])


class Page(HTMLParser):
    """Every element closed in turn; its words and its links."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.words: list[str] = []
        self.links: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.links += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "action")]
        if tag not in ("meta", "br", "hr"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words.append(data)


HOSTILE = ["<script>alert(1)</script>", "{{7*7}} {% raw %}", '"><img src=x onerror=alert(1)>', "| a | b `x` \u202e\x07"]


@pytest.mark.parametrize("language", ["en", "zh-TW"])
def test_the_page_is_whole_loads_nothing_and_data_is_only_text(task: Path, language: str) -> None:
    rows: list[Row] = noisy(reviews(300), 0.05)[0]
    rows = [{**row, "text": f"{row['text']} {HOSTILE[n % 4]}"} for n, row in enumerate(rows)]
    rows[0] = {**rows[0], "<b>key</b>": "ming@example.com"}
    splits(task, rows)
    raw = [{**row, "annotator": f"<i>{name}</i>"} for row in rows[:40] for name in "ab"]
    raw[1]["label"] = raw[3]["label"] = "neutral"
    write_rows(task / "data/raw/reviews.jsonl", raw)
    i18n.set_language(language)
    try:
        done = audit(TaskFolder.at(task))
    finally:
        i18n.set_language(None)
    html = done.report.read_text(encoding="utf-8")
    page = Page(html)
    assert page.links == []
    assert not re.search(r"https?:|@import|url\(|<script|<img|<i>|<b>key", html)
    text = " ".join(page.words)
    assert "<script>alert(1)</script>" in text and "{{7*7}}" in text and "<i>a</i>" in text and "\\u202e" in text
    assert "\u202e" not in html and "\x07" not in html
    assert f'<html lang="{language}">' in html
    card = done.card.read_text(encoding="utf-8")
    assert "<script>" not in card


def test_the_card_says_facts_and_no_secret(task: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_TOKEN", "geheim-planted")
    path = task / "data_source.yaml"
    extra = (
        "  - {type: api, name: shop, endpoint: 'http://127.0.0.1:9/', auth: {type: bearer, token: '${SHOP_TOKEN}'}}\n"
    )
    assert cli("regenerate").code == 0
    path.write_text(path.read_text(encoding="utf-8").replace("split:", f"{extra}split:"), encoding="utf-8")
    assert cli("audit").code == 0
    card = (task / "docs/data_card.md").read_text(encoding="utf-8")
    assert "${SHOP_TOKEN}" in card and "path: reviews.jsonl" in card
    assert not any("geheim" in file.read_text(encoding="utf-8") for file in (task / "docs").iterdir())
    assert re.search(r"\| train \| 72 \| sha256:[0-9a-f]{64} \|", card)
    assert "| test | 36 | 0 | 12 | 12 | 12 |" in card
    assert "nlp-skills audit sentiment" in card
    # Tables hold together: every row of one has as many cells as its head.
    for block in re.findall(r"(?:^\|.*\n)+", card, re.MULTILINE):
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}) == 1


def test_bad_rows_are_counted_and_no_data_is_refused(task: Path, cli: Cli) -> None:
    ran = cli("audit")
    assert ran.code == 1
    assert "train.jsonl" in ran.err and "nlp-skills regenerate" in ran.err
    splits(task, list(reviews(90)))
    with open(task / "data/train.jsonl", "a", encoding="utf-8") as stream:
        stream.write('{"text": 3}\nnot json\n\n')
    ran = cli("audit", "--json")
    assert ran.code == 0
    assert ran.json["figures"]["splits"]["train"]["bad"] == 2
    for name in ("train", "valid", "test"):
        (task / f"data/{name}.jsonl").write_text("\n{}\n", encoding="utf-8")
    ran = cli("audit")
    assert ran.code == 1 and "bad lines: 3" in ran.err and "Traceback" not in ran.err


def test_an_unknown_annotator_column_is_refused_and_leaves_the_docs(task: Path, cli: Cli) -> None:
    splits(task, list(reviews(90)))
    assert cli("audit").code == 0
    before = (task / "docs/data_audit.json").read_bytes()
    ran = cli("audit", "--annotator", "nobody")
    assert ran.code == 2 and "nobody" in ran.err
    assert (task / "docs/data_audit.json").read_bytes() == before


def test_without_the_extra_it_says_how_to_get_it(task: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    from nlp_skills import extras

    splits(task, list(reviews(90)))
    monkeypatch.setattr(extras, "installed", lambda module: module != "cleanlab")
    ran = cli("audit")
    assert ran.code == 3
    assert "cleanlab" in ran.err and "quality" in ran.err


def test_an_interrupted_audit_leaves_the_earlier_files(task: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    splits(task, list(reviews(90)))
    assert cli("audit").code == 0
    before = {path.name: path.read_bytes() for path in (task / "docs").iterdir()}

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(label_errors, "search", stop)
    assert cli("audit").code == 130
    assert {path.name: path.read_bytes() for path in (task / "docs").iterdir()} == before


def test_a_browser_draws_the_page(task: Path, chromium: str, tmp_path: Path) -> None:
    splits(task, noisy(reviews(200), 0.05)[0])
    page = audit(TaskFolder.at(task)).report
    picture = tmp_path / "page.png"
    subprocess.run(
        [chromium, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
         "--disable-component-update", "--disable-sync", "--no-first-run", f"--user-data-dir={tmp_path / 'browser'}",
         "--window-size=900,1400", f"--screenshot={picture}", page.as_uri()],
        check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    assert picture.stat().st_size > 20_000
