"""Estimates of a task's training: before it starts, on request, and what is learnt once it is over."""

from __future__ import annotations

import contextlib
import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nlp_skills import extras, files, package_index, progress
from nlp_skills.data.findings import Finding, passed
from nlp_skills.errors import Unavailable
from nlp_skills.i18n import _
from nlp_skills.schema.task import Sharding
from nlp_skills.schema.training import Config
from nlp_skills.training import base_model, lengths, processes, pypi_model
from nlp_skills.training.device import Device, peak_memory_gb, pick
from nlp_skills.training.estimate import changes, gpus, machine, measured, pace, shape, verdict, work
from nlp_skills.training.estimate.verdict import Estimate
from nlp_skills.workspace.folder import TaskFolder, VersionFolder

if TYPE_CHECKING:
    from nlp_skills.schema.version import RunStatus
    from nlp_skills.training.job import Job
    from nlp_skills.training.preflight import Preflight

# Files that say what a model is like; its weights are not among them.
_SMALL = ["*.json", "*.jinja", "*.model", "merges.txt", "vocab.txt"]


def fits(job: Job, checked: Preflight, device: Device) -> Estimate | None:
    """What the training needs, which may be there; None for a base model whose size nobody can tell.

    Raises:
        Unavailable: even the least it may need is not there; with every part, and what would make it fit.
    """
    try:
        estimate = of_job(job, checked, device)
    except Unavailable:
        return None
    if estimate.verdict == "tight":
        progress.notice(f"{_('warning:')} {tight(estimate)}")
    return refuse(estimate, job.folder, job.version)


def sharding(job: Job, checked: Preflight, device: Device) -> Sharding:
    """What each device holds of the model: all of it where the estimate says that it fits, unless task.yaml says."""
    wanted = job.task.execution.sharding
    if wanted is not None or job.processes == 1 or device.type != "cuda":
        return wanted or "ddp"
    whole = of_job(dataclasses.replace(job, sharding="ddp"), checked, device)
    return "fsdp" if whole.verdict == "too big" else "ddp"


def checkpointing(job: Job, checked: Preflight, device: Device) -> bool:
    """Whether activations are to be computed twice, because keeping them would take the last of the memory.

    To be asked before the model is loaded.
    """
    try:
        return of_job(job, checked, device).load.checkpointing
    except Unavailable:
        return False


def of_job(job: Job, checked: Preflight, device: Device) -> Estimate:
    """What the training will need on this device, where it may not fit."""
    folder = base_model.locate(job.config.base_model, root=job.folder.root)
    table = gpus.table()
    limit = checked.max_length or lengths.limit(job.config, folder)
    return verdict.of(
        job.config,
        shape.of(folder),
        machine.here(device, table),
        work.of_rows(job.config, checked.encoded, limit, job.micro_batch),
        micro_batch=job.micro_batch,
        devices=job.processes,
        sharding=job.sharding,
    )


def refuse(estimate: Estimate, folder: TaskFolder, version: VersionFolder) -> Estimate:
    """Only what may fit comes back.

    Raises:
        Unavailable: even the least it may need is not there.
    """
    if estimate.verdict == "too big":
        raise Unavailable(
            _too_big(estimate, version),
            file=version.config_path,
            cause=by_part(estimate),
            mend=_mend(estimate, folder, version),
        )
    return estimate


def _too_big(estimate: Estimate, version: VersionFolder) -> str:
    return _(
        "{version} does not fit: it needs about {gb:.1f} GB, and {free:.1f} GB are free on {machine}",
        version=version.name,
        gb=estimate.gb,
        free=estimate.free_gb or 0.0,
        machine=estimate.machine.name,
    )


def by_part(estimate: Estimate) -> str:
    """The parts in one line, the largest first."""
    found = sorted(vars(estimate.parts).items(), key=lambda part: -part[1])
    named = names()
    return ", ".join(f"{named[name]} {value * estimate.ratio / 1e9:.1f} GB" for name, value in found if value > 5e7)


def names() -> dict[str, str]:
    """The parts, in words."""
    return {
        "weights": _("weights"),
        "adapters": _("adapters"),
        "optimizer": _("optimiser"),
        "gradients": _("gradients"),
        "reference": _("reference model"),
        "activations": _("activations"),
        "head": _("output layer"),
        "overhead": _("libraries and work space"),
    }


def proposals(estimate: Estimate) -> list[changes.Change]:
    """The cheapest changes that make it fit."""
    return changes.cheapest(estimate, gpus.table())


