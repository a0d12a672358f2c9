"""A learning curve says what more rows would give, is right about curves that are known, and touches nothing else."""

from __future__ import annotations

import json
import os
import re
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from conftest import Ran, reviews, write_rows

from nlp_skills.learning_curve import drawing, law, outlook, sayings, subsets
from nlp_skills.learning_curve.outlook import Asked, Outlook, Trained
from nlp_skills.schema import yaml
from nlp_skills.training import train as training
from nlp_skills.workspace import runs
from nlp_skills.workspace.folder import TaskFolder

Ready = Callable[..., TaskFolder]


def test_a_larger_share_holds_the_smaller_and_every_class_its_own() -> None:
    classes = ["a"] * 80 + ["b"] * 17 + ["c"] * 3
    small, half, whole = (subsets.nested(classes, percent, seed=0) for percent in (10, 50, 100))
    assert set(small) < set(half) < set(whole) and whole == list(range(100))
    assert Counter(classes[row] for row in small) == {"a": 8, "b": 2, "c": 1}
    assert Counter(classes[row] for row in half) == {"a": 40, "b": 9, "c": 2}
    assert half == sorted(half) and half == subsets.nested(classes, 50, seed=0)
    assert half != subsets.nested(classes, 50, seed=1)


def test_a_law_is_found_in_its_own_points() -> None:
    rows = [100, 200, 400, 800]
    speed = law.SLOWEST * (law.FASTEST / law.SLOWEST) ** (20 / (law.STEPS - 1))
    values = [0.9 - 0.2 * (n / 800) ** -speed for n in rows]
    found = law.fit(rows, values)
    assert (float(found.a), float(found.b), float(found.c)) == pytest.approx((0.9, 0.2, speed))
    assert float(found.at(1600)) == pytest.approx(0.9 - 0.2 * 2**-speed)
    many = law.fit(rows, [values, [0.5] * 4])
    assert many.at(1600) == pytest.approx([float(found.at(1600)), 0.5])


def test_no_law_ends_above_one() -> None:
    found = law.fit([10, 20, 40], [0.2, 0.5, 0.95])
    assert float(found.a) <= 1 and float(found.at(10_000)) <= 1


def curve_of(truth: Callable[[int], float], *, valid: int, seed: int, percents: Any = (25, 50, 75, 100)) -> Outlook:
    """The outlook of a curve whose share of right answers is known, from so many valid rows.

    Some rows are hard at every point, as in life; for the others chance decides anew.
    """
    import numpy as np

    chance = np.random.default_rng(seed)
    hard, own = chance.random(valid), chance.random(valid) < 0.6
    trained = []
    for percent in percents:
        right = np.where(own, hard, chance.random(valid)) < truth(8 * percent)
        given = ["a" if one else "b" for one in right]
        trained.append(Trained(percent, 0, 8 * percent, given))
    return outlook.of(trained, Asked("label", ["a", "b"], ["a"] * valid, "accuracy"))


def rising(rows: int) -> float:
    return 0.95 - 0.3 * (rows / 200) ** -0.6


def test_the_interval_holds_what_a_known_curve_has_ahead() -> None:
    found = [curve_of(rising, valid=300, seed=seed) for seed in range(40)]
    lawful = [one for one in found if one.ahead]
    assert len(lawful) >= 36
    for place, times in enumerate((2, 4)):
        held = [one.ahead[place] for one in lawful]
        true = rising(800 * times)
        assert sum(one.interval[0] <= true <= one.interval[1] for one in held) >= 0.85 * len(held)
        gain = true - rising(800)
        assert sum(one.gain_interval[0] <= gain <= one.gain_interval[1] for one in held) >= 0.85 * len(held)
    assert Counter(one.verdict for one in lawful)["flat"] <= 2


def test_a_flat_curve_is_hardly_ever_told_to_rise() -> None:
    found = Counter(curve_of(lambda _rows: 0.8, valid=1000, seed=seed).verdict for seed in range(30))
    assert found["label_more"] <= 2 and found["flat"] >= 10


def test_a_steep_curve_is_told_to_rise_and_by_how_much() -> None:
    one = curve_of(lambda rows: 0.95 - 0.4 * (rows / 200) ** -0.4, valid=1000, seed=5)
    assert one.verdict == "label_more"
    assert re.match(r"Label more: twice the rows would give \+\d\.\d points of Accuracy \(\+", sayings.sentence(one))


