"""What is trained on top of what: adapters and their beginnings, a base model in four bits, an earlier version.

Weights that are trained are kept in 32 bits, an adapter on a base model in four bits too: there TRL rounds adapters to
16, as the paper on QLoRA did, in which a step of a small learning rate changes nothing, and the version that a run
goes on from would no longer be that version.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from nlp_skills import extras
from nlp_skills.data.findings import Finding, of_problem
from nlp_skills.errors import Invalid
from nlp_skills.i18n import _
from nlp_skills.schema.training import PRINCIPAL, Config
from nlp_skills.training import base_model, beginnings, init_from, quantized
from nlp_skills.training.device import Device
from nlp_skills.training.job import Job
from nlp_skills.workspace.folder import TaskFolder


def quantization(config: Config) -> Literal["nf4"] | None:
    """How the base model's weights are kept while an adapter is trained on them."""
    return "nf4" if config.adapter == "qlora" else None


def load(job: Job, device: Device) -> Any:
    """The model to train: the base model without the new adapter, or the version that `init_from` names.

    Raises:
        Invalid: that version's weights are not there, or not of this base model and kind.
        Unavailable: the base model or the extra qlora is missing.
    """
    config, root = job.config, job.folder.root
    start = init_from.of(job.folder, config, job.version.config_path, job.base_hash)
    if start is not None and config.adapter == "full":
        return base_model.load_model(str(start.weights), device)
    kept = quantization(config)
    model = base_model.load_model(config.base_model, device, root=root, quantization=kept, shared=job.sharded)
    if start is not None:
        return on_top(model, start.weights, trainable=True)
    if _wrapped_here(config):
        from peft import get_peft_model
        from transformers import set_seed

        set_seed(config.seed)
        return get_peft_model(model, _settings(config))
    return model


def on_top(model: Any, adapter: Path, *, trainable: bool = False, name: str = "default") -> Any:
    """A base model with a saved adapter on it; `name` is what the adapter is called there."""
    from peft import PeftModel

    with warnings.catch_warnings():
        # PEFT 0.21 asks transformers 5 for an attribute by its old name.
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing", category=FutureWarning)
        return PeftModel.from_pretrained(model, str(adapter), adapter_name=name, is_trainable=trainable)


def beside(model: Any, adapter: Path, name: str) -> None:
    """Put one more saved adapter on a model that has one; `set_adapter` then switches between them."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing", category=FutureWarning)
        model.load_adapter(str(adapter), name)
    model.eval()


def settings(config: Config) -> Any:
    """The new adapter's settings for TRL to make it by; None where there is none, or `load` has put it on."""
    if config.adapter == "full" or config.init_from is not None or _wrapped_here(config):
        return None
    return _settings(config)


def _wrapped_here(config: Config) -> bool:
    """Whether TRL must not do it: for ORPO it also changes the precision of a base model in four bits.

    What loads the version later could not know.
    """
    return config.adapter == "qlora" and config.method == "orpo" and config.init_from is None


def _settings(config: Config) -> Any:
    from peft import EvaConfig, LoraConfig

    lora = config.lora
    assert lora is not None
    # Twice the rank, the same scale: of one half B·A is added, of the other it is subtracted.
    grown = (2**0.5 if lora.rslora else 2) if lora.init in PRINCIPAL else 1
    eva = lora.init == "eva"
    return LoraConfig(
        r=beginnings.rank(lora),
        lora_alpha=lora.alpha * grown,
        lora_dropout=lora.dropout,
        target_modules=lora.target_modules,
        use_rslora=bool(lora.rslora),
        use_dora=bool(lora.dora),
        init_lora_weights="eva" if eva else "gaussian" if lora.init == "gaussian" else True,
        eva_config=EvaConfig(rho=1.0) if eva else None,
        task_type="CAUSAL_LM",
    )


def begin(model: Any, job: Job, rows: Any) -> None:
    """What is left to do once the trainer has put an adapter on the model, or none.

    Raises:
        Invalid: the rows do not suffice for the beginning that config.yaml wants.
    """
    config = job.config
    _in_32_bits(model)
    if config.lora is None:
        return
    if config.init_from is not None:
        _restore(model, job)
    elif job.checkpoint is None:
        beginnings.begin(model, config, rows, job.micro_batch)
    beginnings.hold(model, config.lora)


def _in_32_bits(model: Any) -> None:
    import torch

    trained = [(name, weight) for name, weight in model.named_parameters() if weight.requires_grad]
    for name, weight in trained:
        if quantized.is_quantized(model):
            weight.data = weight.data.float()
        # DeepSpeed shares weights out in one precision only, and keeps those it trains in 32 bits beside them.
        if weight.dtype != torch.float32 and not hasattr(weight, "ds_id"):
            raise Invalid(
                _("the weights to train are in {precision}", precision=str(weight.dtype).removeprefix("torch.")),
                cause=_("{name}: small updates would change nothing", name=name),
                mend=_("remove what sets their precision from extra: in config.yaml"),
            )


def _restore(model: Any, job: Job) -> None:
    """The earlier version's adapter once more, to the last digit: a trainer may have rounded it."""
    from peft import set_peft_model_state_dict
    from safetensors.torch import load_file

    start = init_from.of(job.folder, job.config, job.version.config_path, job.base_hash)
    assert start is not None
    set_peft_model_state_dict(model, load_file(start.weights / "adapter_model.safetensors"))