def mends(estimate: Estimate, folder: TaskFolder, version: VersionFolder) -> list[str]:
    """The cheapest changes that make it fit, each as a line."""
    lines = [f"{number}. {change.words(folder, version)}" for number, change in enumerate(proposals(estimate), 1)]
    if not lines:
        lines = [_("choose a smaller base model, or shorter texts")]
    return [*lines, _("if you know better, say how many GB it may use: {name}=…", name=machine.VARIABLE)]


def _mend(estimate: Estimate, folder: TaskFolder, version: VersionFolder) -> str:
    """The same under each other, as a refusal shows them."""
    return "\n        ".join(mends(estimate, folder, version))


def finding(folder: TaskFolder, version: VersionFolder, checked: Preflight) -> Finding | None:
    """What `preflight` says of memory: an error where training would refuse, a warning where only trying tells."""
    if not checked.ok or not checked.encoded.get("train"):
        return None
    estimate = _here(folder, version, version.config(), encoded=checked.encoded, limit=checked.max_length)
    if estimate.verdict == "too big":
        text, cause = _too_big(estimate, version), by_part(estimate)
        return Finding(
            "error", "memory", text, file=str(version.config_path), cause=cause, mend=_mend(estimate, folder, version)
        )
    if estimate.verdict == "tight":
        return Finding("warning", "memory", tight(estimate), file=str(version.config_path))
    return None


def tight(estimate: Estimate) -> str:
    """The warning where the estimate cannot tell."""
    low, high = estimate.between
    return _(
        "memory may run out: the training needs {low:.1f} to {high:.1f} GB, and {free:.1f} GB are free",
        low=low,
        high=high,
        free=estimate.free_gb or 0.0,
    )


@dataclass(frozen=True)
class Asked:
    """What `estimate` was asked: a GPU by its name, another machine as it was found, another base model."""

    gpu: str | None = None
    base_model: str | None = None
    machine: machine.Machine | None = None


def of_version(folder: TaskFolder, version: VersionFolder, asked: Asked) -> Estimate:
    """The estimate of a version, on this machine, on a GPU that was named, or on a machine elsewhere.

    Raises:
        Usage: there is no such GPU.
        Unavailable: the base model is not there and cannot be fetched.
    """
    return _here(folder, version, _asked(version, asked), gpu=asked.gpu, elsewhere=asked.machine)


def of_gpus(folder: TaskFolder, version: VersionFolder, asked: Asked) -> list[Estimate]:
    """The estimate on this machine, then on every GPU of the table, the cheapest first."""
    here = _here(folder, version, _asked(version, asked))
    others = [
        verdict.of(here.config, here.shape, machine.rented(gpu), here.work, micro_batch=here.config.batch_size)
        for gpu in gpus.table().gpus
    ]
    return [here, *sorted(others, key=lambda other: (other.verdict == "too big", changes.price(other)))]


def _asked(version: VersionFolder, asked: Asked) -> Config:
    config = version.config()
    return config.model_copy(update={"base_model": asked.base_model}) if asked.base_model else config


def _here(
    folder: TaskFolder,
    version: VersionFolder,
    config: Config,
    *,
    gpu: str | None = None,
    elsewhere: machine.Machine | None = None,
    encoded: dict[str, list[Any]] | None = None,
    limit: int | None = None,
) -> Estimate:
    """The estimate of a configuration as this task would train it; `encoded` and `limit` are a preflight's."""
    where, execution = elsewhere or _machine(folder, config, gpu, timed=encoded is None), folder.task().execution
    several = processes.count(execution) if gpu is None else 1
    micro_batch, _times = processes.divided(config, several, version.config_path)
    base = small_files(config.base_model, folder.root)
    found = _work(folder, config, base, encoded, limit, micro_batch)

    def shared(sharding: Sharding | None) -> Estimate:
        return verdict.of(
            config, shape.of(base), where, found, micro_batch=micro_batch, devices=several, sharding=sharding
        )

    estimate = shared(execution.sharding)
    if several > 1 and execution.sharding is None and where.kind == "cuda" and estimate.verdict == "too big":
        # As training does where nobody says.
        return shared("fsdp")
    return estimate


def _machine(folder: TaskFolder, config: Config, gpu: str | None, *, timed: bool) -> machine.Machine:
    table = gpus.table()
    if gpu is not None:
        return machine.rented(table.named(gpu))
    devices, full = folder.task().execution.cuda_devices, config.adapter == "full"
    return machine.here(pick(cuda_devices=devices, train_all_weights=full), table, timed=timed)


