"""The parts a run is made of: order of rows, settings, signals, devices, words for what breaks."""

from __future__ import annotations

import datetime as dt
import errno
import os
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fixtures_training import job_of

from nlp_skills import files
from nlp_skills.schema.training import Config
from nlp_skills.schema.version import RunStatus
from nlp_skills.training import adapters, arguments, device, failure, run, trainer
from nlp_skills.training.encode import Encoded
from nlp_skills.training.methods import sft
from nlp_skills.training.order import LengthGrouped
from nlp_skills.workspace import runs

CPU = device.Device("cpu", "cpu", "float32", None)


def settings_of(config: Config, out: Path, *, validate: bool = False) -> Any:
    """TRL's settings for a configuration, its checkpoints under `out`."""
    return arguments.made(job_of(config, out), CPU, log_every=1, validate=validate, checkpointing=False)


def order(sampler: LengthGrouped, epoch: int) -> list[int]:
    sampler.set_epoch(epoch)
    return list(sampler)


def test_the_order_is_seeded_complete_and_new_each_epoch() -> None:
    lengths = [10 + number * 7 % 50 for number in range(203)]
    sampler = LengthGrouped(lengths, 8, seed=1)
    assert sorted(order(sampler, 0)) == list(range(203))
    assert order(sampler, 0) == order(LengthGrouped(lengths, 8, seed=1), 0)
    assert order(sampler, 0) != order(sampler, 1)
    assert order(sampler, 0) != order(LengthGrouped(lengths, 8, seed=2), 0)


def test_batches_hold_rows_of_similar_length() -> None:
    lengths = [5 + number * 37 % 200 for number in range(400)]

    def padding(rows: list[int]) -> int:
        batches = [rows[at : at + 8] for at in range(0, len(rows), 8)]
        return sum(max(lengths[row] for row in batch) * len(batch) for batch in batches) - sum(lengths)

    assert padding(order(LengthGrouped(lengths, 8, seed=0), 0)) < padding(list(range(400))) / 4


@pytest.mark.parametrize(
    "settings",
    [{}, {"adapter": "full"}, {"epochs": 0.5, "warmup_ratio": 0, "scheduler": "linear"}, {"gradient_accumulation": 4}],
)
def test_settings_use_no_name_that_is_going_away(settings: dict[str, object], tmp_path: Path) -> None:
    config = Config.model_validate({"base_model": "x", **settings})
    with warnings.catch_warnings():
        warnings.simplefilter("error", FutureWarning)
        made = settings_of(config, tmp_path, validate=True)
    assert made.learning_rate == config.learning_rate and made.seed == config.seed
    assert made.dataset_kwargs == {"skip_prepare_dataset": True}


@pytest.mark.parametrize(("rows", "batch", "accumulation", "epochs"), [(10, 4, 1, 3), (10, 4, 2, 3), (3, 8, 4, 2.5)])
def test_the_plan_is_what_the_trainer_does(
    tiny_base: Path, tmp_path: Path, rows: int, batch: int, accumulation: int, epochs: float
) -> None:
    from nlp_skills.training import base_model

    settings = {"batch_size": batch, "gradient_accumulation": accumulation, "epochs": epochs}
    config = Config.model_validate({"base_model": str(tiny_base), **settings})
    plan = trainer.Plan.of(config, rows)
    sampler = LengthGrouped([5] * rows, config.effective_batch, 0)
    parts = trainer.Parts(sampler=sampler, optimizer=lambda _model, _settings: None)
    made = trainer.with_parts(sft.trainer_class(config), parts)(
        model=base_model.load_model(str(tiny_base), CPU),
        args=settings_of(config, tmp_path),
        train_dataset=sft.dataset([Encoded(1, [5, 6, 7], [8, 2])] * rows, config),
        processing_class=base_model.load_tokenizer(str(tiny_base)),
    )
    made.train()
    assert (made.state.global_step, made.state.max_steps) == (plan.total_steps, plan.total_steps)


def test_the_cheap_cpu_loss_is_trls_loss(tiny_base: Path, tmp_path: Path) -> None:
    import torch
    from trl import SFTTrainer

    from nlp_skills.training import base_model

    config = Config.model_validate({"base_model": str(tiny_base), "lora": {"r": 4, "alpha": 8}})
    rows = [Encoded(1, [5, 6, 7, 9], [8, 2]), Encoded(2, [5], [8, 9, 11, 2]), Encoded(3, [5, 7], [2])]
    losses, gradients = [], []
    for kind in (sft.trainer_class(config), SFTTrainer):
        made = kind(
            model=base_model.load_model(str(tiny_base), CPU),
            args=settings_of(config, tmp_path),
            train_dataset=sft.dataset(rows, config),
            processing_class=base_model.load_tokenizer(str(tiny_base)),
            peft_config=adapters.settings(config),
        )
        batch = made.data_collator([{"input_ids": row.ids, "labels": row.labels} for row in rows])
        loss = made.compute_loss(made.model, batch, num_items_in_batch=torch.tensor(7))
        loss.backward()
        losses.append(loss.item())
        grads = [weight.grad for weight in made.model.parameters() if weight.grad is not None]
        gradients.append(torch.cat([grad.flatten() for grad in grads]))
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert gradients[0].abs().sum() > 0
    assert torch.allclose(gradients[0], gradients[1], atol=1e-5)


