"""Reports of every kind of task: what a reader of the page, of the Markdown and of a phone sees."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args

import finished
import pytest
from conftest import Ran, write_rows
from playwright.sync_api import Browser, Page

from nlp_skills import i18n
from nlp_skills.evaluation import comparison, report, shown
from nlp_skills.schema import yaml
from nlp_skills.schema.kinds import Kind

Cli = Callable[..., Ran]

EVIL = [
    "<script>alert(1)</script><img src=x onerror=alert(2)>",
    "W" * 1000,
    "\u202eevil مرحبا بالعالم",
    "👩‍👩‍👧‍👦" * 30 + " 🇹🇼",
    "nul \x00 \x1b[31m \ud800",
    "{{7919*6947}} | *bold* [x](javascript:alert(3)) `code`",
    "很長" * 160,
]


def opened(
    browser: Browser, path: Path, *, width: int = 390, dark: bool = False, **more: Any
) -> tuple[Page, list[str]]:
    """A page in the browser, and all that it asks for or complains of."""
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme="dark" if dark else "light", **more)
    heard: list[str] = []
    page.on("console", lambda message: heard.append(message.text))
    page.on("dialog", lambda dialog: heard.append(dialog.message))
    page.on("request", lambda request: heard.append(request.url) if request.url != path.as_uri() else None)
    page.goto(path.as_uri())
    return page, heard


# Every text against the first background under it, by the formula of WCAG; canvas turns any colour into bytes.
_CONTRAST = """() => {
  const context = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
  const over = (colours) => { context.clearRect(0, 0, 1, 1);
    for (const colour of colours) { context.fillStyle = colour; context.fillRect(0, 0, 1, 1); }
    return [...context.getImageData(0, 0, 1, 1).data].slice(0, 3); };
  const light = (rgb) => rgb.map((c) => c / 255).map((c) => c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, place) => sum + c * [0.2126, 0.7152, 0.0722][place], 0);
  const poor = [];
  for (const element of document.querySelectorAll("body *")) {
    if (![...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim())) continue;
    const grounds = [];
    for (let at = element; at; at = at.parentElement) grounds.unshift(getComputedStyle(at).backgroundColor);
    const ground = over(grounds), text = over([...grounds, getComputedStyle(element).color]);
    const [low, high] = [light(ground), light(text)].sort((a, b) => a - b), ratio = (high + 0.05) / (low + 0.05);
    if (ratio < 4.5) poor.push(element.tagName + " " + element.className + " " + ratio.toFixed(2));
  }
  return [...new Set(poor)];
}"""


@pytest.mark.parametrize("kind", [kind for kind in get_args(Kind) if kind != "label"])
def test_each_kind_of_answer_is_shown_as_it_is_read(project: Path, cli: Cli, browser: Browser, kind: Kind) -> None:
    folder = finished.of_kind(project / "task", kind)
    assert cli("report", "task", "v2").out == "report: task/versions/v2/report.html\n"
    page, heard = opened(browser, folder.version("v2").report_path, width=1280)
    text = page.inner_text("main")
    page.close()
    results = folder.version("v2").results()
    assert results and f"{results.success.value:.1%}" in text and "v2 meets its success criteria" in text
    assert "v2 is better than v1" in text and heard == []
    if kind == "spans":
        assert re.search(r"Acme Robotics\s*organisation · missed", text) and re.search(r"Osaka\s*place · missed", text)
        assert re.search(r"Acme\s*organisation · wrong", text) and "Mara Lindqvist → works_for → Acme Robotics" in text
        assert re.search(r"國立\s*臺灣\s*place · missed\s*大學\s*organisation", text), "a name within a name"
        assert re.search(r"It said:\s*\{not json", text)
    elif kind == "fields":
        assert re.search(r"amount\s+2\s+1\s+✗ wrong|amount\s*2\s*1\s*✗ wrong", text) and "相機" in text
    elif kind == "text":
        assert "It passes packets from one network to another." in text and "It is a kind of camera." in text
    else:
        assert re.search(r"delivery, price\s+delivery", text) and "could not be read" in text


def test_entities_are_marked_where_the_score_has_them() -> None:
    """The second of two alike, one within another, one across another, one that stands nowhere, and a long text."""

    def marks(pieces: list[shown.Piece]) -> list[tuple[str, str | None, bool]]:
        found = []
        for piece in pieces:
            inner = "".join(text for text, _type, _right in marks(piece.inner)) if piece.type else piece.text
            found += [(inner, piece.type, piece.right), *[one for one in marks(piece.inner) if one[1]]]
        return found

    def entity(text: str, kind: str, start: int | None = None) -> dict[str, Any]:
        return {"text": text, "type": kind, **({} if start is None else {"start": start})}

    text = "Bank of Bank Street. " + "filler " * 80 + "end"
    gold = {"entities": [entity("Bank", "org", 8), entity("Bank of Bank", "org"), entity("end", "org")]}
    given = {"entities": [entity("of Bank Street", "place"), entity("Bank", "org"), entity("moon", "place")]}
    true, answered = shown.marked({"gold": gold, "predicted": given, "input": {"id": "7", "text": text}})
    drawn = [one for one in marks(true.pieces) if one[1]]
    assert drawn == [("Bank of Bank", "org", False), ("Bank", "org", False)]
    assert ("end (org)", False) in true.rest and true.pieces[-1].text == "…"
    assert [one for one in marks(answered.pieces) if one[1]] == [
        ("Bank", "org", False), ("of Bank Street", "place", False)
    ]  # fmt: skip
    assert answered.rest == [("moon (place)", False)]
    late = {"gold": {"entities": [entity("end", "org")]}, "predicted": None, "input": {"text": text}}
    assert ("end", "org", False) in marks(shown.marked(late)[0].pieces), "what is wrong is in what is shown of it"


@pytest.mark.parametrize("kind", ["spans", "fields", "text", "labels"])
def test_hostile_text_stays_text_and_within_a_phone(project: Path, browser: Browser, kind: Kind) -> None:
    folder = finished.of_kind(project / "task", kind, rows=28)
    for name in ("v1", "v2"):
        path = folder.version(name).predictions_path
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        path.write_text(
            "".join(
                json.dumps(_spoilt(kind, number, row, right=name == "v2" and number % 2 == 0)) + "\n"
                for number, row in enumerate(rows)
            )
        )
    pages = [report.write(folder, "v2"), report.write_comparison(comparison.of(folder, ("v1", "v2")))]
    for path in pages:
        page, heard = opened(browser, path)
        assert heard == [] and page.query_selector("script, img, iframe") is None
        assert page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") == 0
        content = page.content()
        assert "55013293" not in content and not set("\x00\x1b\u202e") & set(content)
        page.close()
    assert any("&lt;script&gt;" in path.read_text(encoding="utf-8") for path in pages)
    text = report.write_markdown(folder, "v2").read_text(encoding="utf-8")
    assert not re.search(r"(?<!\\)<|(?<!\\)\]\(javascript", text) and not set("\x00\x1b\u202e") & set(text)
    tables = [line for line in text.splitlines() if line.startswith("|")]
    assert len(tables) > 20
    for line in tables:
        assert max(map(len, re.split(r"(?<!\\)\|", line))) < 700, "cells are cut"


def _spoilt(kind: Kind, number: int, row: dict[str, Any], *, right: bool) -> dict[str, Any]:
    evil = EVIL[number % len(EVIL)]
    row = {**row, "input": {"text": evil}, "raw": evil, "correct": right}
    if kind == "spans":
        row["gold"] = {"entities": [{"text": evil[:200], "type": evil}], "relations": [dict.fromkeys(
            ("head", "type", "tail"), evil)]}  # fmt: skip
        row["predicted"] = {"entities": [{"text": evil[2:9], "type": "z"}]} if number % 2 else None
    elif kind == "fields":
        row["gold"], row["predicted"] = {"product": evil, "amount": 1, "gift": None}, {"product": [evil, {evil: evil}]}
    elif kind == "text":
        row["gold"], row["predicted"] = evil, evil[::-1]
    return row


@pytest.mark.parametrize(("language", "dark"), [("en", False), ("zh-TW", True)])
def test_the_page_can_be_read_by_everybody(project: Path, browser: Browser, language: str, *, dark: bool) -> None:
    """Contrast in light and dark, headings that skip no level, tables with captions, drawings with titles."""
    sample = finished.CHINESE if language == "zh-TW" else finished.ENGLISH
    folders = [finished.task(project / "reviews", sample), finished.of_kind(project / "entities", "spans")]
    finding = {
        "code": "few_rows", "title": "新資料太少", "severity": "critical", "or_else": [],
        "evidence": [{"text": "a class has 12 rows", "file": "data/train.jsonl", "rows": [3]}],
        "change": {"text": "label more", "commands": ["nlp-skills new-version reviews --from v2"], "settings": {}},
        "effect": None, "effort": {"training_seconds": 160.0, "label_rows": 200},
    }  # fmt: skip
    i18n.set_language(language)
    try:
        paths = [report.write(folder, "v2", findings=[finding]) for folder in folders]
        paths.append(report.write_comparison(comparison.of(folders[0], ("v1", "v2"))))
    finally:
        i18n.set_language(None)
    for path in paths:
        page, _heard = opened(browser, path, width=1280, dark=dark)
        assert page.evaluate(_CONTRAST) == []
        levels = page.evaluate("[...document.querySelectorAll('h1,h2,h3,h4')].map((one) => +one.tagName[1])")
        assert levels[0] == 1 and levels.count(1) == 1
        assert all(after - before <= 1 for before, after in pairwise(levels))
        assert page.evaluate("document.querySelectorAll('table:not(:has(caption))').length") == 0
        assert page.evaluate(
            "[...document.querySelectorAll('svg[role=img]')].every((one) => one.querySelector('title'))"
        )
        links = page.evaluate("[...document.querySelectorAll('a')].map((one) => one.getAttribute('href'))")
        assert all(page.query_selector(link) for link in links)
        page.close()
    text = paths[0].read_text(encoding="utf-8")
    assert sample.labels[0] in text and "data/train.jsonl:3" in text and "2 min 40 s" in text


def test_a_simple_means_that_wins_is_said_before_all_else(project: Path, browser: Browser) -> None:
    path = report.write(finished.task(project / "weak", rights=(0.3,)), "v1")
    page, _heard = opened(browser, path)
    first = page.inner_text("main").splitlines()[0]
    page.close()
    assert first.startswith("TF-IDF and logistic regression reaches")


def test_markdown_is_the_same_in_tables(project: Path, cli: Cli) -> None:
    folder = finished.task(project / "reviews")
    out = project / "MODEL_CARD.md"
    ran = cli("report", "reviews", "v2", "--format", "markdown", "--out", out, "--json")
    assert ran.code == 0 and ran.json["report"] == str(out) and ran.json["format"] == "markdown"
    text = out.read_text(encoding="utf-8")
    results = folder.version("v2").results()
    assert results
    low, high = (f"{edge:.1%}" for edge in results.intervals["macro_f1"])
    assert f"| Macro-F1 | {results.metrics['macro_f1']:.1%} | {low} – {high} |" in text
    assert "**v2 meets its success criteria**" in text and "✓ met" in text
    counts = results.confusion_matrix.counts[0] if results.confusion_matrix else []
    assert f"| positive | {' | '.join(map(str, counts))} |" in text
    assert "nlp-skills train reviews --version v2 --again" in text
    assert cli("report", "reviews", "v2", "--format", "markdown", "--out", out).code == 0, "its own may be replaced"
    assert cli("report", "reviews", "--format", "markdown").out == "report: reviews/versions/v1/report.md\n"


def test_a_file_of_somebody_elses_is_not_written_over(project: Path, cli: Cli) -> None:
    finished.task(project / "reviews")
    mine = project / "README.md"
    mine.write_text("mine", encoding="utf-8")
    for form in ("html", "markdown"):
        ran = cli("report", "reviews", "--format", form, "--out", mine)
        assert ran.code == 2 and "--out PATH" in ran.err
    assert mine.read_text(encoding="utf-8") == "mine"
    assert cli("report", "reviews", "v1", "--version", "v2").code == 2
    assert cli("report", "reviews", "v7").code == 1


def test_flips_of_other_kinds_are_words_in_the_terminal_too(project: Path, cli: Cli) -> None:
    finished.of_kind(project / "task", "spans")
    out = cli("compare", "task", "v1", "v2").out
    assert "Put right: " in out and "國立臺灣大學 (organisation); 高雄 (place) → 國立臺灣大學" in out


def test_a_report_needs_no_splits_and_no_diagnosis(project: Path, cli: Cli) -> None:
    """What is left after a clean-up: predictions and results."""
    folder = finished.of_kind(project / "task", "spans")
    folder.split("test").unlink()
    for path in (folder.version("v2").metrics_path, folder.version("v2").snapshot_path):
        path.unlink()
    yaml.change(folder.task_path, {("goal",): "Names in the news"})
    ran = cli("report", "task", "v2")
    assert ran.code == 0, ran.err
    assert "organisation · missed" in folder.version("v2").report_path.read_text(encoding="utf-8")
    write_rows(folder.version("v2").predictions_path, [{"key": "k", "gold": "a label", "predicted": "b"}])
    assert cli("report", "task", "v2").code == 1, "predictions of another kind"


def test_mistakes_stand_beside_the_training_rows_like_them(project: Path, browser: Browser) -> None:
    folder = finished.task(project / "reviews")
    test = [json.loads(line) for line in folder.split("test").read_text(encoding="utf-8").splitlines()]
    train = [{"text": row["text"].split(" ", 1)[1], "label": "positive"} for row in test[:15]]
    write_rows(folder.split("train"), [*train, *({"text": f"{n} plain", "label": "neutral"} for n in range(15))])
    page, _heard = opened(browser, report.write(folder, "v2"))
    near = page.query_selector_all(".near")
    assert near and not near[0].query_selector("ul").is_visible()  # type: ignore[union-attr]
    page.keyboard.press("Tab")
    near[0].query_selector("summary").press("Enter")  # type: ignore[union-attr]
    assert re.search(r"→ positive line \d+ of train, similarity \d+%", near[0].inner_text())
    page.emulate_media(media="print")
    assert not page.is_visible("nav")
    page.close()
