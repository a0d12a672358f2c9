"""Adapters: what they begin as, what may go on from what, and what is refused before a weight is read."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Ran
from fixtures_training import job_of

from nlp_skills.errors import Invalid, Unavailable
from nlp_skills.evaluation.model import load
from nlp_skills.schema import yaml
from nlp_skills.schema.training import Config
from nlp_skills.training import adapters, artefact, base_model, beginnings, device, preflight
from nlp_skills.training import train as training
from nlp_skills.training.encode import Encoded
from nlp_skills.workspace.folder import TaskFolder

Ready = Callable[..., TaskFolder]

CPU = device.Device("cpu", "cpu", "float32", None)
ROWS = [Encoded(line, [5 + line % 7, 6, 7, 9 + line], [8, 2]) for line in range(40)]


@pytest.fixture(autouse=True)
def _same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NLP_SKILLS_DETERMINISTIC", "1")


def config_of(base: Path, **settings: Any) -> Config:
    return Config.model_validate({"base_model": str(base), **settings})


def begun(config: Config, root: Path) -> Any:
    """The base model with a new adapter, as a trainer would have it before the first step."""
    from peft import get_peft_model

    job = job_of(config, root)
    model = get_peft_model(adapters.load(job, CPU), adapters.settings(config))
    adapters.begin(model, job, ROWS)
    return model


def logits(model: Any) -> Any:
    import torch

    with torch.no_grad():
        return model.eval()(input_ids=torch.arange(3, 67).view(2, 32)).logits


def difference(one: Any, other: Any) -> float:
    return float((one - other).abs().max())


@pytest.mark.parametrize("init", ["default", "gaussian", "orthogonal", "pissa", "olora", "eva"])
@pytest.mark.parametrize("dora", [False, True])
def test_an_adapter_begins_as_the_base_model_and_leaves_it_alone(
    init: str, dora: bool, tuned_base: Path, tmp_path: Path
) -> None:
    config = config_of(tuned_base, lora={"r": 8, "alpha": 16, "init": init, "dora": dora, "rslora": True})
    base = logits(base_model.load_model(str(tuned_base), CPU))
    model = begun(config, tmp_path)
    assert difference(logits(model), base) < 1e-4
    with model.disable_adapter():
        assert difference(logits(model), base) == 0, "without its adapter it is the base model"


@pytest.mark.parametrize("init", ["pissa", "olora"])
def test_principal_beginnings_learn_as_in_their_papers(init: str, tuned_base: Path, tmp_path: Path) -> None:
    """PEFT puts what is left of a weight in its place and learns the rest: the same outputs, the same gradients."""
    import torch
    from peft import LoraConfig, get_peft_model

    ids = torch.arange(3, 67).view(2, 32)
    config = config_of(tuned_base, lora={"r": 4, "alpha": 8, "init": init})
    ours = begun(config, tmp_path)
    settings = LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", init_lora_weights=init, task_type="CAUSAL_LM")
    theirs = get_peft_model(base_model.load_model(str(tuned_base), CPU), settings)
    for model in (ours, theirs):
        optimizer = torch.optim.AdamW([w for w in model.parameters() if w.requires_grad], lr=1e-3, weight_decay=0.0)
        for _step in range(3):
            model(input_ids=ids, labels=ids).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
    assert difference(logits(ours), logits(theirs)) < 2e-3
    assert difference(logits(ours), logits(base_model.load_model(str(tuned_base), CPU))) > 0.1, "it has learnt"
    for name, weight in ours.named_parameters():
        if "lora_A" in name:
            other = dict(begun(config, tmp_path).named_parameters())[name]
            assert torch.equal(weight[4:], other[4:]) and not torch.equal(weight[:4], other[:4])
            break


def test_eva_begins_with_what_the_rows_vary_in(tuned_base: Path, tmp_path: Path) -> None:
    import torch

    config = config_of(tuned_base, lora={"r": 4, "alpha": 8, "init": "eva"}, batch_size=4)
    model, plain = begun(config, tmp_path), begun(config_of(tuned_base, lora={"r": 4, "alpha": 8}), tmp_path)
    seen: list[Any] = []
    layer = model.get_base_model().model.layers[0].mlp.up_proj
    hook = layer.register_forward_hook(lambda _layer, inputs, _output: seen.append(inputs[0].flatten(0, 1)))
    logits_of_rows(model)
    hook.remove()
    found = torch.cat(seen)
    found = found - found.mean(0)

    def explained(down: Any) -> float:
        directions = torch.linalg.qr(down.T).Q
        return float((found @ directions).square().sum() / found.square().sum())

    other = plain.get_base_model().model.layers[0].mlp.up_proj
    assert explained(layer.lora_A["default"].weight.data) > 3 * explained(other.lora_A["default"].weight.data)


def logits_of_rows(model: Any) -> None:
    import torch

    with torch.no_grad():
        model(input_ids=torch.tensor([row.ids for row in ROWS]))


def test_eva_needs_rows_enough(tuned_base: Path, tmp_path: Path) -> None:
    config = config_of(tuned_base, lora={"r": 64, "alpha": 8, "init": "eva"})
    job = job_of(config, tmp_path)
    from peft import get_peft_model

    model = get_peft_model(adapters.load(job, CPU), adapters.settings(config))
    with pytest.raises(Invalid, match=r"lora\.r, which is 64") as refused:
        adapters.begin(model, job, ROWS[:5])
    assert "30" in str(refused.value.cause)


def test_four_bits_are_the_same_in_training_and_evaluation_and_learn_after_it(tuned_base: Path, tmp_path: Path) -> None:
    import torch

    config = config_of(tuned_base, adapter="qlora", lora={"r": 4, "alpha": 8, "dora": True})
    model = begun(config, tmp_path)
    assert {weight.dtype for weight in model.parameters() if weight.requires_grad} == {torch.float32}
    ids = torch.arange(3, 67).view(2, 32)
    evaluated = logits(model)
    model.train()
    assert difference(model(input_ids=ids).logits, evaluated) == 0
    model(input_ids=ids, labels=ids).loss.backward()
    untouched = [name for name, weight in model.named_parameters() if "lora_B" in name and not weight.grad.any()]
    assert untouched == [], "an evaluation takes no layer out of the learning"


def test_a_merge_keeps_what_was_learnt_about_four_bits(tuned_base: Path, tmp_path: Path) -> None:
    import torch

    config = config_of(tuned_base, adapter="qlora", lora={"r": 8, "alpha": 16})
    model = begun(config, tmp_path)
    torch.manual_seed(0)
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            weight.data = torch.randn_like(weight) * 0.02
    said = logits(model)
    artefact.write(model, None, tmp_path / "saved", config)
    merged = adapters.merged(model)
    assert difference(logits(merged), said) < 1e-4
    assert not any("lora" in name or "4bit" in type(module).__name__ for name, module in merged.named_modules())
    naive = adapters.on_top(base_model.load_model(str(tuned_base), CPU), tmp_path / "saved").merge_and_unload()
    assert 0.01 < difference(logits(naive), said) < 5, "merged into the base model it was rounded from"


def test_bitsandbytes_has_nothing_to_say(tuned_base: Path, capfd: pytest.CaptureFixture[str]) -> None:
    base_model.load_model(str(tuned_base), CPU, quantization="nf4")
    assert "kernels" not in capfd.readouterr().err
    assert logging.getLogger("bitsandbytes.backends.cpu.ops").getEffectiveLevel() >= logging.ERROR


def test_lora_plus_learns_b_faster_and_keeps_everything_else(tuned_base: Path, tmp_path: Path) -> None:
    from test_parts import settings_of

    lora = {"r": 4, "alpha": 8, "plus_ratio": 8.0}
    config = config_of(tuned_base, lora=lora, learning_rate=1e-3, weight_decay=0.01)
    model, arguments = begun(config, tmp_path), settings_of(config, tmp_path)
    made = adapters.optimizer(model, config, arguments)
    names = {id(weight): name for name, weight in model.named_parameters()}
    rates = {"lora_A" in names[id(w)]: group["lr"] for group in made.param_groups for w in group["params"]}
    assert rates == {True: 1e-3, False: pytest.approx(8e-3)}
    assert {group["weight_decay"] for group in made.param_groups if group["params"]} == {0.01}
    assert made.defaults["betas"] == (arguments.adam_beta1, arguments.adam_beta2)
    plain = config_of(tuned_base, lora={"r": 4, "alpha": 8})
    assert adapters.optimizer(model, plain, settings_of(plain, tmp_path)) is None


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"adapter": "qlora", "lora": {"init": "pissa"}}, "qlora cannot begin with init: pissa"),
        ({"adapter": "qlora", "lora": {"init": "olora"}}, "qlora cannot begin with init: olora"),
        ({"adapter": "qlora", "lora": {"init": "orthogonal"}}, "qlora cannot begin"),
        ({"lora": {"init": "orthogonal", "r": 7}}, "set r: 8"),
        ({"lora": {"init": "pissa"}, "weight_decay": 0.1}, "set it to 0"),
        ({"lora": {"init": "pissa_niter_4"}}, "pissa"),
        ({"lora": {"target_modules": ["q_proj", "lm_head"]}}, "leave lm_head out"),
    ],
)
def test_settings_that_do_not_go_together(settings: dict[str, Any], word: str, tuned_base: Path) -> None:
    with pytest.raises(ValueError, match=word):
        config_of(tuned_base, **settings)


@pytest.mark.parametrize(
    ("lora", "cause", "mend"),
    [
        ({"target_modules": ["q_proj", "v_porj"]}, "v_porj", "down_proj, gate_proj, k_proj, o_proj, q_proj"),
        ({"target_modules": "q_proj"}, "q_proj", "q_proj"),
        ({"target_modules": ["embed_tokens"]}, "embed_tokens", "all-linear"),
        ({"init": "pissa", "r": 100}, "a side of 64", "r: 64 or less"),
        ({"init": "eva", "r": 200}, "a side of", "or less"),
    ],
)
def test_lora_that_does_not_fit_the_base_is_refused_before_anything_is_trained(
    lora: dict[str, Any], cause: str, mend: str, ready: Ready
) -> None:
    folder = ready(lora={"r": 8, "alpha": 16, **lora})
    (found,) = [finding for finding in preflight.check(folder).findings if finding.severity == "error"]
    assert cause in str(found.cause) and mend in str(found.mend)
    assert found.file == str(folder.version("v1").config_path)


@pytest.mark.parametrize("wanted", [["q_proj", "v_proj"], r".*\.layers\.1\..*_proj", ["mlp.up_proj"]])
def test_lora_that_fits_is_not_refused(wanted: Any, ready: Ready) -> None:
    folder = ready(lora={"r": 8, "alpha": 16, "target_modules": wanted})
    assert adapters.check(folder, folder.version("v1").config(), folder.version("v1").config_path) == []


def test_without_bitsandbytes_its_extra_is_named(ready: Ready, monkeypatch: pytest.MonkeyPatch) -> None:
    from nlp_skills import extras

    folder = ready(adapter="qlora")
    monkeypatch.setattr(extras, "installed", lambda module: module != "bitsandbytes")
    with pytest.raises(Unavailable) as refused:
        training.train(folder)
    assert "qlora" in str(refused.value.mend)
    assert folder.task().status == "configuring"


def second(folder: TaskFolder, **settings: Any) -> TaskFolder:
    """v2 in a task that has v1, from whose configuration `settings` differ."""
    first = folder.version("v1").config_path
    path = folder.version("v2").config_path
    path.parent.mkdir(exist_ok=True)
    content = {**yaml.read(first)[0], "init_from": "v1", **settings}
    path.write_text(yaml.dumps({name: value for name, value in content.items() if value is not None}))
    yaml.change(folder.task_path, {("version",): "v2", ("status",): "configuring"})
    return folder


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"adapter": "qlora", "lora": {"r": 8, "alpha": 16, "dora": True}},
        {"lora": {"r": 8, "alpha": 16, "init": "pissa"}},
        {"adapter": "full", "lora": None},
    ],
    ids=["lora", "qlora", "pissa", "full"],
)
def test_a_version_goes_on_from_another(settings: dict[str, Any], ready: Ready, tmp_path: Path) -> None:
    folder = ready(train=24, epochs=1, **settings)
    assert training.train(folder).state == "completed"
    first = load(folder, "v1")
    second(folder)
    config = folder.version("v2").config()
    job = job_with(folder, config)
    model = adapters.load(job, CPU)
    round_to_16_bits(model)  # as TRL's trainers do where the base model is in four bits
    adapters.begin(model, job, ROWS)
    assert difference(logits(model), logits(first.model)) == 0, "it starts as the version it goes on from"
    assert adapters.settings(config) is None
    assert training.train(folder).state == "completed"
    info = folder.version("v2").model_info()
    assert info is not None and info.init_from == "v1"
    one, other = (folder.version(name).model for name in ("v1", "v2"))
    assert one is not None and other is not None
    assert sorted(path.name for path in one.iterdir()) == sorted(path.name for path in other.iterdir())
    assert difference(logits(load(folder, "v2").model), logits(first.model)) > 1e-3


def round_to_16_bits(model: Any) -> None:
    import torch

    for weight in model.parameters():
        if weight.requires_grad and getattr(model, "is_loaded_in_4bit", False):
            weight.data = weight.data.to(torch.bfloat16)


def job_with(folder: TaskFolder, config: Config) -> Any:
    import dataclasses

    identity = {config.base_model: base_model.fingerprint(config.base_model)}
    return dataclasses.replace(
        job_of(config, folder.root), folder=folder, version=folder.version("v2"), identity=identity
    )


def test_what_cannot_go_on_is_refused_in_words(ready: Ready, tiny_base: Path, cli: Callable[..., Ran]) -> None:
    folder = ready(train=24, epochs=1)
    refused = [
        ({}, "never trained", "nlp-skills train --version v1"),
        ({"init_from": "v2"}, "this version itself", "remove init_from"),
        ({"init_from": "v9"}, "", ""),
    ]
    for settings, *words in refused:
        second(folder, **settings)
        ran = cli("train", folder.root)
        assert ran.code == 1 and all(word in ran.err for word in words), ran.err
        assert "Traceback" not in ran.err and folder.task().status == "configuring"
    yaml.change(folder.task_path, {("version",): "v1"})
    assert cli("train", folder.root).code == 0

    lora = {"r": 8, "alpha": 16}
    refused = [
        ({"base_model": str(tiny_base)}, "another base model", "set base_model: "),
        ({"adapter": "qlora"}, "v1 is a LoRA adapter", "set adapter: lora"),
        ({"adapter": "full", "lora": None}, "v1 is a LoRA adapter", "set adapter: lora"),
        ({"lora": {**lora, "r": 4}}, "rank: 4 wanted, 8 there", "copy lora: of versions/v1/config.yaml"),
        ({"lora": {**lora, "alpha": 8}}, "alpha: 8.0 wanted, 16", "copy lora:"),
        ({"lora": {**lora, "dora": True}}, "dora: True wanted", "copy lora:"),
        ({"lora": {**lora, "init": "pissa"}}, "rank: 16 wanted, 8 there", "copy lora:"),
        ({"lora": {**lora, "target_modules": ["q_proj"]}}, "other layers", "copy lora:"),
    ]
    for settings, *words in refused:
        second(folder, **settings)
        ran = cli("train", folder.root)
        assert ran.code == 1 and all(word in ran.err for word in words), ran.err
        assert "Traceback" not in ran.err and not folder.version("v2").run.exists()


def test_an_adapter_of_a_base_model_that_changed_is_refused(ready: Ready, tuned_base: Path, tmp_path: Path) -> None:
    base = shutil.copytree(tuned_base, tmp_path / "base")
    folder = ready(train=24, epochs=1, base=base)
    training.train(folder)
    settings = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps({**settings, "rms_norm_eps": 1e-5}))
    second(folder)
    with pytest.raises(Invalid, match="another base model") as refused:
        training.train(folder)
    assert "is not what it was when v1 was trained" in str(refused.value.cause)


def test_an_adapter_does_not_stand_on_a_whole_model(ready: Ready) -> None:
    folder = ready(train=24, epochs=1, adapter="full", lora=None)
    training.train(folder)
    second(folder, adapter="lora", lora={"r": 8, "alpha": 16})
    with pytest.raises(Invalid, match="cannot go on as adapter: lora") as refused:
        training.train(folder)
    assert "whole model" in str(refused.value.cause) and "adapter: full" in str(refused.value.mend)


def test_what_is_saved_is_plain_and_the_same_every_time(ready: Ready) -> None:
    lora = {"r": 8, "alpha": 16, "init": "pissa", "target_modules": ["up_proj", "q_proj", "down_proj"]}
    folder = ready(train=24, epochs=1, lora=lora)
    again = TaskFolder.at(shutil.copytree(folder.root, folder.root.parent / "again"))
    for each in (folder, again):
        training.train(each)
    one, other = folder.version("v1").adapter, again.version("v1").adapter
    assert {path.name: path.read_bytes() for path in one.iterdir()} == {
        path.name: path.read_bytes() for path in other.iterdir()
    }
    settings = json.loads((one / "adapter_config.json").read_text())
    assert (settings["r"], settings["lora_alpha"], settings["init_lora_weights"]) == (16, 32, True)
    from safetensors.torch import load_file

    tensors = load_file(one / "adapter_model.safetensors")
    assert {str(tensor.dtype) for tensor in tensors.values()} == {"torch.float32"}
    assert all("lora_" in name for name in tensors), "no base weights beside it"
    assert beginnings.rank(folder.version("v1").config().lora) == 16  # type: ignore[arg-type]


def test_weights_that_are_not_numbers_are_not_saved(tuned_base: Path, tmp_path: Path) -> None:
    config = config_of(tuned_base, lora={"r": 4, "alpha": 8})
    model = begun(config, tmp_path)
    next(weight for name, weight in model.named_parameters() if "lora_B" in name).data.fill_(float("nan"))
    with pytest.raises(Invalid, match="not numbers"):
        artefact.write(model, None, tmp_path / "saved", config)
    assert not (tmp_path / "saved").exists()


def test_weights_to_train_in_16_bits_are_refused(tuned_base: Path, tmp_path: Path) -> None:
    config = config_of(tuned_base, adapter="full")
    model = base_model.load_model(str(tuned_base), device.Device("cpu", "cpu", "bfloat16", None))
    with pytest.raises(Invalid, match="bfloat16"):
        adapters.begin(model, job_of(config, tmp_path), ROWS)
