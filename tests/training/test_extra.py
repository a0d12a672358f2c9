"""What `extra:` passes through to TRL: known, of the right type, and nothing that is decided elsewhere."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Ran
from fixtures_training import job_of

from nlp_skills.errors import Invalid
from nlp_skills.schema import yaml
from nlp_skills.schema.training import Config
from nlp_skills.training import arguments, device, extra_settings
from nlp_skills.workspace.folder import TaskFolder

Ready = Callable[..., TaskFolder]
CPU = device.Device("cpu", "cpu", "float32", None)
METHODS = ("sft", "dpo", "kto", "orpo")


def config_of(tmp_path: Path, extra: dict[str, Any], **settings: Any) -> tuple[Config, Path]:
    path = tmp_path / "config.yaml"
    path.write_text(yaml.dumps({"base_model": "x", **settings, "extra": extra}), encoding="utf-8")
    return Config.load(path), path


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("validate", [True, False])
def test_every_method_s_settings_are_made_of_names_that_stay(method: str, validate: bool, tmp_path: Path) -> None:
    config = Config.model_validate({"base_model": "x", "method": method, "extra": {"max_grad_norm": 0.5}})
    with warnings.catch_warnings():
        warnings.simplefilter("error", FutureWarning)
        made = arguments.made(job_of(config, tmp_path), CPU, log_every=3, validate=validate, checkpointing=True)
    assert (made.learning_rate, made.seed, made.max_grad_norm) == (config.learning_rate, config.seed, 0.5)
    assert (made.per_device_train_batch_size, made.logging_steps) == (config.batch_size, 3)
    assert made.max_length is None and made.activation_checkpointing
    assert (made.report_to, made.push_to_hub, made.bf16) == ([], False, False)


def test_beta_reaches_the_methods_that_have_one(tmp_path: Path) -> None:
    for method in ("dpo", "kto", "orpo"):
        config = Config.model_validate({"base_model": "x", "method": method, "beta": 0.3})
        made = arguments.made(job_of(config, tmp_path), CPU, log_every=1, validate=False, checkpointing=False)
        assert made.beta == 0.3


@pytest.mark.parametrize(
    "extra",
    [
        {"max_grad_norm": 1},
        {"optim": "adafactor", "adam_beta2": 0.95},
        {"neftune_noise_alpha": 5.0, "torch_empty_cache_steps": 10},
        {"lr_scheduler_kwargs": {"num_cycles": 1}},
        {"dataloader_num_workers": 2, "ddp_bucket_cap_mb": 50},
        {"loss_type": "dft"},
    ],
)
def test_what_trl_takes_is_passed_through(extra: dict[str, Any], tmp_path: Path) -> None:
    config, path = config_of(tmp_path, extra)
    assert arguments.checked_extra(config, path) == extra
    made = arguments.made(
        dataclasses.replace(job_of(config, tmp_path)), CPU, log_every=1, validate=False, checkpointing=False
    )
    assert all(getattr(made, name) == value for name, value in extra.items())


@pytest.mark.parametrize(
    ("extra", "said", "settings"),
    [
        ({"max_grad_norm": "much"}, ["a number is wanted; the file has 'much'"], {}),
        ({"max_grad_norm": float("nan")}, ["no number"], {}),
        ({"dataloader_num_workers": 1.5}, ["a whole number"], {}),
        ({"torch_compile": "yes"}, ["true or false"], {}),
        ({"activation_checkpointing_kwargs": "/etc/passwd"}, ["a mapping is wanted"], {}),
        ({"max_grad_nrom": 1}, ["no setting max_grad_nrom for sft", "did you mean max_grad_norm?"], {}),
        ({"undesirable_weight": 1.0}, ["no setting undesirable_weight for dpo"], {"method": "dpo"}),
        ({"epochs": 3}, ["set it beside extra:"], {}),
        ({"num_train_epochs": 3}, ["set epochs instead"], {}),
        ({"fsdp": True}, ["execution.sharding"], {}),
        ({"optim": "adamw_9bit"}, ["adamw_9bit is not a valid"], {}),
        ({"adam_beta2": 2.0}, ["Invalid beta"], {}),
        ({"lr_scheduler_kwargs": {"waves": 1}}, ["waves"], {}),
        ({"loss_type": "best"}, ["'best' is not one of nll, dft"], {}),
    ],
)
def test_a_wrong_name_or_value_is_refused_where_it_stands(
    extra: dict[str, Any], said: list[str], settings: dict[str, Any], tmp_path: Path
) -> None:
    config, path = config_of(tmp_path, extra, **settings)
    with pytest.raises(Invalid) as refused:
        arguments.checked_extra(config, path)
    text = f"{refused.value.message} {refused.value.cause} {refused.value.mend}"
    assert all(words in text for words in said), text
    assert refused.value.file == str(path) and refused.value.line


def test_all_that_is_wrong_is_said_at_once_and_no_secret_is_repeated(ready: Ready, cli: Callable[..., Ran]) -> None:
    folder = ready(extra={"hub_token": "hf_0123456789", "output_dir": "/elsewhere", "trust_remote_code": True})
    ran = cli("preflight", folder.root)
    assert ran.code == 1
    for words in ("hub_token", "away from this machine", "output_dir", "where files go", "trust_remote_code"):
        assert words in ran.err, ran.err
    assert "0123456789" not in ran.out + ran.err and "/elsewhere" not in ran.err
    assert f"{folder.version('v1').config_path}:" in ran.err.replace("versions/v1", str(folder.root / "versions/v1"))
    assert cli("train", folder.root).code == 1
    assert folder.task().status == "configuring" and not folder.version("v1").run.exists()


def test_every_name_that_is_refused_is_one_of_trls() -> None:
    """A reason for a name that TRL no longer has would be read by nobody."""
    known = {field.name for method in METHODS for field in dataclasses.fields(arguments.config_class(method))}  # type: ignore[arg-type]
    assert extra_settings.REFUSED.keys() | extra_settings.OURS.keys() <= known


def test_whatever_leads_files_or_figures_elsewhere_is_refused() -> None:
    decided = extra_settings.REFUSED.keys() | extra_settings.OURS.keys()
    kind = arguments.config_class("sft")
    named = {field.name for field in dataclasses.fields(kind) if field.init}
    words = ("hub", "trackio", "logging", "save", "output", "resume", "eval_st", "bf16", "fp16", "fsdp", "deepspeed")
    assert {name for name in named if any(word in name for word in words)} <= decided


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (
            {"learning_rate": 1.0},
            ["wrong value for learning_rate", "it must be <= 0.1; the file has 1.0", "config.yaml:"],
        ),
        ({"learning_rate": "fast"}, ["a number is wanted; the file has 'fast'"]),
        ({"epochs": 0}, ["wrong value for epochs", "it must be > 0"]),
        ({"batch_size": 0}, ["wrong value for batch_size", "it must be >= 1"]),
        ({"method": "dop"}, ["'dop' is not one of 'sft', 'dpo', 'orpo', 'kto'"]),
        ({"learning_rat": 1e-4}, ["did you mean learning_rate?"]),
        ({"beta": 0.1}, ["beta belongs to dpo, orpo and kto"]),
    ],
)
def test_a_setting_out_of_range_is_refused_with_its_line(
    settings: dict[str, Any], words: list[str], ready: Ready, cli: Callable[..., Ran]
) -> None:
    folder = ready(**settings)
    ran = cli("train", folder.root)
    assert ran.code == 1 and "Traceback" not in ran.err
    assert all(word in ran.err for word in words), ran.err
    assert folder.task().status == "configuring"