def _work(
    folder: TaskFolder,
    config: Config,
    base: str,
    encoded: dict[str, list[Any]] | None,
    limit: int | None,
    micro_batch: int,
) -> work.Work:
    rows = _encoded(folder, config, base) if encoded is None else encoded
    if not rows.get("train"):
        return work.assumed(lengths.limit(config, base))
    return work.of_rows(config, rows, limit or lengths.resolved(config, base, rows), micro_batch)


def _encoded(folder: TaskFolder, config: Config, base: str) -> dict[str, list[Any]]:
    """The task's rows as token ids; nothing where there is no data yet.

    Raises:
        Invalid: there is, and something is wrong with it.
    """
    from nlp_skills.data import validate
    from nlp_skills.data.render import Renderer
    from nlp_skills.training import methods, preflight

    family, task = methods.of(config.method), folder.task()
    there = family.files(folder)
    if "train" not in there:
        return {}
    found = list(validate.validate(folder).findings) if config.method == "sft" else []
    if not passed(found := [*found, *family.check(folder, task, config)]):
        raise preflight.Preflight("", found).problem()
    # Whatever names the model, its tokenizer is in the folder by now.
    local = config.model_copy(update={"base_model": base})
    tokenizer = base_model.load_tokenizer(base, root=folder.root, chat_template=config.chat_template)
    renderer = Renderer.of(task, local)
    return {name: family.read(folder, name, renderer, tokenizer, local).rows for name in there}


def small_files(name: str, root: Path) -> str:
    """The folder with the model's configuration and tokenizer; of a model on the Hub no weights are fetched for it.

    Raises:
        Unavailable: they are not there and cannot be fetched.
    """
    with contextlib.suppress(Unavailable):
        return base_model.locate(name, root=root, fetch=False)
    if not name.startswith(pypi_model.PREFIX) and not name.startswith((".", "/", "~")):
        extras.need("train", "huggingface_hub")
        from huggingface_hub import snapshot_download

        # Apart from the Hub's own cache, where a folder without weights would be taken for the model.
        apart = package_index.cache() / "models-without-weights"
        with contextlib.suppress(OSError, ValueError, RuntimeError), base_model.without_bars():
            return str(snapshot_download(name, cache_dir=apart, allow_patterns=_SMALL))
    return base_model.locate(name, root=root)


@dataclass(frozen=True)
class Expected:
    """What a run is expected to take.

    `before` is the peak of this process before the run, in GB, and `held` what of that it still had: where it was
    higher once, for something else, the peak after the run may not be the run's.
    """

    estimate: Estimate
    before: float
    held: float

    def is_of_run(self, peak: float) -> bool:
        """Whether the run reached this peak."""
        return peak > self.before * 1.005 or self.before <= self.held * 1.02


def expected(job: Job, checked: Preflight, device: Device) -> Expected | None:
    """To be asked before the run, for `learn` after it."""
    try:
        return Expected(of_job(job, checked, device), peak_memory_gb(device), machine.held(device) / 1e9)
    except Unavailable:
        return None


def learn(expected: Expected | None, device: Device, status: RunStatus) -> None:
    """Keep what a completed run took beside what was expected of it."""
    if expected is None or status.state != "completed":
        return
    # A record more or less is worth no run: nothing that goes wrong here may.
    with contextlib.suppress(Exception):
        measured.keep(_run(expected, device, status))


def _run(told: Expected, device: Device, status: RunStatus) -> measured.Run:
    expected, peak = told.estimate, peak_memory_gb(device)
    load, pace_now = expected.load, status.tokens_per_second
    # The allocator does not count what CUDA itself takes.
    beside = expected.parts.overhead / 1e9 if expected.machine.kind == "cuda" else 0.0
    counts = told.is_of_run(peak) and not status.halved and load.devices == 1
    speed = pace.speed_of(expected.shape, expected.config, load, expected.work, pace_now) if pace_now else None
    return measured.Run(
        time=files.now().isoformat(),
        device=expected.machine.name,
        family=expected.shape.family,
        parameters=expected.shape.parameters,
        method=expected.config.method,
        adapter=expected.config.adapter,
        micro_batch=load.rows,
        length=load.length,
        checkpointing=load.checkpointing,
        expected_gb=round(expected.parts.total / 1e9, 4),
        measured_gb=round(peak + beside, 4) if counts else None,
        tokens_per_second=pace_now,
        speed=speed if load.devices == 1 else None,
    )


def with_memory(folder: TaskFolder, checked: Preflight) -> Preflight:
    """A preflight's result with what there is to say of memory."""
    found = finding(folder, folder.existing_version(checked.version), checked)
    return dataclasses.replace(checked, findings=[*checked.findings, found]) if found else checked
