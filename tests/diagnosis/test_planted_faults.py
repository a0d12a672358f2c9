"""One fault in each of some small real runs: the diagnosis names it first, and a run without one is left alone."""

from __future__ import annotations

import random
import shlex
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import DATA_SOURCE_YAML, LABELS, TASK_YAML, Ran, write_rows
from fixtures_training import CONFIG, moved_reviews

from nlp_skills import files
from nlp_skills.diagnosis import diagnose
from nlp_skills.schema import yaml
from nlp_skills.workspace.folder import TaskFolder

Row = dict[str, Any]
Splits = dict[str, list[Row]]
Plant = Callable[[], tuple[Splits, dict[str, Any], dict[str, Any]]]
# What the tiny model learns the moved labels with.
WELL: dict[str, Any] = {"epochs": 10, "learning_rate": 2e-3}


def splits(train: int, *, valid: int = 12, test: int = 36) -> Splits:
    rows = moved_reviews(train + valid + test)
    return {"train": rows[:train], "valid": rows[train : train + valid], "test": rows[train + valid :]}


def mislabelled(rows: list[Row], share: float) -> list[Row]:
    draw = random.Random(0)

    def another(row: Row) -> Row:
        return {**row, "label": draw.choice([label for label in LABELS if label != row["label"]])}

    return [another(row) if draw.random() < share else row for row in rows]


def buried(rows: list[Row]) -> list[Row]:
    """The one sentence that tells the class, in the middle of words that tell nothing and are others in every row."""
    draw = random.Random(1)

    def words() -> str:
        return " ".join("".join(draw.choices("abcdefghij", k=4)) for _word in range(12))

    return [{**row, "text": f"{words()} {row['text']} {words()}"} for row in rows]


def healthy() -> tuple[Splits, dict[str, Any], dict[str, Any]]:
    return splits(96), WELL, {}


def leaking() -> tuple[Splits, dict[str, Any], dict[str, Any]]:
    """Half of test is train again with another full stop, and nobody searches for it."""
    found = splits(72)
    found["test"] = found["test"][:18] + [{**row, "text": row["text"].replace(".", "!")} for row in found["train"][:18]]
    return found, WELL, {"data_source.yaml": {("dedup", "near"): 1}}


def imbalanced() -> tuple[Splits, dict[str, Any], dict[str, Any]]:
    found = splits(150)
    rows = found["train"]
    found["train"] = [row for at, row in enumerate(rows) if row["label"] != "positive" or at % 30 == 2]
    return found, {"epochs": 6, "learning_rate": 4e-3}, {}


def noisy() -> tuple[Splits, dict[str, Any], dict[str, Any]]:
    found = splits(96)
    return {**found, "train": mislabelled(found["train"], 0.3)}, {**WELL, "epochs": 6}, {}


def truncated() -> tuple[Splits, dict[str, Any], dict[str, Any]]:
    found = {name: buried(rows) for name, rows in splits(72).items()}
    return found, {**WELL, "epochs": 4, "max_length": 80, "allow_truncation": True}, {}


def learnt_by_heart() -> tuple[Splits, dict[str, Any], dict[str, Any]]:
    found = splits(24)
    return {**found, "train": mislabelled(found["train"], 0.4)}, {"epochs": 25, "learning_rate": 4e-3}, {}


def untold() -> tuple[Splits, dict[str, Any], dict[str, Any]]:
    """Nothing in the prompt says which class a row is of."""
    draw = random.Random(2)

    def row(row: Row) -> Row:
        return {"text": row["text"].rpartition(" is ")[0] + ".", "label": draw.choice(LABELS)}

    return {name: [row(one) for one in rows] for name, rows in splits(120).items()}, {**WELL, "epochs": 5}, {}


