"""Every method on every kind of weights: better than at its start, the same after loading, merged, and resumed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import LABELS, write_rows
from fixtures_training import stopped
from tiny import QUESTION

from nlp_skills.evaluation import asked
from nlp_skills.evaluation.model import load
from nlp_skills.evaluation.scores import sheet
from nlp_skills.training import adapters, artefact, base_model, device, selection
from nlp_skills.training import train as training
from nlp_skills.workspace.folder import TaskFolder

Ready = Callable[..., TaskFolder]

LORA = {"r": 8, "alpha": 16}
KINDS: dict[str, dict[str, Any]] = {
    "lora": {},
    "qlora": {"adapter": "qlora"},
    "full": {"adapter": "full", "lora": None},
}
# What changes a tiny model's mind in few steps: how fast each learns, and for how long.
SFT = {"epochs": 6, "learning_rate": 3e-3}
PREFERENCES: dict[str, dict[str, Any]] = {
    "dpo": {"epochs": 1, "train": 72, "batch_size": 4, "learning_rate": 4e-3},
    "orpo": {"epochs": 4, "train": 24, "learning_rate": 4e-3, "beta": 0.1, "seed": 5},
    "kto": {"epochs": 3, "train": 24, "learning_rate": 4e-3, "beta": 0.5},
}
SLOWER: dict[str, dict[str, Any]] = {
    "sft-full": {"learning_rate": 2e-3},
    "dpo-full": {"learning_rate": 5e-4},
    "orpo-full": {"epochs": 1, "train": 72, "batch_size": 4, "learning_rate": 1e-3, "seed": 3},
    "kto-full": {"epochs": 4, "train": 12, "learning_rate": 2e-3},
}
VARIANTS: dict[str, dict[str, Any]] = {
    "rslora": {"rslora": True},
    "dora": {"dora": True},
    "gaussian": {"init": "gaussian"},
    "orthogonal": {"init": "orthogonal"},
    "pissa": {"init": "pissa"},
    "olora": {"init": "olora"},
    "eva": {"init": "eva"},
    "plus": {"plus_ratio": 4},
    "dropout": {"dropout": 0.1},
}
LONGER: dict[str, dict[str, Any]] = {
    "orthogonal": {"epochs": 8},
    "pissa": {"epochs": 8},
    "eva": {"epochs": 8},
    "plus": {"learning_rate": 2e-3},
    "dropout": {"learning_rate": 4e-3},
}
CELLS: dict[str, dict[str, Any]] = {
    **{f"sft-{kind}": {**SFT, **KINDS[kind], **SLOWER.get(f"sft-{kind}", {})} for kind in KINDS},
    **{f"sft-{name}": {**SFT, "lora": {**LORA, **lora}, **LONGER.get(name, {})} for name, lora in VARIANTS.items()},
    "sft-qlora-dora": {**SFT, "adapter": "qlora", "lora": {**LORA, "dora": True}},
    "sft-qlora-eva": {**SFT, "adapter": "qlora", "lora": {**LORA, "init": "eva"}, "learning_rate": 2e-3},
    **{
        f"{method}-{kind}": {"method": method, **settings, **KINDS[kind], **SLOWER.get(f"{method}-{kind}", {})}
        for method, settings in PREFERENCES.items()
        for kind in KINDS
    },
}
# Those whose checkpoints are made as others' are.
NOT_STOPPED = {f"sft-{name}" for name in ("rslora", "gaussian", "orthogonal", "olora", "qlora-dora", "qlora-eva")}
# The macro F1 of giving every row one and the same answer.
ONE_ANSWER = 1 / 6


@pytest.fixture(autouse=True)
def _same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NLP_SKILLS_DETERMINISTIC", "1")


@pytest.mark.parametrize("name", CELLS)
def test_it_learns_loads_merges_and_goes_on(name: str, ready: Ready, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = CELLS[name]
    folder = ready(**settings)
    prefer(folder)
    other = TaskFolder.at(shutil.copytree(folder.root, folder.root.parent / "other"))

    in_memory = trained(folder, monkeypatch)
    loaded = load(folder, "v1")
    before, after = f1(folder, start_of(folder)), f1(folder, loaded.model)
    assert after > max(before, ONE_ANSWER)
    said = logits(loaded.model)
    assert difference(logits(in_memory), said) == 0, "what is evaluated is what was trained"
    if settings.get("adapter") != "full":
        assert difference(logits(adapters.merged(loaded.model)), said) < 1e-4

    if name in NOT_STOPPED:
        return
    stopped(other, monkeypatch, at=4)
    assert training.train(other).state == "completed"
    assert saved(other) == saved(folder)


def prefer(folder: TaskFolder) -> None:
    """Pairs in which a row's label is better than each of the others, that of the base model among them."""
    for split in ("train", "valid"):
        rows = [json.loads(line) for line in folder.split(split).read_text().splitlines()]
        pairs = [
            {"prompt": QUESTION.format(text=row["text"]), "chosen": row["label"], "rejected": other}
            for row in rows
            for other in LABELS
            if other != row["label"]
        ]
        write_rows(folder.preferences(split), pairs)


def trained(folder: TaskFolder, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Train v1 and return the model that was saved, as it was in memory."""
    saved_models = []
    save_model = artefact.save_model

    def save(model: Any, *arguments: Any, **settings: Any) -> Path:
        saved_models.append(model)
        return save_model(model, *arguments, **settings)

    with monkeypatch.context() as patch:
        patch.setattr(artefact, "save_model", save)
        assert training.train(folder).state == "completed"
    (model,) = saved_models
    return model


def start_of(folder: TaskFolder) -> Any:
    """What the training of v1 began with."""
    config = folder.version("v1").config()
    return base_model.load_model(config.base_model, device.pick(), quantization=adapters.quantization(config))


def f1(folder: TaskFolder, model: Any) -> float:
    """Macro F1 on the valid split, by the likelihood of each label."""
    config = folder.version("v1").config()
    tokenizer = base_model.load_tokenizer(config.base_model)
    questions = selection.questions(folder, folder.task(), config, tokenizer)
    given, _in_words = asked.ask(model, questions, device.pick())
    figures = sheet.of(questions.kind, questions.gold(), given, labels=questions.labels).figures()
    return float(figures["macro_f1"])


def logits(model: Any) -> Any:
    import torch

    model.eval().set_attn_implementation("eager")
    with torch.no_grad():
        return model(input_ids=torch.arange(3, 67).view(2, 32)).logits


def difference(one: Any, other: Any) -> float:
    return float((one - other).abs().max())


def saved(folder: TaskFolder) -> list[bytes]:
    model = folder.version("v1").model
    assert model is not None
    return [path.read_bytes() for path in sorted(model.iterdir())]
