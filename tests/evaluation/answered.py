"""A task of any kind whose version answered its test rows, written by hand: what an error analysis reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from conftest import write_rows

from nlp_skills import files
from nlp_skills.data import snapshot
from nlp_skills.evaluation import forms
from nlp_skills.evaluation.scores import intervals, sheet
from nlp_skills.schema import kinds, yaml
from nlp_skills.schema.task import Task
from nlp_skills.schema.training import Config
from nlp_skills.schema.version import Results, Verdict
from nlp_skills.workspace.folder import TaskFolder

Row = dict[str, Any]

USUAL = {"label": "macro_f1", "labels": "macro_f1", "spans": "entity_f1", "fields": "field_f1", "text": "chrf"}


def task(
    root: Path,
    task_type: str,
    schema: Mapping[str, Any],
    test: Sequence[Row],
    predicted: Sequence[Any],
    *,
    train: Sequence[Row] = (),
    probabilities: Sequence[Mapping[str, float]] | None = None,
    **more: Any,
) -> TaskFolder:
    """Write the task with version v1. `predicted` has the form of the kind; rows have `text` and the answer."""
    content = {
        "task_name": root.name,
        "task_type": task_type,
        "input_template": "{text}",
        "output_format": {"type": "json", "schema": schema},
        **more,
    }
    root.mkdir(parents=True)
    (root / "task.yaml").write_text(yaml.dumps(content), encoding="utf-8")
    folder, read = TaskFolder.at(root), Task.model_validate(content)
    write_rows(folder.split("test"), list(test))
    write_rows(folder.split("train"), list(train))
    version = folder.version("v1")
    version.root.mkdir(parents=True)
    Config(base_model="none/none", max_length=128).save(version.config_path)
    kind = kinds.of(read.task_type, read.output_format)
    gold = [forms.of(kind, read.output_format, row) for row in test]
    write_rows(version.predictions_path, _lines(test, gold, predicted, probabilities))
    labels = read.output_format.labels if kind in ("label", "labels") else ()
    marked = sheet.of(kind, gold, predicted, labels=labels, texts=[{"text": row["text"]} for row in test])
    figures = {name: float(value) for name, value in marked.figures().items()}
    primary = USUAL[kind] if USUAL[kind] in figures else marked.names[0]
    Results(
        version="v1",
        created=files.now(),
        kind=kind,
        test_sha256=files.sha256_file(folder.split("test")),
        test_rows=len(test),
        metrics=figures,
        intervals=intervals.of(marked),
        per_class=marked.per_class(),
        success=Verdict(primary_metric=primary, value=figures[primary]),
    ).save(version.results_path)
    return folder


def _lines(
    test: Sequence[Row],
    gold: Sequence[Any],
    predicted: Sequence[Any],
    probabilities: Sequence[Mapping[str, float]] | None,
) -> list[Row]:
    found = []
    for number, (row, true, given) in enumerate(zip(test, gold, predicted, strict=True)):
        line = {"key": snapshot.row_key(row, ["text"]), "gold": true, "predicted": given, "correct": true == given}
        if probabilities is not None:
            line["probabilities"] = probabilities[number]
        found.append({**line, "input": {"text": row["text"]}})
    return found