FAULTS: dict[str, Plant] = {
    "learning_rate_too_high": lambda: (splits(96), {"epochs": 4, "learning_rate": 0.05}, {}),
    "learning_rate_too_low": lambda: (splits(96), {"epochs": 6, "learning_rate": 2e-5}, {}),
    "too_few_epochs": lambda: (splits(96), {**WELL, "epochs": 1}, {}),
    "overfitting": learnt_by_heart,
    "underfitting": untold,
    "rank_too_small": lambda: (splits(96), {"epochs": 6, "learning_rate": 4e-3, "lora": {"r": 1, "alpha": 2}}, {}),
    "class_imbalance": imbalanced,
    "label_noise": noisy,
    "truncation": truncated,
    "leakage": leaking,
}  # fmt: skip


def sentences() -> tuple[Splits, dict[str, Any], dict[str, Any]]:
    """JSON that a tiny model has seen a few times only."""

    def row(text: str) -> Row:
        thing, word = text.partition("this ")[2].rstrip(".").split(" is ")
        return {"text": text, "thing": thing, "word": word}

    found = {name: [row(row_["text"]) for row_ in rows] for name, rows in splits(40, valid=8, test=12).items()}
    properties = {"thing": {"type": "string"}, "word": {"type": "string"}}
    changes = {
        ("task_type",): "extraction",
        ("output_format", "type"): "json",
        ("output_format", "schema"): properties,
        ("success_criteria", "primary_metric"): "field_f1",
    }
    return found, {"epochs": 4, "learning_rate": 4e-3}, {"task.yaml": changes}


FAULTS["format_errors"] = sentences


@pytest.fixture(scope="module")
def trained(tuned_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], TaskFolder]]:
    """A task by the name of its fault: trained and evaluated by the real steps when first asked for."""
    from nlp_skills.evaluation.evaluate import evaluate
    from nlp_skills.training.train import train

    made: dict[str, TaskFolder] = {}

    def make(name: str) -> TaskFolder:
        if name not in made:
            rows, settings, changes = (FAULTS | {"healthy": healthy})[name]()
            folder = planted(tmp_path_factory.mktemp(name) / "reviews", tuned_base, rows, settings, changes)
            assert train(folder).state == "completed"
            evaluate(folder)
            made[name] = folder
        return made[name]

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NLP_SKILLS_DETERMINISTIC", "1")
        yield make


def planted(root: Path, base: Path, rows: Splits, settings: dict[str, Any], changes: dict[str, Any]) -> TaskFolder:
    root.mkdir()
    (root / "task.yaml").write_text(TASK_YAML.format(name="reviews", base_model=base), encoding="utf-8")
    (root / "data_source.yaml").write_text(DATA_SOURCE_YAML.format(path="reviews.jsonl"), encoding="utf-8")
    for name, split in rows.items():
        write_rows(root / "data" / f"{name}.jsonl", split)
    write_rows(root / "reviews.jsonl", [row for split in rows.values() for row in split])
    for file, change in changes.items():
        yaml.change(root / file, change)
    folder = TaskFolder.at(root)
    path = folder.version("v1").config_path
    path.parent.mkdir(parents=True)
    path.write_text(yaml.dumps({"base_model": str(base), **CONFIG, **settings}), encoding="utf-8")
    return folder