def optimizer(model: Any, config: Config, arguments: Any) -> Any:
    """LoRA+ where config.yaml wants it, on the optimiser TRL would have used; else None, for TRL's."""
    if config.lora is None or config.lora.plus_ratio is None:
        return None
    from peft.optimizers import create_loraplus_optimizer
    from transformers import Trainer

    kind, options = Trainer.get_optimizer_cls_and_kwargs(arguments, model)
    return create_loraplus_optimizer(
        model,
        kind,
        loraplus_lr_ratio=config.lora.plus_ratio,
        loraplus_weight_decay=arguments.weight_decay,
        **options,
    )


def merged(model: Any) -> Any:
    """A model without adapter that answers as this one with its adapter does; this one is used up.

    In 32 bits the logits are at most 1e-4 apart, of rounding. A base model in four bits is written out in full first:
    merging into the base model it came from would leave out what the adapter has learnt about its rounding (logits up
    to 2 apart on a tiny model), and rounding the sum to four bits again is no better.
    """
    if quantized.is_quantized(model):
        model = _written_out(model)
    return model.merge_and_unload(safe_merge=True)


def _written_out(model: Any) -> Any:
    from peft import get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict

    settings = model.peft_config["default"]
    tensors = {
        name: tensor.clone() for name, tensor in get_peft_model_state_dict(model, save_embedding_layers=False).items()
    }
    plain = model.unload().dequantize()
    settings.init_lora_weights = True
    again = get_peft_model(plain, settings)
    set_peft_model_state_dict(again, tensors)
    return again.eval()


def check(folder: TaskFolder, config: Config, path: Path) -> list[Finding]:
    """What is wrong with `adapter`, `lora` and `init_from`, before any weights are read; `path` has them.

    Raises:
        Unavailable: the base model, or the extra qlora, is missing.
    """
    if config.adapter == "qlora":
        extras.need("qlora", "bitsandbytes")
    try:
        base_hash = base_model.fingerprint(config.base_model, root=folder.root) if config.init_from else ""
        start = init_from.of(folder, config, path, base_hash)
        _check_layers(folder, config, path, start)
    except Invalid as problem:
        return list(of_problem(problem, "adapter"))
    return []


def _check_layers(folder: TaskFolder, config: Config, path: Path, start: init_from.Start | None) -> None:
    lora = config.lora
    if lora is None or (start is None and lora.target_modules == "all-linear" and lora.init in (None, "default")):
        return
    from peft import get_peft_model, get_peft_model_state_dict

    network = _outline(base_model.locate(config.base_model, root=folder.root))
    _refuse_unknown_layers(network, config, path)
    settings = _settings(config)
    state = get_peft_model_state_dict(get_peft_model(network, settings), save_embedding_layers=False)
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    if start is not None:
        _refuse_differences(start, settings, shapes, path)
    elif lora.init in (*PRINCIPAL, "eva"):
        _refuse_rank(config, shapes, path)


def _outline(base: str) -> Any:
    """The base model without its weights."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(base, trust_remote_code=False, local_files_only=True)
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config, trust_remote_code=False)


def _refuse_unknown_layers(network: Any, config: Config, path: Path) -> None:
    assert config.lora is not None
    wanted = config.lora.target_modules
    if wanted == "all-linear":
        return
    layers = list(_linear(network))
    if isinstance(wanted, str):
        unknown = [] if any(re.fullmatch(wanted, layer) for layer in layers) else [wanted]
    else:
        unknown = [name for name in wanted if not any(f".{layer}".endswith(f".{name}") for layer in layers)]
    if unknown:
        known = sorted({layer.rpartition(".")[2] for layer in layers})
        raise Invalid(
            _("lora.target_modules do not fit the base model"),
            file=path,
            cause=_("it has no linear layer {names}", names=", ".join(unknown)[:200]),
            mend=_("choose of [{known}], or set all-linear", known=", ".join(known)),
        )


def _linear(network: Any) -> Iterator[str]:
    """The layers an adapter can be on, by their names in the model; the head takes none."""
    import torch
    from transformers.pytorch_utils import Conv1D

    head = network.get_output_embeddings()
    for name, module in network.named_modules():
        if isinstance(module, torch.nn.Linear | Conv1D) and module is not head:
            yield name


def _refuse_differences(start: init_from.Start, settings: Any, shapes: dict[str, tuple[int, ...]], path: Path) -> None:
    found = list(init_from.differences(start, settings, shapes))
    if found:
        raise Invalid(
            _("init_from: lora is not that of {name}", name=start.name),
            file=path,
            cause="; ".join(found),
            mend=_("copy lora: of versions/{name}/config.yaml, or remove init_from", name=start.name),
        )


def _refuse_rank(config: Config, shapes: dict[str, tuple[int, ...]], path: Path) -> None:
    """These beginnings are directions of a layer, of which it has as many as its shorter side."""
    assert config.lora is not None
    sides = [shape["lora_A" in name] for name, shape in shapes.items() if "lora_A" in name or "lora_B" in name]
    if config.lora.r > min(sides):
        raise Invalid(
            _("lora.r {rank} is more than init: {init} can begin with", rank=config.lora.r, init=config.lora.init),
            file=path,
            cause=_("the smallest layer has a side of {side}", side=min(sides)),
            mend=_("set r: {side} or less, or init: default", side=min(sides)),
        )
