from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import finished
import pytest
from conftest import Ran, write_rows

from nlp_skills import errors, i18n
from nlp_skills.evaluation import charts, comparison, report
from nlp_skills.workspace.folder import TaskFolder

VOID = {"meta", "hr", "br", "link", "img", "input"}


class Page(HTMLParser):
    """A page as a browser would take it: every element closed in turn, its text, and what it would load."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.words: list[str] = []
        self.links: list[str] = []
        self.attributes: dict[str, list[dict[str, str | None]]] = {}
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        assert len(found) == len(attrs), f"an attribute twice in <{tag}>"
        self.attributes.setdefault(tag, []).append(found)
        self.links += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "data", "action")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


@pytest.fixture
def task(project: Path) -> TaskFolder:
    return finished.task(project / "reviews")


def page(path: Path) -> Page:
    return Page(path.read_text(encoding="utf-8"))


def comparison_page(folder: TaskFolder, *names: str) -> Path:
    return report.write_comparison(comparison.of(folder, names or ("v1", "v2")))


def change_predictions(folder: TaskFolder, version: str, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    path = folder.version(version).predictions_path
    write_rows(path, [change(json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()])


def test_the_page_says_what_decides(task: TaskFolder) -> None:
    path = report.write(task, "v2")
    assert path == task.root / "versions" / "v2" / "report.html"
    text = page(path).text
    results = task.version("v2").results()
    assert results is not None
    for words in (
        "v2 meets its success criteria",
        f"{results.metrics['macro_f1'] * 100:.1f}%",
        "Macro-F1: at least the threshold",
        "✓ met",
        "v2 is better than v1",
        "TF-IDF and logistic regression",
        "Always the commonest class",
        "Base model, untrained",
        "LoRA rank 8 → 16",
        "nlp-skills train reviews --version v2 --again",
        "2 min 41 s",
        "learning_rate: 0.0002",
    ):
        assert words in text
    assert text.index("meets its success criteria") < text.index("Beside simpler means")


@pytest.mark.parametrize("language", ["en", "zh-TW"])
def test_both_pages_are_whole_load_nothing_and_name_their_language(project: Path, language: str) -> None:
    sample = finished.CHINESE if language == "zh-TW" else finished.ENGLISH
    folder = finished.task(project / "評論", sample)
    i18n.set_language(language)
    try:
        paths = [report.write(folder, "v2"), comparison_page(folder)]
    finally:
        i18n.set_language(None)
    for path in paths:
        html = path.read_text(encoding="utf-8")
        found = Page(html)
        assert found.attributes["html"] == [{"lang": language}]
        assert all(link.startswith("#") for link in found.links)
        assert not re.search(r"https?:|@import|url\(|<script", html)
        assert all(label in found.text for label in sample.labels)
        assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in found.attributes["meta"]


HOSTILE = ["<script>alert(1)</script>", "{{7*191}} {% raw %}", '"><img src=x onerror=alert(1)>', "&lt;b&gt; \u202e\x00"]


def test_text_from_data_is_only_ever_text(task: TaskFolder) -> None:
    texts = iter(HOSTILE * 60)
    change_predictions(task, "v1", lambda row: {**row, "input": {"text": next(texts)}})
    change_predictions(task, "v2", lambda row: {**row, "input": {"text": next(texts, HOSTILE[0])}})
    task.task_path.write_text(
        task.task_path.read_text(encoding="utf-8").replace("Which reviews", "<i>Which</i> {{reviews}}"),
        encoding="utf-8",
    )
    for path in (report.write(task, "v2"), comparison_page(task)):
        found = page(path)
        assert "<i>Which</i> {{reviews}}" in found.text
        assert not found.attributes.keys() & {"script", "img"}
        # Our own bars are the only <i> there is.
        assert all("style" in element for element in found.attributes.get("i", []))
        assert "<script>alert(1)</script>" in found.text and "{{7*191}}" in found.text and "1337" not in found.text


def test_a_long_text_is_cut(task: TaskFolder) -> None:
    change_predictions(task, "v2", lambda row: {**row, "input": {"text": "很長" * 5000, "title": "x"}})
    html = report.write(task, "v2").read_text(encoding="utf-8")
    assert "text: 很長" in html and "…" in html and len(html) < 60_000


def test_a_baseline_that_wins_is_said_first(project: Path) -> None:
    folder = finished.task(project / "weak", rights=(0.3,))
    text = page(report.write(folder, "v1")).text
    assert "does not meet its success criteria" in text
    warning = "TF-IDF and logistic regression reaches"
    assert warning in text and text.index(warning) < text.index("Beside simpler means")
    assert "is worse than TF-IDF" in text


def test_where_the_rows_cannot_tell_it_is_said(project: Path) -> None:
    folder = finished.task(project / "close", rights=(0.6,), rows=60)
    assert "60 test rows leave" in page(report.write(folder)).text


def test_a_perfect_version_has_no_mistakes_to_show(project: Path) -> None:
    assert (
        "Every test row was answered correctly" in page(report.write(finished.task(project / "best", rights=(1,)))).text
    )


def test_it_does_without_what_a_clean_up_took(task: TaskFolder) -> None:
    version = task.version("v2")
    for path in (version.metrics_path, version.snapshot_path, version.model_info_path, version.lineage_path):
        path.unlink()
    assert "v2 meets its success criteria" in page(report.write(task, "v2")).text


def test_versions_are_judged_beside_the_one_asked_for(project: Path) -> None:
    folder = finished.task(project / "three", rights=(0.5, 0.9, 0.9))
    assert "v3 is better than v1" in page(report.write(folder, "v3", against="v1")).text
    assert "v3 is better than v2 cannot be told" in page(report.write(folder, "v3")).text


def test_the_comparison_has_its_verdict_the_flips_and_the_settings(task: TaskFolder) -> None:
    path = comparison_page(task)
    assert path == task.root / "benchmarks" / "compare_v1_v2.html"
    text = page(path).text
    for words in ("v2 is better", "Put right", "Broken", "train_count", "+100%", "exact McNemar", "Validation loss"):
        assert words in text


def test_six_versions_stand_on_one_page_each_in_its_own_colour(project: Path) -> None:
    folder = finished.task(project / "six", rights=(0.5, 0.9, 0.9, 0.6, 0.7, 0.8))
    found = page(comparison_page(folder, *(f"v{n}" for n in range(1, 7))))
    lines = [line["class"] for line in found.attributes["polyline"]]
    assert lines == [f"line s{place}" for place in range(6)] * 2
    bars = [element for element in found.attributes["div"] if str(element.get("class")).startswith("row s")]
    assert len(bars) == 6 * 3
    assert "Which is best cannot be told: it may be any of v2, v3" in found.text
    assert "v1 → v6" in found.text and "v2 – v5" in found.text and "Holm's p" in found.text


def test_versions_tested_on_other_rows_are_not_compared(task: TaskFolder) -> None:
    change_predictions(task, "v1", lambda row: {**row, "key": f"other-{row['key']}"})
    text = page(comparison_page(task)).text
    assert "They cannot be compared" in text and "They share 0" in text
    assert "only in v1: 180, only in v2: 180" in text and "Only in v2 10 of 180 rows" in text


def test_the_curves_of_versions_lie_over_one_another_by_epoch(tmp_path: Path) -> None:
    slow = write_rows(tmp_path / "a.jsonl", [{"step": n, "epoch": n / 100, "loss": 2.0} for n in range(1, 301)])
    fast = write_rows(tmp_path / "b.jsonl", [{"step": n, "epoch": float(n), "loss": 1.0} for n in range(1, 4)])
    drawn = charts.overlay({"v1": slow, "v2": fast, "v3": tmp_path / "none"}, "loss")
    assert drawn is not None and drawn.by_epoch
    assert [line.name for line in drawn.lines] == ["v1", "v2"]
    ends = [line.points.split()[-1] for line in drawn.lines]
    assert ends == ["100.0,0.0", "100.0,50.0"], "both end at the third epoch"
    assert len(drawn.lines[0].points.split()) == charts.MEANS
    write_rows(fast, [{"step": 1, "loss": 1.0}, {"step": 2, "loss": 1.0}])
    by_step = charts.overlay({"v1": slow, "v2": fast}, "loss")
    assert by_step is not None and not by_step.by_epoch
    assert charts.overlay({"v1": slow}, "eval_loss") is None


def test_a_version_without_results_is_refused_with_the_way_out(task: TaskFolder, cli: Callable[..., Ran]) -> None:
    task.version("v1").results_path.unlink()
    with pytest.raises(errors.Invalid, match="v1 has not been evaluated") as caught:
        report.write(task, "v1")
    assert caught.value.mend == "nlp-skills evaluate --version v1"
    ran = cli("report", "reviews", "--version", "v2", "--against", "v1", "--json")
    assert ran.code == 1 and "v1" in ran.json["error"]["message"]


def test_the_command_prints_the_path(task: TaskFolder, cli: Callable[..., Ran]) -> None:
    assert cli("report", "reviews", "--version", "v2").out == "report: reviews/versions/v2/report.html\n"
    assert Path(cli("report", "reviews", "--version", "v2", "--json").json["report"]).is_file()


def test_the_loss_curve_takes_the_later_of_repeated_steps_and_skips_what_it_cannot_read(tmp_path: Path) -> None:
    path = write_rows(
        tmp_path / "m.jsonl", [{"step": 1, "loss": 4.0}, {"step": 2, "loss": 9.0}, {"step": 2, "loss": 2.0}]
    )
    with open(path, "a", encoding="utf-8") as stream:
        stream.write('{"step": 2, "eval_loss": 3.0}\n{"step": "x", "loss": 1}\n{"step": 3, "loss": "NaN"}\n{"st')
    curve = charts.loss_curve(path)
    assert curve is not None
    assert (curve.first, curve.last, curve.best_valid) == (4.0, 2.0, 3.0)
    assert curve.train == "50.0,0.0 100.0,50.0" and curve.valid == [(100.0, 25.0)]
    assert [tick.label for tick in curve.y_ticks] == ["0", "1", "2", "3", "4"]
    assert charts.loss_curve(tmp_path / "none") is None


def test_a_hundred_thousand_steps_stay_a_small_drawing(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "m.jsonl", [{"step": step, "loss": 1 + 1 / (step + 1)} for step in range(20_000)])
    curve = charts.loss_curve(path)
    assert curve is not None
    assert len(curve.train.split()) <= charts.POINTS + 1 and curve.train.split()[-1].startswith("100.0,")


@pytest.fixture(params=["report", "compare"])
def shown(request: pytest.FixtureRequest, task: TaskFolder) -> Iterator[Path]:
    yield report.write(task, "v2") if request.param == "report" else comparison_page(task)


def test_a_browser_draws_it_without_a_complaint_and_nothing_sticks_out(
    shown: Path, chromium: str, tmp_path: Path
) -> None:
    """In a phone's width nothing is wider than the screen; a script outside the page's own policy measures it."""
    frame = tmp_path / "frame.html"
    frame.write_text(
        f'<iframe id="f" src="{shown.as_uri()}" style="width:390px;height:900px;border:0"></iframe><p id="out">'
        "<script>onload=()=>{const d=f.contentDocument.documentElement;"
        'const bars=d.querySelectorAll(".range b").length;'
        'out.textContent="over="+(d.scrollWidth-d.clientWidth)+" tall="+(d.scrollHeight>900)+" bars="+bars}'
        "</script>",
        encoding="utf-8",
    )
    command = [
        chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run",
        "--allow-file-access-from-files", f"--user-data-dir={tmp_path / 'profile'}", "--enable-logging=stderr",
        "--virtual-time-budget=3000", "--dump-dom", frame.as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert re.search(r"over=0 tall=true bars=[1-9]", done.stdout), done.stdout[-300:] + done.stderr[-1000:]
    assert "CONSOLE" not in done.stderr, done.stderr
