"""`nlp-skills dashboard`: where every task stands, with and without JavaScript, and fast."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import finished
import pytest
from conftest import Ran
from playwright.sync_api import Browser, Page

from nlp_skills.evaluation import dashboard
from nlp_skills.schema import yaml

Cli = Callable[..., Ran]


@pytest.fixture
def workspace(project: Path, cli: Cli) -> Path:
    """A task that is met, with a report; one whose better version is not the active one; and one that is broken."""
    reviews = finished.task(project / "reviews", rights=(0.6, 0.75, 0.9))
    yaml.change(reviews.task_path, {("version",): "v3", ("domain",): "<b>retail</b>"})
    finished.of_kind(project / "group" / "entities", "spans", rights=(0.9, 0.3))
    (project / "broken").mkdir()
    (project / "broken" / "task.yaml").write_text("task_name: [", encoding="utf-8")
    assert cli("report", "reviews", "v3").code == 0
    return project


def shown(page: Page) -> list[str]:
    """The names of the tasks in the order they stand."""
    return [
        name.inner_text().split("\n")[0] for name in page.query_selector_all(".tasks tbody tr th") if name.is_visible()
    ]


def test_it_says_where_every_task_stands(workspace: Path, cli: Cli, browser: Browser) -> None:
    ran = cli("dashboard", "--json")
    assert ran.code == 0 and ran.json["dashboard"] == str(workspace / "dashboard.html")
    assert (ran.json["tasks"], ran.json["versions"], ran.json["unreadable"]) == (2, 5, 1)
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    heard: list[str] = []
    page.on("console", lambda message: heard.append(message.text))
    page.goto((workspace / "dashboard.html").as_uri())
    rows = {row.inner_text().split("\n")[0].split("\t")[0]: row for row in page.query_selector_all(".tasks tbody tr")}
    results = finished.TaskFolder(workspace / "reviews").version("v3").results()
    assert results
    text = rows["reviews"].inner_text()
    assert f"{results.metrics['macro_f1']:.1%}" in text and "met" in text and "<b>retail</b>" in text
    assert "v1 " in rows["entities"].inner_text(), "the best is another version than the active one"
    assert "broken" in page.inner_text("main") and heard == []
    rows["reviews"].query_selector("a").click()  # type: ignore[union-attr]
    assert page.inner_text("#verdict") == "v3 meets its success criteria"
    page.close()


def test_it_is_sorted_and_searched_and_does_without_scripts(workspace: Path, cli: Cli, browser: Browser) -> None:
    assert cli("dashboard", "--out", workspace / "out" / "page.html").code == 0
    path = workspace / "out" / "page.html"
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.goto(path.as_uri())
    for _times, wanted in (
        (1, ["entities", "reviews"]),
        (2, ["reviews", "entities"]),
    ):
        page.click("th:has-text('Task') button")
        assert shown(page) == wanted
    page.focus("th:has-text('Metric') button")
    assert page.get_attribute("th:has-text('Metric')", "aria-sort") is None
    page.click("th:has-text('Metric') button")
    assert shown(page)[0] == "reviews" and page.get_attribute("th:has-text('Metric')", "aria-sort") == "descending"
    page.fill("#look", "RETAIL")
    assert shown(page) == ["reviews"] and page.inner_text("#found") == "1 / 2"
    page.close()
    context = browser.new_context(java_script_enabled=False, viewport={"width": 390, "height": 900})
    plain = context.new_page()
    plain.goto(path.as_uri())
    assert len(shown(plain)) == 2 and not plain.is_visible("#look") and plain.query_selector("button") is None
    href = plain.get_attribute(".tasks a", "href")
    assert href == "../reviews/versions/v3/report.html"
    context.close()
    phone = browser.new_page(viewport={"width": 390, "height": 900})
    phone.goto(path.as_uri())
    assert phone.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") == 0
    phone.close()


def test_results_of_any_age_and_state_are_taken_as_far_as_they_go(workspace: Path) -> None:
    for name, content in (("v1", "{broken"), ("v2", "[]")):
        (workspace / "reviews" / "versions" / name / "results.json").write_text(content, encoding="utf-8")
    path = workspace / "reviews" / "versions" / "v3" / "results.json"
    old = json.loads(path.read_text(encoding="utf-8"))
    old["success"] = {"primary_metric": "macro_f1", "value": 0.9, "met": True}
    path.write_text(json.dumps(old), encoding="utf-8")
    (line,) = [line for line in dashboard.gather(workspace).tasks if line.row.name == "reviews"]
    assert [one.value is None for one in line.versions] == [True, True, False] and line.active.verdict == "met"


def test_a_best_version_is_one_that_was_tested_on_the_same_rows(workspace: Path) -> None:
    path = workspace / "group" / "entities" / "versions" / "v1" / "results.json"
    (line,) = [line for line in dashboard.gather(workspace).tasks if line.row.name == "entities"]
    assert line.best and line.best.name == "v1"
    changed = json.loads(path.read_text(encoding="utf-8")) | {"test_sha256": "sha256:" + "0" * 64}
    path.write_text(json.dumps(changed), encoding="utf-8")
    (line,) = [line for line in dashboard.gather(workspace).tasks if line.row.name == "entities"]
    assert line.best and line.best.name == "v2"


def test_places_that_are_not_its_own_are_refused(workspace: Path, cli: Cli) -> None:
    mine = workspace / "dashboard.html"
    mine.write_text("mine", encoding="utf-8")
    assert cli("dashboard").code == 2 and mine.read_text(encoding="utf-8") == "mine"
    assert cli("dashboard", workspace / "nowhere").code == 2
    empty = workspace / "empty"
    empty.mkdir()
    assert cli("dashboard", empty).code == 0
    assert "There are no tasks in this folder" in (empty / "dashboard.html").read_text(encoding="utf-8")


def test_many_tasks_are_a_matter_of_seconds(project: Path, tmp_path: Path) -> None:
    """A hundred tasks of twenty versions; processor time, which does not depend on who else is at work."""
    first = finished.task(tmp_path / "first", rights=(0.8,)).root
    for number in range(20):
        shutil.copytree(first / "versions" / "v1", first / "versions" / f"v{number + 2}", copy_function=_records)
    for number in range(100):
        shutil.copytree(first, project / f"task-{number}", copy_function=_records)
    started = time.process_time()
    _path, found = dashboard.write(project)
    assert (len(found.tasks), found.versions) == (100, 100 * 21)
    assert time.process_time() - started < 3


def _records(source: str, target: str) -> None:
    if Path(source).name in ("results.json", "task.yaml"):
        shutil.copyfile(source, target)
