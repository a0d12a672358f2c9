"""`extra:` of config.yaml: what is passed through to TRL under TRL's own names, and what is not, and why."""

from __future__ import annotations

import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from nlp_skills.data.findings import Finding
from nlp_skills.errors import Invalid
from nlp_skills.i18n import N_, _
from nlp_skills.schema import yaml
from nlp_skills.schema.document import cause_of, short
from nlp_skills.schema.training import Config

# What config.yaml or task.yaml calls a setting of TRL's.
OURS: dict[str, str] = {
    "num_train_epochs": "epochs",
    "per_device_train_batch_size": "batch_size",
    "gradient_accumulation_steps": "gradient_accumulation",
    "auto_find_batch_size": "batch_size",
    "learning_rate": "learning_rate",
    "warmup_steps": "warmup_ratio",
    "lr_scheduler_type": "scheduler",
    "weight_decay": "weight_decay",
    "seed": "seed",
    "data_seed": "seed",
    "beta": "beta",
    "max_length": "max_length",
    "max_completion_length": "max_length",
    "truncation_mode": "allow_truncation",
    "packing": "packing",
    "chat_template_path": "chat_template",
    "metric_for_best_model": "early_stopping",
    "greater_is_better": "early_stopping",
    "load_best_model_at_end": "early_stopping",
    "train_sampling_strategy": "class_balance",
    "gradient_checkpointing": "extra.activation_checkpointing",
    "gradient_checkpointing_kwargs": "extra.activation_checkpointing_kwargs",
    "fsdp": "execution.sharding (task.yaml)",
    "deepspeed": "execution.sharding (task.yaml)",
}

_FILES = N_("it would change where files go, or what the records say")
_ROWS = N_("rows are encoded, ordered and counted before TRL sees them")
_DEVICE = N_("precision and devices are chosen for the machine that trains")
_AWAY = N_("it would send something away from this machine")
_CODE = N_("the base model is loaded without it, and without running code of its own")
_LOOP = N_("it would change which steps, checkpoints and measurements a run has")
_GONE = N_("TRL is giving it up")

REFUSED: dict[str, str] = {
    name: why
    for why, names in {
        _FILES: "output_dir logging_strategy logging_steps logging_first_step logging_nan_inf_filter log_level "
        "log_level_replica log_on_each_node disable_tqdm save_on_each_node save_only_model skip_memory_metrics debug "
        "include_num_input_tokens_seen restore_callback_states_from_checkpoint resume_from_checkpoint "
        "generate_during_eval",
        _AWAY: "report_to run_name project push_to_hub hub_token hub_model_id hub_strategy hub_private_repo "
        "hub_always_push hub_revision trackio_space_id trackio_bucket_id trackio_static_space_id",
        _CODE: "trust_remote_code model_init_kwargs",
        _ROWS: "dataset_kwargs dataset_text_field dataset_num_proc remove_unused_columns shuffle_dataset eval_packing "
        "packing_strategy completion_only_loss assistant_only_loss eos_token pad_token padding_value label_names "
        "length_column_name dataloader_drop_last is_encoder_decoder",
        _LOOP: "max_steps save_strategy save_steps save_total_limit eval_strategy eval_steps eval_delay eval_on_start "
        "do_train do_eval do_predict prediction_loss_only include_for_metrics batch_eval_metrics "
        "eval_do_concat_batches eval_use_gather_object ignore_data_skip enable_jit_checkpoint "
        "average_tokens_across_devices",
        _DEVICE: "bf16 fp16 bf16_full_eval fp16_full_eval use_cpu local_rank ddp_backend fsdp_config "
        "accelerator_config parallelism_config full_determinism",
        _GONE: "use_liger_kernel liger_kernel_config label_smoothing_factor",
    }.items()
    for name in names.split()
}

# Optimisers that can only be made for a model.
_OF_A_MODEL = ("galore", "apollo", "lomo")


def check(config: Config, path: Path, kind: type[Any]) -> list[Finding]:
    """What is wrong with `extra:`; `kind` is the class of TRL's settings, `path` config.yaml."""
    if not config.extra:
        return []
    lines = _lines(path)
    hints = typing.get_type_hints(kind)
    known = {field.name: field.metadata.get("choices") for field in dataclasses.fields(kind) if field.init}
    found = []
    for name, value in config.extra.items():
        problem = _name(str(name), set(known), config) or _value(str(name), value, hints.get(str(name)), known)
        if problem is not None:
            at = lines.get(("extra", name), lines.get(("extra",)))
            found.append(dataclasses.replace(problem, file=str(path), line=at))
    if found:
        return found
    return [dataclasses.replace(one, file=str(path), line=lines.get(("extra",))) for one in _made(config, kind)]


