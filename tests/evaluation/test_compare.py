"""`nlp-skills compare`: two tables, a conclusion that is earned, and the rows behind it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import finished
import pytest
from conftest import Ran, write_rows

from nlp_skills.evaluation import predictions, significance, words
from nlp_skills.schema import yaml
from nlp_skills.workspace.folder import TaskFolder

Cli = Callable[..., Ran]


@pytest.fixture
def task(project: Path) -> TaskFolder:
    """Three versions in Chinese: a weak one, and two that are better and much alike."""
    folder = finished.task(project / "sentiment", finished.CHINESE, rights=(0.55, 0.8, 0.82))
    for name, rank, epochs, rate in (("v1", 32, 8, 1e-5), ("v2", 64, 6, 1e-5), ("v3", 64, 6, 5e-6)):
        version = folder.version(name)
        yaml.change(version.config_path, {("lora", "r"): rank, ("epochs",): epochs, ("learning_rate",): rate})
    return folder


def change_predictions(folder: TaskFolder, name: str, change: Callable[[int, dict[str, Any]], Any]) -> None:
    path = folder.version(name).predictions_path
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    write_rows(path, [new for number, row in enumerate(rows) if (new := change(number, row))])


def cells(text: str, name: str) -> list[str]:
    """The cells of a table's line."""
    line = next(line for line in text.splitlines() if line.startswith(f"│ {name} "))
    return [cell.strip() for cell in line.strip("│").split("│")]


def test_the_tables_are_settings_with_percent_and_figures_with_points(task: TaskFolder, cli: Cli) -> None:
    ran = cli("compare", "sentiment", "v1", "v2")
    assert ran.code == 0 and ran.err == ""
    assert ran.out.startswith("Compare: sentiment v1 → v2\n")
    assert cells(ran.out, "Setting") == ["Setting", "v1", "v2", "Change"]
    assert cells(ran.out, "LoRA r") == ["LoRA r", "32", "64", "+100%"]
    assert cells(ran.out, "epochs") == ["epochs", "8", "6", "-25%"]
    assert cells(ran.out, "train_count") == ["train_count", "200", "400", "+100%"]
    assert "learning_rate" not in ran.out and "seed" not in ran.out, "only what differs"
    names = re.findall(r"│ (\S+(?: F1)?) +│ .*%", ran.out.partition("Figures:")[2])
    assert names == ["Macro-F1", "Accuracy", "正面 F1", "中立 F1", "負面 F1"]
    results = [task.version(name).results() for name in ("v1", "v2")]
    a, b = (one.metrics["accuracy"] for one in results if one)
    assert cells(ran.out, "Accuracy")[1:] == [f"{a:.1%}", f"{b:.1%}", f"{b - a:+.1%}"]


@pytest.mark.parametrize(
    ("given", "shown"),
    [(1e-5, "1e-5"), (0.0002, "2e-4"), (0.00125, "1.25e-3"), (0.05, "0.05"), (8.0, "8"), (64, "64"), (None, "-"),
     (True, "true"), ("cosine", "cosine"), (["a", "b"], '["a", "b"]'), ("one\ntwo\x1b[2J", "one two\\x1b[2J"),
     ("sha256:" + "ab" * 32, "sha256:abababab…"), ("x" * 90, "x" * 47 + "…")],
)  # fmt: skip
def test_values_stand_as_people_write_them(given: Any, shown: str) -> None:
    assert words.value(given) == shown


def test_a_setting_that_only_names_something_has_no_percent(task: TaskFolder, cli: Cli) -> None:
    change: dict[tuple[str | int, ...], Any] = {("seed",): 7, ("scheduler",): "linear", ("weight_decay",): 0.1}
    yaml.change(task.version("v2").config_path, change)
    ran = cli("compare", "v1", "v2")
    assert cells(ran.out, "seed") == ["seed", "42", "7", ""]
    assert cells(ran.out, "scheduler") == ["scheduler", "cosine", "linear", ""]
    assert cells(ran.out, "weight_decay") == ["weight_decay", "0", "0.1", ""]


