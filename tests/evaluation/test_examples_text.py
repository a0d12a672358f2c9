"""The three tasks of real text in examples/, from fetching their rows to a report, by a tiny model.

The figures are computed once more from predictions.jsonl, by the libraries that everybody uses.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, Ran

from nlp_skills.schema import yaml
from nlp_skills.workspace.folder import TaskFolder

Row = dict[str, Any]
Figures = dict[str, float]


def of_labels(gold: list[Any], given: list[Any], rows: list[Row]) -> Figures:
    from sklearn import metrics

    labels = ["positive", "neutral", "negative"]
    present = [label for label in labels if label in gold]
    return {
        "macro_f1": metrics.f1_score(gold, given, labels=present, average="macro", zero_division=0),
        "weighted_f1": metrics.f1_score(gold, given, labels=labels, average="weighted", zero_division=0),
        "accuracy": metrics.accuracy_score(gold, given),
        "mcc": metrics.matthews_corrcoef(gold, given),
    }


def of_entities(gold: list[Any], given: list[Any], rows: list[Row]) -> Figures:
    """Strict and partial entity F1 of nervaluate, each mention found from left to right."""
    from nervaluate.evaluator import Evaluator

    def placed(answer: Row | None, text: str) -> list[Row]:
        found, after = [], {}
        for entity in (answer or {}).get("entities", []):
            name = entity["text"]
            start = text.find(name, after.get(name, 0)) if name else -1
            if start >= 0:
                after[name] = start + len(name)
                found.append({"label": entity["type"], "start": start, "end": start + len(name) - 1})
        return found

    texts = [row["input"]["text"] for row in rows]
    true, said = ([placed(one, text) for one, text in zip(side, texts, strict=True)] for side in (gold, given))
    tags = ["person", "place", "organisation"]
    results = Evaluator(true, said, tags=tags, loader="dict").evaluate()["overall"]
    return {
        "entity_f1": results["strict"].f1,
        "entity_recall": results["strict"].recall,
        "entity_f1_partial": results["partial"].f1,
    }


def of_texts(gold: list[Any], given: list[Any], rows: list[Row]) -> Figures:
    import sacrebleu
    from rouge_score.rouge_scorer import RougeScorer

    said = [one or "" for one in given]
    rouge = RougeScorer(["rougeL"])
    return {
        "bleu": sacrebleu.corpus_bleu(said, [gold]).score / 100,
        "chrf": sacrebleu.corpus_chrf(said, [gold]).score / 100,
        "exact_match": sum(a == b for a, b in zip(gold, given, strict=True)) / len(gold),
        "rougeL": sum(rouge.score(a, b)["rougeL"].fmeasure for a, b in zip(gold, said, strict=True)) / len(gold),
    }


EXAMPLES: dict[str, tuple[Callable[[list[Any], list[Any], list[Row]], Figures], str]] = {
    "review-sentiment": (of_labels, "rules"),
    "entity-extraction": (of_entities, "gazetteer"),
    "short-answers": (of_texts, "nearest"),
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_task_of_real_text_from_its_rows_to_its_report(
    name: str, project: Path, tuned_base: Path, cli: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NLP_SKILLS_DETERMINISTIC", "1")
    root = Path(shutil.copytree(ROOT / "examples" / name, project / name))
    subprocess.run([sys.executable, root / "fetch.py", "--rows", "80"], check=True, cwd=root)
    # The example's own model takes minutes.
    small = {"base_model": str(tuned_base), "epochs": 1, "system_prompt": "Answer.", "max_length": 480}
    yaml.change(root / "task.yaml", {("training", key): value for key, value in small.items()})
    measured, simple = EXAMPLES[name]
    steps = ["regenerate", "generate", "train", ("evaluate", "--baselines", simple), "diagnose", "report"]
    for step in steps:
        words = [step] if isinstance(step, str) else list(step)
        ran = cli(words[0], name, *words[1:])
        assert ran.code == 0, ran.err
    version = TaskFolder.at(root).version("v1")
    results = version.results()
    assert results is not None and results.success.verdict in ("met", "not_met", "cannot_tell")
    rows = [json.loads(line) for line in version.predictions_path.read_text(encoding="utf-8").splitlines()]
    gold = [row["gold"] for row in rows]
    for given, figures in (
        ([row["predicted"] for row in rows], results.metrics),
        ([row["baselines"][simple] for row in rows], results.baselines[simple]),
    ):
        for metric, value in measured(gold, given, rows).items():
            assert figures[metric] == pytest.approx(value, rel=0, abs=1e-9), metric
    assert any(value > 0 for value in results.baselines[simple].values())
    assert "<html" in version.report_path.read_text(encoding="utf-8")