def passed_through(config: Config, path: Path, kind: type[Any]) -> dict[str, Any]:
    """`extra:` as TRL takes it.

    Raises:
        Invalid: something in it is not passed through; every such thing.
    """
    problems = [
        Invalid(one.message, file=one.file, line=one.line, cause=one.cause, mend=one.mend)
        for one in check(config, path, kind)
    ]
    if problems:
        first, *rest = problems
        first.also.extend(rest)
        raise first
    return dict(config.extra or {})


def _lines(path: Path) -> yaml.Lines:
    return yaml.read(path).lines if path.is_file() else {}


def _error(message: str, *, cause: str | None = None, mend: str | None = None) -> Finding:
    return Finding("error", "extra", message, cause=cause, mend=mend)


def _name(name: str, known: set[str], config: Config) -> Finding | None:
    if name in OURS:
        return _error(
            _("extra: {name} is not passed through", name=name),
            cause=_("it has a name of its own here"),
            mend=_("set {ours} instead", ours=OURS[name]),
        )
    if name in REFUSED:
        return _error(_("extra: {name} is not passed through", name=name), cause=_(REFUSED[name]), mend=_("remove it"))
    if name in known:
        return None
    mend = _("remove it, or correct its name")
    if name in Config.model_fields:
        mend = _("set it beside extra:, not in it")
    elif close := difflib.get_close_matches(name, known - REFUSED.keys() - OURS.keys(), n=1):
        mend = _("did you mean {name}?", name=close[0])
    return _error(
        _("extra: the installed TRL has no setting {name} for {method}", name=name[:60], method=config.method),
        mend=mend,
    )


def _value(name: str, value: Any, hint: Any, choices: Mapping[str, Any]) -> Finding | None:
    """What is wrong with a value. TRL looks at few types itself, and would fail in the middle of a run."""
    from pydantic import TypeAdapter, ValidationError

    wrong = _("wrong value for {name}", name=f"extra.{name}")
    if isinstance(value, float) and not math.isfinite(value):
        return _error(wrong, cause=_("{given} is no number to compute with", given=short(value)))
    if isinstance(value, str) and dict in _kinds(hint):
        # TRL would take it for the path of a file to read.
        return _error(wrong, cause=_("a mapping is wanted; the file has {given}", given=short(value)))
    try:
        TypeAdapter(hint).validate_python(value, strict=True)
    except ValidationError as error:
        return _error(wrong, cause=cause_of(error.errors(include_url=False)[0]))
    allowed = choices[name]
    if allowed and isinstance(value, str) and value not in allowed:
        return _error(wrong, cause=_("{given} is not one of {allowed}", given=short(value), allowed=", ".join(allowed)))
    return None


def _kinds(hint: Any) -> list[Any]:
    """The types that a hint allows, without what is in them."""
    parts = typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)
    return [typing.get_origin(part) or part for part in parts]


def _made(config: Config, kind: type[Any]) -> Iterator[Finding]:
    """What TRL, the optimiser and the schedule refuse themselves, once they are made for one weight."""
    plain = {"gradient_checkpointing": False, "activation_checkpointing": False, "use_cpu": True, "bf16": False}
    try:
        made = kind(**{"output_dir": "unused", "report_to": "none", **plain, **(config.extra or {})})
        _try_out(made, config)
    except Exception as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        yield _error(
            _("TRL refuses these settings under extra: {names}", names=", ".join(config.extra or {})),
            cause=lines[0][:300],
            mend=_("correct them, or remove them"),
        )


def _try_out(made: Any, config: Config) -> None:
    import torch
    import transformers

    weight = torch.zeros(1, requires_grad=True)
    if any(name in str(made.optim) for name in _OF_A_MODEL):
        optimizer: Any = torch.optim.SGD([weight])
    else:
        build, settings = transformers.Trainer.get_optimizer_cls_and_kwargs(made)
        optimizer = build([weight], **settings)
    transformers.get_scheduler(
        config.scheduler, optimizer, 1, 10, scheduler_specific_kwargs=dict(made.lr_scheduler_kwargs or {})
    )