def test_few_valid_rows_cannot_tell() -> None:
    one = curve_of(rising, valid=20, seed=1, percents=(25, 50, 100))
    assert one.verdict == "cannot_tell" and "Cannot tell" in sayings.sentence(one)
    low, high = one.ahead[0].interval
    assert high - low > 0.15
    assert one.caveats == ["three_points", "one_seed", "few_valid_rows"]
    told = " ".join(sayings.caveats(one, 20))
    assert "--fractions" in told and "--seeds 3" in told and "5.0 points" in told


def test_points_that_follow_no_law_are_not_extrapolated() -> None:
    jumps = {200: 0.3, 400: 0.35, 600: 0.97, 800: 0.97}
    one = curve_of(jumps.__getitem__, valid=300, seed=2)
    assert (one.verdict, one.ahead, one.law) == ("cannot_tell", [], None)
    assert one.caveats[0] == "no_law"
    assert "follow no power law" in sayings.sentence(one)
    ElementTree.fromstring(drawing.svg("t", "v1", one))


def test_gains_are_no_more_than_what_is_left() -> None:
    one = curve_of(lambda rows: 1 - 0.3 * (rows / 200) ** -0.9, valid=400, seed=3)
    assert all(ahead.interval[1] <= 1 and ahead.gain <= 1 - one.points[-1].value + 1e-9 for ahead in one.ahead)


def test_every_answer_right_is_no_certainty() -> None:
    few, many = (curve_of(lambda _rows: 1.1, valid=rows, seed=1) for rows in (36, 2000))
    assert (few.verdict, many.verdict) == ("cannot_tell", "flat")
    low, high = few.ahead[0].gain_interval
    assert low == 0 and 0.05 < high < 0.15


def test_chance_between_seeds_widens_a_point() -> None:
    def trained(right: Callable[[int, int], bool]) -> list[Trained]:
        return [
            Trained(percent, seed, percent, ["a" if right(seed, row) else "b" for row in range(200)])
            for percent in (25, 50, 100) for seed in range(3)
        ]  # fmt: skip

    asked = Asked("label", ["a", "b"], ["a"] * 200, "accuracy")
    alike = outlook.of(trained(lambda _seed, row: row % 10 < 8), asked).points[0]
    apart = outlook.of(trained(lambda seed, row: row % 10 < 6 + 2 * seed), asked).points[0]
    assert apart.by_seed == [0.6, 0.8, 1.0] and apart.value == pytest.approx(alike.value)
    assert apart.interval[1] - apart.interval[0] > 2 * (alike.interval[1] - alike.interval[0])


def test_the_drawing_shows_points_and_what_is_ahead_and_escapes_names() -> None:
    one = curve_of(rising, valid=300, seed=1)
    text = drawing.svg("a<b>&c", "v1", one)
    root = ElementTree.fromstring(text)
    marks = [part for part in root.iter() if part.get("class") in ("point", "ahead")]
    assert [part.get("class") for part in marks] == ["point"] * 4 + ["ahead"] * 2
    assert "a<b>" not in text and "a&lt;b&gt;&amp;c" in text
    labels = {part.text for part in root.iter() if part.text}
    assert {"200", "800", "1600", "3200"} <= labels


@pytest.fixture
def _same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NLP_SKILLS_DETERMINISTIC", "1")


@pytest.fixture
def task(ready: Ready, _same_bits: None) -> TaskFolder:
    """A task that the base model is good at already, so that its curve is flat and cheap."""
    folder = ready(train=24, epochs=1, learning_rate=1e-4)
    rows = reviews(80, start=200)
    write_rows(folder.split("train"), rows[:24])
    write_rows(folder.split("valid"), rows[30:42])
    write_rows(folder.split("test"), rows[50:])
    return folder


def contents(folder: TaskFolder) -> dict[str, bytes]:
    """Every file of the task but its notes."""
    return {
        str(path.relative_to(folder.root)): path.read_bytes()
        for path in sorted(folder.root.rglob("*"))
        if path.is_file() and not path.is_relative_to(folder.state)
    }