def test_data_that_changed_without_its_row_count_is_told(task: TaskFolder, cli: Cli) -> None:
    for name, digit in (("v1", "a"), ("v2", "b")):
        path = task.version(name).lineage_path
        hashes = {split: "sha256:" + (digit if split != "test" else "0") * 64 for split in ("train", "valid", "test")}
        yaml.change(path, {("data", "hashes"): hashes, ("data", "train_count"): 300 if name == "v1" else 400})
    ran = cli("compare", "v1", "v2")
    assert cells(ran.out, "valid_hash") == ["valid_hash", "sha256:aaaaaaaa…", "sha256:bbbbbbbb…", ""]
    assert "train_hash" not in ran.out and "test_hash" not in ran.out


def test_the_conclusion_has_its_p_and_the_rows_behind_it(task: TaskFolder, cli: Cli) -> None:
    found = cli("compare", "v1", "v2", "--json").json
    pair = found["pairs"][0]
    out = cli("compare", "v1", "v2").out
    assert pair["verdict"] == "better" and pair["p_holm"] == pair["metrics"]["macro_f1"]["p"] < 0.05
    assert f"Conclusion: {pair['sentence']}" in out and "v2 is better than v1" in out
    assert f"Put right: {len(pair['fixed'])}\n" in out and f"Broken: {len(pair['broken'])}\n" in out
    assert pair["metrics"]["accuracy"]["p"] == significance.mcnemar(len(pair["fixed"]), len(pair["broken"]))
    assert "McNemar" in out and "Holm's correction over 3 classes" in out
    shown = [line for line in out.splitlines() if re.match(r"    (正面|中立|負面) → ", line)]
    assert len(shown) == 6
    rows = {row["key"]: row for row in predictions.load(task.version("v2").predictions_path)}
    sure = {key: rows[key]["probabilities"][rows[key]["predicted"]] for key in pair["broken"]}
    surest = sorted(pair["broken"], key=lambda key: -sure[key])[:3]
    assert [re.findall(r"#\d+", line) for line in shown[3:]] == [[f"#{key[1:]}"] for key in surest]
    assert found["figures"][0]["intervals"]["v2"][0] < found["figures"][0]["values"]["v2"]
    assert found["figures"][2]["name"] == "正面 F1" and set(found["figures"][2]["intervals"]) == {"v1", "v2"}
    assert list(pair["classes"]) == ["正面", "中立", "負面"]
    assert found["best"] is None and found["problems"] == [] and found["ok"] is True


def test_versions_that_are_alike_cannot_be_told_apart(task: TaskFolder, cli: Cli) -> None:
    out = cli("compare", "v2", "v3").out
    assert re.search(r"cannot be told: .* with 180 test rows a difference under \d+\.\d points is not visible", out)


def test_the_verdict_follows_the_metric_of_the_task(task: TaskFolder, cli: Cli) -> None:
    criteria = ("success_criteria", "primary_metric")
    yaml.change(task.task_path, {criteria: "accuracy"})
    ran = cli("compare", "v1", "v2")
    assert re.search(r"Conclusion: v2 is better than v1: Accuracy \+\d+\.\d points", ran.out)
    assert ran.out.index("│ Accuracy") < ran.out.index("│ Macro-F1")
    yaml.change(task.task_path, {criteria: "mcc"})
    assert re.search(r"better than v1: MCC \+0\.\d{3} \(", cli("compare", "v1", "v2").out)
    yaml.change(task.task_path, {criteria: "our_own"})
    ran = cli("compare", "v1", "v2")
    assert "our_own cannot be tested row by row; Macro-F1 decides" in ran.out and ran.code == 0


