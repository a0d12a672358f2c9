"""A run to look at: its curves as one small drawing that says the same in words, and its summary in figures."""

from __future__ import annotations

import json
import math
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from conftest import Ran

from nlp_skills.training import curves
from nlp_skills.workspace.folder import TaskFolder, VersionFolder

Ready = Callable[..., TaskFolder]
SVG = "{http://www.w3.org/2000/svg}"


def version_with(root: Path, lines: list[dict[str, Any]]) -> VersionFolder:
    version = VersionFolder(root, "v1")
    version.run.mkdir(parents=True)
    version.metrics_path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return version


def learning(count: int, every: int = 10) -> list[dict[str, Any]]:
    """Losses of a run that learns, noisily; the valid split is looked at every so often."""
    chance = random.Random(1)
    lines: list[dict[str, Any]] = []
    for step in range(1, count + 1):
        loss = 2 * math.exp(-3 * step / count) + 0.3 * chance.random()
        rate = 2e-4 * (1 - step / count)
        lines.append({"step": step, "epoch": step / every, "loss": loss, "learning_rate": rate, "grad_norm": 1.0})
        lines[-1] |= {"tokens": 100 * step, "seconds": 0.5 * step}
        if step % every == 0:
            lines.append({"step": step, "epoch": step / every, "eval_loss": loss + 0.1, "eval_macro_f1": step / count})
            lines[-1] |= {"tokens": 100 * step, "seconds": 0.5 * step}
    return lines


def drawn(version: VersionFolder) -> ElementTree.Element:
    curves.draw(version)
    return ElementTree.fromstring(version.curve_path.read_text(encoding="utf-8"))


def points(root: ElementTree.Element, kind: str) -> list[list[tuple[float, float]]]:
    found = [line.get("points", "") for line in root.iter(f"{SVG}polyline") if line.get("class") == kind]
    return [[tuple(map(float, pair.split(","))) for pair in text.split()] for text in found]  # type: ignore[misc]


def texts(root: ElementTree.Element) -> list[str]:
    return [element.text or "" for element in root.iter(f"{SVG}text")]


