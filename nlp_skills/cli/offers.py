"""The price of a rented machine, shown before it is rented, and the question whether it may be."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from nlp_skills.cli import frame
from nlp_skills.errors import Problem
from nlp_skills.i18n import N_, _

if TYPE_CHECKING:
    from nlp_skills.execution.cloud.offer import Offer
    from nlp_skills.schema.remote_job import Step
    from nlp_skills.workspace.folder import TaskFolder

_YES = "nlp_skills.yes"


def _keep(context: click.Context, _parameter: click.Parameter, value: bool) -> None:
    context.meta[_YES] = value


yes_option = frame.option(
    "--yes",
    is_flag=True,
    expose_value=False,
    callback=_keep,
    help=N_("Where execution rents a machine: agree to its price beforehand, for programs."),
)


@contextlib.contextmanager
def asking(folder: TaskFolder, version_name: str, step: Step) -> Iterator[None]:
    """Within it, whoever runs the command is shown what a machine costs, and asked."""
    if folder.task().execution.type != "cloud":
        yield
        return
    from nlp_skills.execution.cloud import offer

    agreed = bool(click.get_current_context().meta.get(_YES))

    def ask(found: Offer) -> bool:
        hours = _hours(folder, version_name, found) if step == "train" else None
        for line in lines(found, hours):
            frame.note(line)
        if agreed:
            return True
        return sys.stdin.isatty() and click.confirm(_("Rent it?"), err=True)

    with offer.answered_by(ask):
        yield


def lines(found: Offer, hours: tuple[float, float] | None) -> list[str]:
    """What is offered, what it costs an hour and in all, and what ends it."""
    gpu = found.gpu or _("no GPU")
    kind = _("spot: it may be taken back, and is replaced") if found.spot else _("on demand")
    said = [
        _("{nodes} × {gpu} from {provider}, {kind}", nodes=found.nodes, gpu=gpu, provider=found.provider, kind=kind)
    ]
    said.append(_price(found))
    if hours is not None:
        said.append(_("the training: {low:.1f} to {high:.1f} h, estimated", low=hours[0], high=hours[1]))
        if found.usd_per_hour is not None:
            low, high = (found.usd_per_hour * each for each in hours)
            said.append(_("in all: {low:.2f} to {high:.2f} USD, and some minutes for the machine to be made",
                          low=low, high=high))  # fmt: skip
    if found.most_usd is not None:
        said.append(_("it is ended, with a checkpoint, at {usd:.2f} USD", usd=found.most_usd))
    elif found.max_hours is not None:
        said.append(_("it is ended, with a checkpoint, after {hours:g} h", hours=found.max_hours))
    elif not found.free:
        said.append(_("nothing ends it before its end: task.yaml has neither budget_usd nor max_hours"))
    said.append(_("a machine without work goes away after {minutes} min", minutes=found.idle_minutes))
    return said


def _price(found: Offer) -> str:
    if found.free:
        return _("{provider} takes no money by the hour, as far as we know", provider=found.provider)
    if found.usd_per_hour is None:
        return _("SkyPilot gives no price for it")
    return _("from {usd:.2f} USD an hour, all machines together, by SkyPilot's catalogue", usd=found.usd_per_hour)


def _hours(folder: TaskFolder, version_name: str, found: Offer) -> tuple[float, float] | None:
    """What the estimate gives for this GPU, on one of which it is made; None where it knows too little."""
    from nlp_skills.training.estimate import gate

    name, _colon, count = (found.gpu or "").partition(":")
    if not name or found.nodes * int(count or 1) > 1:
        return None
    with contextlib.suppress(Problem):
        estimated: Any = gate.of_version(folder, folder.version(version_name), gate.Asked(gpu=name, base_model=None))
        if estimated.seconds is not None:
            low, high = estimated.seconds
            return low / 3600, high / 3600
    return None