def test_a_curve_is_made_kept_and_touches_nothing_else(task: TaskFolder, cli: Callable[..., Ran]) -> None:
    assert training.train(task).state == "completed"
    before = contents(task)
    ran = cli("learning-curve", task.root)
    assert ran.code == 0, ran.err
    assert "Cannot tell" in ran.out and "4×" in ran.out and "100.0%" in ran.out
    assert ran.err.count("training v1: 1/") == 2, "the model of all rows is the version's own"
    after = contents(task)
    made = {name for name in after if name not in before}
    assert made == {"versions/v1/learning_curve.json", "versions/v1/learning_curve.svg"}
    assert {name: after[name] for name in before} == before
    kept = json.loads(after["versions/v1/learning_curve.json"])
    assert [point["rows"] for point in kept["points"]] == [6, 12, 24]
    assert kept["reused"] is True and kept["verdict"] == "cannot_tell" and kept["valid_rows"] == 12
    assert kept["ahead"][0]["rows"] == 48
    scratch = task.state / "learning-curve"
    assert [path.name for path in scratch.iterdir()] == ["v1.lock"], "no model and no rows are left behind"


def test_a_stopped_curve_goes_on_from_its_points(task: TaskFolder, cli: Callable[..., Ran]) -> None:
    yaml.change(task.version("v1").config_path, {("epochs",): 16})
    scratch = task.state / "learning-curve" / "v1"

    def interrupt() -> None:
        until = time.monotonic() + 120
        second = TaskFolder(scratch / "50-0").version("v1")
        while not ((scratch / "25-0.json").is_file() and runs.metrics(second)) and time.monotonic() < until:
            time.sleep(0.005)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    stopped = cli("learning-curve", task.root)
    thread.join()
    assert stopped.code == 130, stopped.err
    assert "the same command goes on" in stopped.err
    assert not task.version("v1").root.joinpath("learning_curve.json").exists()

    ran = cli("learning-curve", task.root, "--json")
    assert ran.code == 0, ran.err
    assert "points that are made already: 1 of 3" in ran.err
    assert "25 of 100" not in ran.err
    assert ran.json["ok"] is True and [point["percent"] for point in ran.json["points"]] == [25, 50, 100]
    assert ran.json["reused"] is False and ran.json["caveats"] == ["three_points", "one_seed", "few_valid_rows"]
    assert Path(ran.json["drawing"]).is_file()


def refusals() -> Iterator[tuple[dict[str, Any], list[str], int, str]]:
    yield {}, ["--fractions", "50,100"], 2, "at least 3 shares"
    yield {}, ["--fractions", "0,50,100"], 2, "0 is not a share"
    yield {}, ["--fractions", "a,b"], 2, "whole percentages"
    yield {}, ["--fractions", "98,99,100"], 1, "too few rows for a curve"
    yield {"init_from": "v0"}, [], 1, "learns from labelled rows alone"
    yield {"method": "dpo"}, [], 1, "method: dpo"


@pytest.mark.parametrize(("settings", "options", "code", "words"), list(refusals()))
def test_what_makes_no_curve_is_refused(
    task: TaskFolder, cli: Callable[..., Ran], settings: dict[str, Any], options: list[str], code: int, words: str
) -> None:
    yaml.change(task.version("v1").config_path, {(name,): value for name, value in settings.items()})
    ran = cli("learning-curve", task.root, *options)
    assert ran.code == code and words in ran.err, ran.err
    assert "Traceback" not in ran.err and "mend:" in ran.err
    assert not (task.state / "learning-curve").exists()


def test_without_valid_rows_there_is_nothing_to_measure_by(task: TaskFolder, cli: Callable[..., Ran]) -> None:
    task.split("valid").write_text("")
    ran = cli("learning-curve", task.root)
    assert ran.code == 1 and "data/valid.jsonl" in ran.err and "regenerate" in ran.err


def test_what_the_preflight_refuses_is_refused_here_and_leaves_no_point(
    task: TaskFolder, cli: Callable[..., Ran]
) -> None:
    yaml.change(task.version("v1").config_path, {("max_length",): 30})
    ran = cli("learning-curve", task.root)
    assert ran.code == 1 and "longer than max_length 30" in ran.err
    assert not list((task.state / "learning-curve" / "v1").glob("*-0.json"))


def test_a_link_in_place_of_the_scratch_folder_is_not_followed(
    task: TaskFolder, cli: Callable[..., Ran], tmp_path: Path
) -> None:
    elsewhere = write_rows(tmp_path / "elsewhere" / "kept.jsonl", reviews(1))
    (task.state / "learning-curve").mkdir(parents=True)
    (task.state / "learning-curve" / "v1").symlink_to(elsewhere.parent)
    ran = cli("learning-curve", task.root)
    assert ran.code == 1 and "this is a link" in ran.err
    assert elsewhere.is_file()
