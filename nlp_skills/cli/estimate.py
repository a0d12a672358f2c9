"""estimate: what a training will need, before it starts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from nlp_skills.cli import frame
from nlp_skills.i18n import N_, _

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nlp_skills.training.estimate.verdict import Estimate
    from nlp_skills.workspace.folder import TaskFolder, VersionFolder


@frame.command(
    "estimate",
    help=N_(
        "Say what training will need: peak memory by part, time and cost, here or on a GPU by name. "
        "Runs on this machine make the next estimate for it better. Exit 3: it does not fit."
    ),
    examples=[
        "nlp-skills estimate",
        "nlp-skills estimate reviews --version v2 --gpu A10G",
        "nlp-skills estimate --list",
        "nlp-skills estimate --base Qwen/Qwen3-8B --gpu L4 --json",
    ],
)
@frame.task_argument
@frame.version_option
@frame.option("--gpu", metavar="NAME", help=N_("A GPU instead of this machine, such as A10G or 'RTX 4090'."))
@frame.option("--list", "listed", is_flag=True, help=N_("Every GPU known: whether it fits, how long, for how much."))
@frame.option("--base", metavar="MODEL", help=N_("Another base model: a folder or a Hub id."))
@frame.json_option
def estimate(
    folder: TaskFolder, version_name: str | None, gpu: str | None, listed: bool, base: str | None, as_json: bool
) -> int:
    from nlp_skills.training import preflight
    from nlp_skills.training.estimate import gate

    if gpu and listed:
        raise click.UsageError(_("--list shows every GPU; leave --gpu out"))
    version = preflight.configured(folder, version_name)
    asked = gate.Asked(gpu=gpu, base_model=base)
    if listed:
        _show_list(version, gate.of_gpus(folder, version, asked), as_json)
        return 0
    found = gate.of_version(folder, version, asked)
    too_big = found.verdict == "too big"
    if as_json:
        proposals = [change.as_dict() for change in gate.proposals(found)] if too_big else []
        frame.emit({"ok": not too_big, "version": version.name, **found.as_dict(), "changes": proposals})
    else:
        _show(folder, version, found)
    return 3 if too_big else 0


def _show(folder: TaskFolder, version: VersionFolder, found: Estimate) -> None:
    from nlp_skills.training.estimate import gate

    _show_what(version, found)
    named = gate.names()
    parts = [(name, value * found.ratio / 1e9) for name, value in vars(found.parts).items()]
    rows = [[named[name], _gb(value)] for name, value in parts if value]
    frame.table([_("part"), "GB"], [*rows, [_("peak"), _gb(found.gb)]], right=[1])
    if found.runs:
        frame.say(_("memory corrected by {count} runs here: × {ratio:.2f}", count=found.runs, ratio=found.ratio))
    _show_time(found)
    frame.say(_verdict(found))
    if found.verdict == "too big":
        for line in gate.mends(found, folder, version):
            frame.say(line)


def _show_what(version: VersionFolder, found: Estimate) -> None:
    config, load = found.config, found.load
    frame.say(
        _("{version}: {base}, {method}, {adapter}, on {machine}", version=version.name, base=config.base_model,
          method=config.method, adapter=config.adapter, machine=found.machine.name)
    )  # fmt: skip
    share = found.trained / found.shape.parameters
    counts = {"all": f"{found.shape.parameters:,}", "trained": f"{found.trained:,}", "share": f"{share:.2%}"}
    frame.say(_("weights {all}, trained {trained} ({share})", **counts))
    at_once = _("at once: rows {rows}, tokens in the longest {length}", rows=load.rows, length=load.length)
    notes = [at_once] if found.work.known else [at_once, _("no data yet, so that is max_length")]
    notes += [_("activations computed twice to save memory")] if load.checkpointing else []
    notes += [_("GPUs: {count}", count=load.devices)] if load.devices > 1 else []
    frame.say(frame.listed(notes))


def _show_time(found: Estimate) -> None:
    if not found.work.known:
        frame.say(_("time and cost: not known without data; make it with nlp-skills regenerate"))
        return
    work = found.work
    text = _("tokens an epoch {tokens:,}, steps {steps}", tokens=work.tokens, steps=work.total_steps)
    if found.seconds:
        text = frame.listed([text, _("time {range}", range=_times(found.seconds))])
    if found.cost and not found.machine.local:
        text = frame.listed([text, _("cost {range}", range=_money(found.cost)), _source(found)])
    frame.say(text)
    if found.timed_runs:
        frame.say(_("time by the speed of {count} runs here", count=found.timed_runs))


def _verdict(found: Estimate) -> str:
    if found.free_gb is None:
        return _("needs about {gb} GB; how much is free here is not known", gb=_gb(found.gb))
    low, high = (_gb(value) for value in found.between)
    values: dict[str, Any] = {"low": low, "high": high, "free": f"{found.free_gb:.1f}"}
    return {
        "fits": _("fits: {low} to {high} GB of {free} GB", **values),
        "tight": _("may not fit: {low} to {high} GB of {free} GB; only trying tells", **values),
        "too big": _("does not fit: {low} to {high} GB, and there are {free} GB", **values),
    }[found.verdict]


def _show_list(version: VersionFolder, found: Sequence[Estimate], as_json: bool) -> None:
    if as_json:
        frame.emit({"ok": True, "version": version.name, "machines": [one.as_dict() for one in found]})
        return
    _show_what(version, found[0])
    words = {"fits": _("yes"), "tight": _("perhaps"), "too big": _("no"), "unknown": "-"}
    rows = [
        [
            _("this machine") if one.machine.local else one.machine.name,
            "-" if one.free_gb is None else f"{one.free_gb:.0f}",
            words[one.verdict],
            _gb(one.gb),
            _times(one.seconds) if one.seconds and one.verdict != "too big" else "-",
            _money(one.cost) if one.cost and one.verdict != "too big" else "-",
            _source(one) if not one.machine.local else "",
        ]
        for one in found
    ]
    columns = [_("machine"), "GB", _("fits"), _("peak GB"), _("time"), _("dollars"), _("price of")]
    frame.table(columns, rows, right=[1, 3])


def _gb(value: float) -> str:
    return f"{value:.2f}" if value < 10 else f"{value:.1f}"


def _times(seconds: tuple[float, float]) -> str:
    return "–".join([_time(seconds[0]), _time(seconds[1])])


def _time(seconds: float) -> str:
    if seconds < 90:
        return _("{count:.0f} s", count=seconds)
    return _("{count:.0f} min", count=seconds / 60) if seconds < 5400 else _("{count:.1f} h", count=seconds / 3600)


def _money(cost: tuple[float, float]) -> str:
    return "–".join(f"{value:.2f}" for value in cost) if cost[1] else "0"


def _source(found: Estimate) -> str:
    price = found.machine.gpu.price if found.machine.gpu else None
    return f"{price.source}, {price.seen.isoformat()}" if price else "-"