def test_the_second_signal_stops_at_once() -> None:
    heard: list[str] = []
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), run.Stop(lambda: heard.append("first")) as stop:
        stop.in_loop = True
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.requested and heard == ["first"]
        os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_before_the_loop_the_first_signal_stops_at_once() -> None:
    with pytest.raises(KeyboardInterrupt), run.Stop(lambda: None):
        os.kill(os.getpid(), signal.SIGTERM)


def status(pid: int, updated: dt.datetime, state: str = "running") -> RunStatus:
    return RunStatus(task="t", version="v1", state=state, pid=pid, started=updated, updated=updated)


def test_alive_sees_through_a_number_that_was_given_again() -> None:
    now, earlier = files.now() + dt.timedelta(seconds=2), files.now() - dt.timedelta(days=30)
    ended = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True)
    assert runs.alive(status(os.getpid(), now))
    assert not runs.alive(status(int(ended.stdout), now))
    assert not runs.alive(status(os.getpid(), earlier)), "this process was not born then"
    assert not runs.alive(status(os.getpid(), now, "completed"))
    assert not runs.alive(None)


@pytest.mark.parametrize(
    ("error", "code", "word"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), 3, "space"),
        (RuntimeError("[enforce fail at inline_container.cc:668] . unexpected pos 64 vs 0"), 3, "space"),
        (RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)"), 3, "space"),
        (RuntimeError("CUDA out of memory. Tried to allocate 20 GiB"), 3, "batch_size"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"), 3, "batch_size"),
        (MemoryError(), 3, "batch_size"),
    ],
)
def test_what_breaks_is_put_into_words(error: Exception, code: int, word: str, tmp_path: Path) -> None:
    problem = failure.explain(error, tmp_path)
    assert problem is not None and problem.exit_code == code
    assert word in f"{problem.cause} {problem.mend}"


def test_our_own_bugs_keep_their_traceback(tmp_path: Path) -> None:
    assert failure.explain(KeyError("labels"), tmp_path) is None


def test_deterministic_means_one_thread_in_32_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setenv("NLP_SKILLS_DETERMINISTIC", "1")
    picked = device.pick()
    assert (picked.type, picked.dtype, picked.autocast, torch.get_num_threads()) == ("cpu", "float32", None, 1)


def test_plain_attention_is_for_short_rows_on_a_cpu() -> None:
    gpu = device.Device("cuda", "gpu", "bfloat16", "bfloat16")
    assert [device.plain_attention(on, length) for on, length in ((CPU, 60), (CPU, 2000), (gpu, 60))] == [
        True,
        False,
        False,
    ]


def test_a_checkpoint_without_its_last_file_does_not_count(tmp_path: Path) -> None:
    for step, complete in ((9, True), (10, True), (100, False)):
        (tmp_path / f"checkpoint-{step}").mkdir()
        if complete:
            files.write_json(tmp_path / f"checkpoint-{step}" / runs.COMPLETE, {"step": step})
    assert runs.last_checkpoint(tmp_path) == tmp_path / "checkpoint-10"
    assert runs.last_checkpoint(tmp_path / "nowhere") is None


def test_importing_the_room_loads_nothing_heavy() -> None:
    heavy = ("torch", "transformers", "trl", "peft", "datasets", "sqlalchemy", "sklearn")
    modules = "nlp_skills.training.train, nlp_skills.cli.training, nlp_skills.training.gguf_convert"
    code = f"import sys, {modules}; print([name for name in {heavy} if name in sys.modules])"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "[]"


def test_waiting_threads_are_told_to_sleep_before_torch_is_there() -> None:
    code = (
        "import os, sys, nlp_skills.training.base_model; print('torch' in sys.modules, os.environ['OMP_WAIT_POLICY'])"
    )
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert ended.stdout.split() == ["False", "passive"]


def test_both_commands_explain_themselves(cli: Callable[..., object]) -> None:
    for name in ("preflight", "train"):
        ran = cli(name, "--help")
        assert ran.code == 0 and "--version" in ran.out and "Examples" in ran.out  # type: ignore[attr-defined]


def test_the_task_s_gpus_are_the_visible_ones_unless_the_shell_says_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")  # noted, so that it is put back
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    device.pick(cuda_devices="1")
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "1"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    device.pick(cuda_devices="1")
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "0"