def test_three_versions_are_each_tested_against_the_first_and_the_best_is_not_guessed(
    task: TaskFolder, cli: Cli
) -> None:
    found = cli("compare", "v1", "v2", "v3", "--json").json
    assert [(pair["a"], pair["b"]) for pair in found["pairs"]] == [("v1", "v2"), ("v1", "v3")]
    raw = [pair["metrics"]["macro_f1"]["p"] for pair in found["pairs"]]
    assert [pair["p_holm"] for pair in found["pairs"]] == significance.holm(raw)
    assert found["best"]["version"] is None and found["best"]["contenders"] == ["v2", "v3"]
    rows = {name: predictions.load(task.version(name).predictions_path) for name in ("v1", "v2", "v3")}
    every = [("v1", "v2"), ("v1", "v3"), ("v2", "v3")]
    alone = [significance.compare_rows(rows[a], rows[b])["metrics"]["macro_f1"]["p"] for a, b in every]
    assert [pair["p_holm"] for pair in found["best"]["pairs"]] == pytest.approx(significance.holm(alone), abs=0.01)
    assert found["best"]["pairs"][0]["p_holm"] > alone[0]
    out = cli("compare", "v1", "v2", "v3").out
    assert cells(out, "LoRA r") == ["LoRA r", "32", "64", "64", "+100%"]
    assert cells(out, "Metric")[1:] == ["v1", "v2", "v3", "v1 → v3"]
    assert "Conclusion: Which is best cannot be told: it may be any of v2, v3." in out
    assert "by Holm's correction over 2 pairs" in out


def test_the_one_that_is_better_than_all_is_best(project: Path, cli: Cli) -> None:
    finished.task(project / "reviews", rights=(0.3, 0.5, 0.95))
    found = cli("compare", "v3", "v1", "v2", "--json").json
    assert found["best"]["version"] == "v3" and found["conclusion"][0].startswith("v3 is the best")
    assert [pair["verdict"] for pair in found["pairs"]] == ["worse", "worse"]


def test_holm_can_take_a_verdict_back(project: Path, cli: Cli) -> None:
    """p = 0.039 alone is a difference; beside four others it is none."""
    folder = finished.task(project / "reviews", rights=(0.7,) * 6)
    base = folder.version("v1").predictions_path.read_bytes()
    for number in range(2, 7):
        folder.version(f"v{number}").predictions_path.write_bytes(base)
    yaml.change(folder.task_path, {("success_criteria", "primary_metric"): "accuracy"})
    wrong = [json.loads(line)["key"] for line in base.splitlines() if not json.loads(line)["correct"]]
    right = [json.loads(line)["key"] for line in base.splitlines() if json.loads(line)["correct"]]
    fixed, broken = wrong[:8], right[:1]

    def answer(_number: int, row: dict[str, Any]) -> dict[str, Any]:
        if row["key"] in fixed:
            return {**row, "predicted": row["gold"]}
        return (
            {**row, "predicted": next(x for x in finished.ENGLISH.labels if x != row["gold"])}
            if row["key"] in broken
            else row
        )

    change_predictions(folder, "v2", answer)
    alone = cli("compare", "v1", "v2", "--json").json["pairs"][0]
    assert alone["verdict"] == "better" and alone["metrics"]["accuracy"]["p"] == pytest.approx(0.0390625)
    among = cli("compare", *(f"v{n}" for n in range(1, 7)), "--json").json["pairs"][0]
    assert among["verdict"] == "cannot_tell" and among["p_holm"] == pytest.approx(0.1953125)
    assert "p = 0.195 by Holm's correction over 5 pairs" in among["sentence"]


def test_different_test_sets_are_compared_on_common_rows_and_it_is_said(task: TaskFolder, cli: Cli) -> None:
    change_predictions(task, "v1", lambda number, row: row if number >= 20 else None)
    change_predictions(task, "v2", lambda number, row: {**row, "gold": "中立"} if number == 30 else row)
    ran = cli("compare", "v1", "v2")
    assert "Test rows in both: 159, only in v1: 0, only in v2: 20, in both with another label: 1." in ran.out
    assert "v2 is better than v1" in ran.out and ran.code == 0
    assert "Only in v2:\n    正面  #0 " in ran.out and "In both with another label:\n    正面 → 中立  #30 " in ran.out
    pair = cli("compare", "v1", "v2", "--json").json["pairs"][0]
    assert pair["only_b"] == [f"k{number}" for number in range(20)]
    assert pair["relabelled"] == [{"key": "k30", "a": "正面", "b": "中立"}]


