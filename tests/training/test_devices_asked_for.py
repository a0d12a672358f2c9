"""GPUs that are asked for and not there, rows that cannot be shared, and the settings of what cannot run here.

FSDP2 and DeepSpeed ZeRO-3 have never run where these tests were written: there was no GPU. Only their settings are
looked at, by the classes that would take them.
"""

from __future__ import annotations

import dataclasses
import os
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
from nlp_skills.training import arguments, processes
from nlp_skills.workspace.folder import TaskFolder

Ready = Callable[..., TaskFolder]


@pytest.fixture(autouse=True)
def _no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.delenv("NLP_SKILLS_DETERMINISTIC", raising=False)


@pytest.mark.parametrize("command", ["train", "preflight"])
@pytest.mark.parametrize(
    ("execution", "key"), [({"gpus": 2}, "gpus"), ({"gpus": 1}, "gpus"), ({"cuda_devices": "0"}, "cuda_devices")]
)
def test_gpus_that_are_not_there_are_refused_before_anything_starts(
    command: str, execution: dict[str, Any], key: str, ready: Ready, cli: Callable[..., Ran]
) -> None:
    folder = ready()
    yaml.change(folder.task_path, {("execution",): execution})
    ran = cli(command, folder.root)
    assert ran.code == 3 and "Traceback" not in ran.err
    line = yaml.read(folder.task_path).lines["execution", key]
    assert f"GPUs asked for: {execution.get('gpus', 1)}, GPUs here: 0" in ran.err and f"task.yaml:{line}" in ran.err
    assert "CUDA_VISIBLE_DEVICES" in ran.err and "mend:" in ran.err
    assert folder.task().status == "configuring" and not folder.version("v1").run.exists()


def test_rows_that_cannot_be_shared_evenly_name_the_numbers_that_can(
    ready: Ready, cli: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NLP_SKILLS_DETERMINISTIC", "1")
    folder = ready(batch_size=5, gradient_accumulation=2)
    yaml.change(folder.task_path, {("execution",): {"gpus": 4}})
    ran = cli("train", folder.root)
    assert ran.code == 1 and "10 rows" in ran.err and "4 processes" in ran.err
    assert "batch_size × gradient_accumulation 8 or 12" in ran.err


@pytest.mark.parametrize(
    ("batch", "accumulation", "count", "expected"),
    [(8, 1, 1, (8, 1)), (8, 1, 2, (4, 1)), (8, 4, 2, (8, 2)), (6, 2, 3, (4, 1)), (4, 3, 2, (3, 2)), (8, 1, 8, (1, 1))],
)
def test_a_step_has_the_same_rows_on_however_many_devices(
    batch: int, accumulation: int, count: int, expected: tuple[int, int], tmp_path: Path
) -> None:
    config = Config.model_validate({"base_model": "x", "batch_size": batch, "gradient_accumulation": accumulation})
    micro, times = processes.divided(config, count, tmp_path)
    assert (micro, times) == expected and micro * times * count == config.effective_batch


@pytest.mark.parametrize(
    ("sharding", "settings", "code", "words"),
    [
        ("fsdp", {}, 3, "fsdp needs GPUs"),
        ("zero3", {}, 3, "zero3 needs GPUs"),
    ],
)
def test_what_a_cpu_cannot_do_is_not_done_in_another_way(
    sharding: str, settings: dict[str, Any], code: int, words: str, ready: Ready, cli: Callable[..., Ran],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("NLP_SKILLS_DETERMINISTIC", "1")
    folder = ready(**settings)
    yaml.change(folder.task_path, {("execution",): {"gpus": 2, "sharding": sharding}})
    ran = cli("train", folder.root)
    assert ran.code == code and words in ran.err and "ddp" in ran.err


def of_several(sharding: str, tmp_path: Path, **settings: Any) -> Any:
    config = Config.model_validate({"base_model": "x", **settings})
    job = dataclasses.replace(job_of(config, tmp_path), processes=2, sharding=sharding)  # type: ignore[arg-type]
    return arguments._of_processes(job, checkpointing=True)


def test_fsdp_s_settings_are_what_transformers_and_accelerate_read(tmp_path: Path) -> None:
    from accelerate.utils import FullyShardedDataParallelPlugin
    from trl import SFTConfig

    values = of_several("fsdp", tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error", FutureWarning)
        made = SFTConfig(output_dir=str(tmp_path), use_cpu=True, bf16=False, gradient_checkpointing=False, **values)
    before = dict(os.environ)
    plugin = FullyShardedDataParallelPlugin(**made.fsdp_plugin_args)
    os.environ.clear()
    os.environ.update(before)
    assert (plugin.fsdp_version, plugin.reshard_after_forward, plugin.activation_checkpointing) == (2, True, True)
    assert "FULL_STATE_DICT" in str(plugin.state_dict_type) and not plugin.cpu_ram_efficient_loading
    assert not made.activation_checkpointing, "once is enough"


def test_zero_3_s_settings_are_what_accelerate_reads(tmp_path: Path) -> None:
    from accelerate.utils.deepspeed import HfDeepSpeedConfig

    read = HfDeepSpeedConfig(of_several("zero3", tmp_path)["deepspeed"])
    assert read.is_zero3() and not read.is_offload()
    assert read.is_true("zero_optimization.stage3_gather_16bit_weights_on_model_save")
    assert {read.get_value(name) for name in ("train_micro_batch_size_per_gpu", "train_batch_size")} == {"auto"}


def test_ddp_asks_for_nothing_else(tmp_path: Path) -> None:
    assert of_several("ddp", tmp_path).keys() == {"ddp_find_unused_parameters", "ddp_timeout"}


def test_four_bits_are_not_shared_out_by_zero_3(ready: Ready, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = ready(adapter="qlora")
    yaml.change(folder.task_path, {("execution",): {"gpus": 2, "sharding": "zero3"}})
    monkeypatch.setattr(processes, "visible", lambda _wanted: 2)
    with pytest.raises(Invalid, match="qlora") as refused:
        processes.check(folder.task(), folder.version("v1").config(), folder.version("v1"))
    assert refused.value.line and "fsdp" in str(refused.value.mend)