def test_a_real_run_leaves_its_curves_and_its_summary(
    ready: Ready, cli: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NLP_SKILLS_DETERMINISTIC", "1")
    folder = ready(train=96, epochs=3)
    ran = cli("train", folder.root, "--json")
    version = folder.version("v1")
    root = ElementTree.fromstring(version.curve_path.read_text(encoding="utf-8"))
    assert root.find(f"{SVG}title").text == "sentiment v1: training"  # type: ignore[union-attr]
    (raw,), (smooth,), (rate,) = points(root, "raw"), points(root, "line"), points(root, "rate")
    assert len(raw) == len(smooth) == len(rate) == 36
    assert smooth[0][1] < smooth[-1][1], "the loss has come down, and down is further down the page"
    assert len(list(root.iter(f"{SVG}circle"))) == 3

    lineage = version.lineage()
    assert lineage is not None and lineage.run is not None
    found = curves.summary(version)
    assert found.figures["steps"] == 36 and found.figures["best_step"] == lineage.run.best_step
    assert found.figures["best_epoch"] * 12 == lineage.run.best_step
    assert found.figures["last_loss"] < found.figures["first_loss"]
    assert found.figures["tokens"] == lineage.run.tokens and found.figures["peak_memory_gb"] > 0
    assert f"best: step {lineage.run.best_step}" in texts(root)
    assert ran.json["summary"] == found.figures


def test_each_panel_has_its_own_axis_and_the_best_epoch_is_marked(tmp_path: Path) -> None:
    root = drawn(version_with(tmp_path, learning(100)))
    shown = texts(root)
    assert {"loss", "mean_token_accuracy on valid"} - set(shown) == {"mean_token_accuracy on valid"}
    assert "learning rate" in shown and "best: step 100" in shown
    loss, *_rest = points(root, "valid")
    assert len(loss) == 10
    assert [x for x, _y in loss] == sorted(x for x, _y in loss)


def test_the_primary_metric_of_the_task_has_a_panel(ready: Ready) -> None:
    folder = ready()
    version = folder.version("v1")
    version.run.mkdir()
    version.metrics_path.write_text("".join(json.dumps(line) + "\n" for line in learning(100)))
    root = drawn(version)
    assert "Macro-F1 on valid" in texts(root)
    assert "100%" in texts(root)
    found = curves.summary(version)
    assert (found.figures["metric"], found.figures["best_metric"]) == ("macro_f1", 1.0)
    assert any("Macro-F1" in words for words in found.words)


def test_a_hundred_thousand_lines_make_a_small_file_and_no_spike_is_lost(tmp_path: Path) -> None:
    lines = learning(100_000, every=1000)
    spike = next(line for line in lines if line["step"] == 50_001)
    spike["loss"] = 1.9
    version = version_with(tmp_path, lines)
    root = drawn(version)
    assert version.curve_path.stat().st_size < 60_000
    (raw,), (smooth,) = points(root, "raw"), points(root, "line")
    assert len(raw) <= curves.POINTS + 2 and len(smooth) <= curves.POINTS + 2
    middle = (raw[0][0] + raw[-1][0]) / 2
    highest = min((point for point in raw if abs(point[0] - middle) < 20), key=lambda point: point[1])
    assert highest[1] < min(y for x, y in smooth if abs(x - middle) < 20) - 50


def test_one_wild_step_does_not_flatten_the_others(tmp_path: Path) -> None:
    lines = learning(300)
    lines[100]["loss"] = 500.0
    root = drawn(version_with(tmp_path, lines))
    (raw,) = points(root, "raw")
    heights = [y for _x, y in raw]
    assert min(heights) >= curves.TOP, "what does not fit stays in the panel"
    (wild,), (calm,) = points(root, "line"), points(drawn(version_with(tmp_path / "calm", learning(300))), "line")
    assert wild[-1][1] - wild[0][1] == pytest.approx(calm[-1][1] - calm[0][1], rel=0.1)


def test_names_from_a_person_are_escaped(tmp_path: Path) -> None:
    version = version_with(tmp_path / "a<b>&c", learning(20))
    root = drawn(version)
    assert root.find(f"{SVG}title").text == "a<b>&c v1: training"  # type: ignore[union-attr]


def test_it_reads_in_the_dark_and_loads_nothing(tmp_path: Path) -> None:
    version = version_with(tmp_path, learning(20))
    curves.draw(version)
    text = version.curve_path.read_text()
    assert "prefers-color-scheme: dark" in text
    assert re.findall(r"https?://[^\"]+", text) == ["http://www.w3.org/2000/svg"]
    assert 'role="img"' in text and "aria-labelledby" in text
    assert "loss " in ElementTree.fromstring(text).find(f"{SVG}desc").text  # type: ignore[union-attr, operator]


@pytest.mark.parametrize(
    "text", ["", '{"step": 1, "loss": 2.0}\n', "not json\n\n", '{"step": 1, "loss": "x"}\n{"a": 1}\n']
)
def test_too_little_to_draw_is_no_drawing(text: str, tmp_path: Path) -> None:
    version = version_with(tmp_path, [])
    version.curve_path.write_text("<svg/>")
    version.metrics_path.write_text(text)
    curves.draw(version)
    assert not version.curve_path.exists(), "what was drawn of an earlier run is gone"
    assert isinstance(curves.summary(version).words, list)


def test_a_folder_that_cannot_be_written_is_nothing_to_fail_for(tmp_path: Path) -> None:
    version = version_with(tmp_path, learning(20))
    version.curve_path.mkdir()
    curves.draw(version)
    assert curves.summary(version).words


def test_nothing_was_run(tmp_path: Path) -> None:
    version = VersionFolder(tmp_path, "v1")
    assert curves.svg(version) is None
    assert curves.summary(version) == curves.Summary({}, [])


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.4, "0 s"), (59.4, "59 s"), (200, "3 min 20 s"), (7500, "2 h 05 min")]
)
def test_durations_are_read_at_a_glance(seconds: float, words: str) -> None:
    assert curves.duration(seconds) == words