def test_test_sets_that_share_too_little_are_not_comparable_and_the_tables_stand(task: TaskFolder, cli: Cli) -> None:
    change_predictions(task, "v1", lambda number, row: row if number < 29 else None)
    ran = cli("compare", "v1", "v2")
    assert ran.code == 0
    assert "v1 and v2 are not comparable: different test rows. They share 29, and at least 30" in ran.out
    assert "nlp-skills new-version sentiment --from v1" in ran.out
    assert cells(ran.out, "Macro-F1")[0] == "Macro-F1" and "Put right" not in ran.out


def test_a_version_of_which_only_records_are_left_is_compared_as_far_as_they_go(task: TaskFolder, cli: Cli) -> None:
    for path in (task.version("v1").predictions_path, task.version("v1").results_path):
        path.unlink()
    ran = cli("compare", "v1", "v2")
    assert ran.code == 0
    results = task.version("v2").results()
    made = task.version("v1").lineage()
    assert results and made and made.results
    assert cells(ran.out, "正面 F1")[1] == f"{made.results.per_class['正面'].f1:.1%}".replace(".0%", "%")
    assert "no difference to v1 can be tested: its predictions are not there" in ran.out
    command = "nlp-skills train sentiment --version v1 --again && nlp-skills evaluate sentiment --version v1"
    assert command in ran.out
    assert cli("compare", "v1", "v2", "--json").json["untested"].keys() == {"v1"}
    (task.root / "models" / "adapter" / "v1").mkdir(parents=True)
    assert "Make them anew: nlp-skills evaluate sentiment --version v1\n" in cli("compare", "v1", "v2").out


def test_one_version_without_predictions_leaves_the_others_their_test(task: TaskFolder, cli: Cli) -> None:
    task.version("v1").predictions_path.unlink()
    found = cli("compare", "v1", "v2", "v3", "--json").json
    assert [(pair["a"], pair["b"]) for pair in found["pairs"]] == [("v2", "v3")]
    assert found["best"] is None


def test_a_version_that_was_never_evaluated_is_named_with_the_command(task: TaskFolder, cli: Cli) -> None:
    cli("new-version", "sentiment", "--change", "epochs 6 → 9", "--set", "epochs=9")
    ran = cli("compare", "v3", "v4")
    assert ran.code == 0
    assert "v4 has not been evaluated: nlp-skills evaluate sentiment --version v4" in ran.out
    assert cells(ran.out, "epochs")[1:3] == ["6", "9"]
    assert cells(ran.out, "Macro-F1")[2:] == ["-", ""]


@pytest.mark.parametrize("which", ["results_path", "predictions_path", "config_path", "lineage_path"])
def test_a_broken_file_is_named_and_hides_nothing_else(task: TaskFolder, cli: Cli, which: str) -> None:
    path: Path = getattr(task.version("v2"), which)
    path.write_text(path.read_text(encoding="utf-8") + "\n{broken: [\n", encoding="utf-8")
    ran = cli("compare", "v1", "v2")
    assert ran.code == 1 and "Traceback" not in ran.err
    assert re.search(rf"error: sentiment/versions/v2/{path.name}:\d+: ", ran.err)
    assert cells(ran.out, "Macro-F1")[1] != "-" and "Conclusion:" in ran.out
    found = cli("compare", "v1", "v2", "--json")
    assert found.code == 1 and found.json["ok"] is False
    assert [problem["file"] for problem in found.json["problems"]] == [str(path)]
    assert bool(found.json["pairs"]) == (which != "predictions_path")


