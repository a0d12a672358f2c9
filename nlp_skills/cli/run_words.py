"""A run in words: for one line, for a table, for a screen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nlp_skills.cli import frame
from nlp_skills.cli.tasks import one_line
from nlp_skills.i18n import _

if TYPE_CHECKING:
    import datetime as dt

    from nlp_skills.schema.version import RunStatus
    from nlp_skills.workspace.runs import Run


def state(run: Run) -> str:
    """The state, in one or two words."""
    return {
        "running": _("running"),
        "unknown": _("unknown"),
        "dead": _("dead"),
        "interrupted": _("stopped"),
        "failed": _("failed"),
        "completed": _("completed"),
    }[run.state]


def summary(run: Run) -> str:
    """How a run stands, in one sentence."""
    status = run.status
    at = {"step": status.step, "total": status.total_steps}
    if run.state == "running" and status.eta_seconds:
        words = _("running: step {step} of {total}, {left} left", left=span(status.eta_seconds), **at)
    else:
        words = {
            "running": _("running: step {step} of {total}", **at),
            "unknown": _("running on {host}, as far as is known: step {step} of {total}", host=host(status), **at),
            "completed": _("the last run was completed: step {step} of {total}", **at),
            "interrupted": _("the last run was stopped at step {step} of {total}", **at),
            "failed": _("the last run failed at step {step} of {total}", **at),
            "dead": _("the last run is dead: its process ended at step {step} of {total}", **at),
        }[run.state]
    return f"{words}: {one_line(status.message)[:300]}" if status.message else words


def hints(run: Run) -> list[str]:
    """What is to be known besides: a long silence, what went wrong, and what to do about it."""
    from nlp_skills.training import health
    from nlp_skills.workspace import runs

    status, found = run.status, []
    if (seconds := runs.silence(status)) is not None:
        found.append(_("no step for {span}; a step takes {step}", span=span(seconds), step=span(status.step_seconds)))
    if run.state == "unknown":
        found.append(_("last heard of {span} ago", span=span(runs.age(status))))
    if told := diagnosis(status):
        found += [f"{_('cause:')} {told[0]}", f"{_('mend:')} {told[1]}"]
    on = run.state in ("dead", "interrupted", "failed") and not health.hopeless(status)
    if on and run.checkpoint is not None:
        found.append(
            _("checkpoint of step {step}; go on with: nlp-skills resume {task} --version {version}",
              step=run.checkpoint, task=run.folder.root.name, version=run.version.name)
        )  # fmt: skip
    return found


def diagnosis(status: RunStatus) -> tuple[str, str] | None:
    """What went wrong and what mends it, where the run's end has a name."""
    from nlp_skills.training import health

    return health.words(status)


def facts(run: Run) -> list[str]:
    """The figures of a run, each with its name: for one line in a log."""
    status = run.status
    found = [
        _("step {step} of {total}", step=status.step, total=status.total_steps),
        _("loss {loss}", loss=figure(status.loss)) if status.loss is not None else "",
        _("valid: {figures}", figures=valid(status)) if status.metric else "",
        speed(status) if status.tokens_per_second else "",
        memory(status) if status.memory_gb else "",
        _("{left} left", left=span(status.eta_seconds)) if run.state == "running" and status.eta_seconds else "",
    ]
    return [fact for fact in found if fact]


def valid(status: RunStatus) -> str:
    """The last figures on the valid split; a dash where there are none."""
    from nlp_skills.evaluation import words

    parts = []
    for name, value in (status.metric or {}).items():
        plain = name.removeprefix("eval_")
        if plain == "loss":
            parts.append(_("loss {loss}", loss=figure(value)))
        else:
            parts.append(f"{words.metric(plain)} {words.figure(plain, value)}")
    return ", ".join(parts) or "-"


def speed(status: RunStatus) -> str:
    """Tokens a second; a dash where that is not known yet."""
    count = status.tokens_per_second
    return _("{count} tokens/s", count=f"{count:,.0f}") if count else "-"


def memory(status: RunStatus) -> str:
    """What the run holds now; a dash where that is not known yet."""
    return _("{gb} GB", gb=f"{status.memory_gb:.1f}") if status.memory_gb else "-"


def figure(value: float | None) -> str:
    """A loss."""
    return "-" if value is None else f"{value:.3f}"


def span(seconds: float | None) -> str:
    """A stretch of time: 42 s, 12 min, 3 h 20 min, 2 d 4 h."""
    if seconds is None:
        return "-"
    if seconds < 10:
        return _("{seconds} s", seconds=f"{seconds:.1f}".removesuffix(".0"))
    if seconds < 90:
        return _("{seconds} s", seconds=f"{seconds:.0f}")
    minutes = round(seconds / 60)
    if minutes < 90:
        return _("{minutes} min", minutes=minutes)
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return _("{hours} h {minutes} min", hours=hours, minutes=minutes)
    return _("{days} d {hours} h", days=hours // 24, hours=hours % 24)


def host(status: RunStatus) -> str:
    """The computer a run is on, as text from a file."""
    return one_line(status.host or "-")[:60]


def where(run: Run) -> str:
    """The computer and process."""
    from nlp_skills.workspace import runs

    if run.state != "unknown" and runs.elsewhere(run.status):
        return host(run.status)
    if run.state == "unknown":
        heard = _("last heard of {span} ago", span=span(runs.age(run.status)))
        return f"{host(run.status)} · {heard}"
    return _("here, process {pid}", pid=run.status.pid) if run.state == "running" else _("here")


def local(time: dt.datetime) -> str:
    """A time on screen."""
    return time.astimezone().strftime("%Y-%m-%d %H:%M")


def as_dict(run: Run) -> dict[str, Any]:
    """For `--json`: the run, with the diagnosis of its end."""
    told = diagnosis(run.status)
    return {**run.as_dict(), "diagnosis": {"cause": told[0], "mend": told[1]} if told else None}


def say(run: Run) -> None:
    """How a run stands and what is to be known besides, on standard output."""
    frame.say(summary(run))
    for hint in hints(run):
        frame.say(f"  {hint}")


def exit_code(run: Run) -> int:
    """What a command ends with that has waited for this run."""
    return {"completed": 0, "interrupted": 130}.get(run.state, 1)