def contents(folder: TaskFolder) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in sorted(folder.root.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("code", FAULTS)
def test_a_planted_fault_is_found_first_and_its_command_does_what_it_says(
    code: str, trained: Callable[[str], TaskFolder], cli: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = trained(code)
    before = contents(folder)
    monkeypatch.chdir(folder.root.parent)
    ran = cli("diagnose", "reviews", "--json")
    assert ran.code == 0 and contents(folder) == before
    first, *_others = ran.json["findings"]
    assert first["code"] == code and first["severity"] in ("warning", "critical"), ran.json["findings"]
    consistent(ran.json["findings"])
    assert all((folder.root / entry["file"]).is_file() for entry in first["evidence"] if "file" in entry)
    assert any(entry.get("figures") for entry in first["evidence"])
    commands = [shlex.split(line) for line in first["change"]["commands"]]
    command = next(words for words in commands if words[1] == "new-version")
    made = cli(*command[1:], "--json")
    assert made.code == 0, made.out
    config = yaml.read(folder.version("v2").config_path).data
    for key, value in first["change"]["settings"].items():
        at = config
        for part in key.split("."):
            at = at[part]
        assert at == value, key
    assert not first["change"]["settings"] or config != yaml.read(folder.version("v1").config_path).data


def consistent(findings: list[dict[str, Any]]) -> None:
    """Nothing is said of a version that contradicts something else said of it."""
    codes = {entry["code"] for entry in findings}
    for pair in ({"overfitting", "underfitting"}, {"learning_rate_too_high", "learning_rate_too_low"},
                 {"too_few_epochs", "too_many_epochs"}, {"overfitting", "rank_too_small"}):  # fmt: skip
        assert not pair <= codes
    ranks = [("critical", "warning", "note").index(entry["severity"]) for entry in findings]
    assert ranks == sorted(ranks)


def test_a_run_that_went_well_is_left_alone(trained: Callable[[str], TaskFolder], cli: Callable[..., Ran]) -> None:
    folder = trained("healthy")
    found = diagnose.of(folder)
    assert found.well and {finding.severity for finding in found.findings} == {"note"}
    assert found.findings[-1].code == "nothing"
    said = cli("diagnose", folder.root)
    assert said.code == 0 and "nothing wrong was found" in said.out and "looked at: the curves" in said.out


def test_a_prompt_that_changed_since_is_found_first(
    trained: Callable[[str], TaskFolder], project: Path, cli: Callable[..., Ran]
) -> None:
    folder = copied(trained("healthy"), project)
    yaml.change(folder.task_path, {("input_template",): "What does this customer feel?\n{text}\n"})
    first = diagnose.of(folder).findings[0]
    assert (first.code, first.severity) == ("template_mismatch", "warning")
    said = first.evidence[0].text
    assert "Is this review positive" in said and "What does this customer feel?" in said
    assert first.change is not None
    made = cli(*shlex.split(first.change.lines[0])[1:])
    assert made.code == 0 and "v2, from v1" in made.out


def test_a_learning_curve_that_rises_outweighs_what_else_fits(
    trained: Callable[[str], TaskFolder], project: Path
) -> None:
    folder = copied(trained("overfitting"), project)
    write_curve(folder, "v1", rising=True)
    found = diagnose.of(folder, "v1").findings
    assert found[0].code == "too_little_data" and "overfitting" in {finding.code for finding in found}
    assert found[0].effect is not None and "by the learning curve" in found[0].effect
    assert found[0].effort is not None and found[0].effort.label_rows == 24
    write_curve(folder, "v1", rising=False)
    assert "too_little_data" not in {finding.code for finding in diagnose.of(folder, "v1").findings}


def copied(folder: TaskFolder, project: Path) -> TaskFolder:
    return TaskFolder.at(Path(shutil.copytree(folder.root, project / "reviews")))


def write_curve(folder: TaskFolder, version: str, *, rising: bool) -> None:
    """learning_curve.json as the command writes it, from answers that are right as often as a law says."""
    import numpy as np

    from nlp_skills.learning_curve import outlook
    from nlp_skills.learning_curve.curve import Curve
    from nlp_skills.learning_curve.outlook import Asked, Trained

    draw = np.random.default_rng(3)
    trained = []
    for percent in (25, 50, 75, 100):
        share = 0.95 - 0.35 * (percent / 100) ** -0.6 if rising else 0.6
        # Evenly spread, so that no chance bends the curve.
        right = (np.arange(600) + 0.5) / 600 < share
        trained.append(Trained(percent, 0, 24 * percent // 100, ["a" if one else "b" for one in draw.permuted(right)]))
    found = outlook.of(trained, Asked("label", ["a", "b"], ["a"] * 600, "accuracy"))
    assert (found.verdict == "label_more") is rising
    path = folder.version(version).root / "learning_curve.json"
    curve = Curve("reviews", version, 24, 600, 1, 1.0, False, found, path, path.with_suffix(".svg"))
    files.write_json(path, curve.as_dict())