def test_text_from_data_moves_no_cursor_and_keeps_to_the_width(
    task: TaskFolder, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    evil = "\x1b[2J\u202eevil" + "寬" * 300

    def spoil(_number: int, row: dict[str, Any]) -> dict[str, Any]:
        predicted = "\x1b]0;gone\x07" if row["predicted"] != row["gold"] else row["predicted"]
        return {**row, "input": {"text": evil}, "predicted": predicted}

    for name in ("v1", "v2"):
        change_predictions(task, name, spoil)
    out = cli("compare", "v1", "v2").out
    assert not set("\x1b\x07\u202e") & set(out)
    lines = [line for line in out.splitlines() if line.startswith("    ")]
    assert len(lines) == 6 and all("�]0;gone�" in line and line.endswith("…") for line in lines)
    from rich.cells import cell_len

    assert max(map(cell_len, lines)) <= 60


def test_looking_writes_nothing(task: TaskFolder, cli: Cli) -> None:
    before = {path: path.stat().st_mtime_ns for path in task.root.rglob("*")}
    assert cli("compare", "v1", "v2").code == cli("compare", "v1", "v2", "--json").code == 0
    assert {path: path.stat().st_mtime_ns for path in task.root.rglob("*")} == before


def test_the_page_goes_into_the_task_or_wherever_it_is_told(task: TaskFolder, cli: Cli, tmp_path: Path) -> None:
    ran = cli("compare", "v1", "v2", "v3", "--html")
    assert ran.out.endswith("report: sentiment/benchmarks/compare_v1_v2_v3.html\n")
    out = tmp_path / "new" / "page.html"
    for _again in range(2):
        assert cli("compare", "v1", "v2", "--out", out, "--json").json["report"] == str(out)
    assert "v2 is better" in out.read_text(encoding="utf-8")
    mine = tmp_path / "notes.html"
    mine.write_text("mine", encoding="utf-8")
    for path in (mine, tmp_path, Path("/dev/null")):
        ran = cli("compare", "v1", "v2", "--out", path)
        assert ran.code == 2 and "--out PATH" in ran.err
    assert mine.read_text(encoding="utf-8") == "mine"


def test_a_page_that_cannot_be_written_says_where_else_it_could(task: TaskFolder, cli: Cli) -> None:
    (task.root / "benchmarks").write_text("in the way", encoding="utf-8")
    ran = cli("compare", "v1", "v2", "--html")
    assert ran.code == 3 and "compare_v1_v2.html" in ran.err and "write it elsewhere: --out PATH" in ran.err


@pytest.mark.parametrize(
    ("names", "said"),
    [(["v1"], "two versions or more"), (["v1", "v1"], "two versions or more"), (["v1", "v9"], "v9 does not exist"),
     ([f"v{n}" for n in range(1, 8)], "too many names"), (["nothere", "v1", "v2"], "no task called nothere")],
)  # fmt: skip
def test_used_wrongly_it_says_how(task: TaskFolder, cli: Cli, names: list[str], said: str) -> None:
    ran = cli("compare", *names)
    assert ran.code in (1, 2) and said in ran.err


def test_a_comparison_without_its_package_still_has_its_tables(
    task: TaskFolder, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    """numpy is hidden from the import system, as in an environment without the extra."""
    import sys

    from nlp_skills import extras

    monkeypatch.setitem(sys.modules, "numpy", None)
    assert not extras.installed("numpy")
    ran = cli("compare", "v1", "v2")
    assert ran.code == 3 and cells(ran.out, "LoRA r")[1:] == ["32", "64", "+100%"]
    assert "could not be tested" in ran.out and "quality" in ran.err
    assert cli("compare", "v1", "v2", "--json").json["problems"]


def test_ten_thousand_rows_of_ten_classes_are_tested_in_seconds() -> None:
    import random
    import time

    draw, labels = random.Random(0), [f"class {n}" for n in range(10)]
    gold = [draw.choice(labels) for _ in range(10_000)]
    sides = [
        [
            {"key": str(n), "gold": true, "predicted": true if draw.random() < right else draw.choice(labels)}
            for n, true in enumerate(gold)
        ]
        for right in (0.7, 0.75)
    ]
    started = time.monotonic()
    assert significance.compare_rows(*sides)["verdict"] == "better"
    assert time.monotonic() - started < 10
