"""A run in words: for one line, for a table, for a screen; a job on another machine, before it is a run and after."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nlp_skills.cli import frame
from nlp_skills.cli.tasks import one_line
from nlp_skills.i18n import _

if TYPE_CHECKING:
    import datetime as dt

    from nlp_skills.schema.remote_job import RemoteJob
    from nlp_skills.schema.version import RunStatus
    from nlp_skills.workspace.runs import Run

# A machine that was looked at within so many seconds is not worth a word about when.
_RECENT_SECONDS = 120.0


def job_of(run: Run) -> RemoteJob | None:
    """The job on another machine that a run is, or that is to follow it; None for a run of this machine."""
    from nlp_skills.errors import Problem
    from nlp_skills.workspace import remote_jobs

    try:
        job = remote_jobs.of(run.folder, run.status.kind, run.version.name)
    except Problem:
        return None
    return job if job and (run.status.place is not None or is_open(job)) else None


def is_open(job: RemoteJob) -> bool:
    """Whether it may go on over there, or has something to fetch."""
    return job.state in ("starting", "running", "ended")


def _going(run: Run) -> RemoteJob | None:
    """The job that this run is at this moment, as far as its machine told."""
    job = job_of(run)
    return job if job and job.state == "running" and run.status.state == "running" else None


def _instead(run: Run) -> RemoteJob | None:
    """The job that has to be spoken of, and not the run before it, or what that said last."""
    job = job_of(run)
    if job is None or job.state == "fetched":
        return None
    said_running = run.status.state == "running"
    return job if job.state in ("starting", "ended") or said_running == (job.state == "lost") else None


def state(run: Run) -> str:
    """The state, in one or two words."""
    if job := _instead(run):
        return job_state(job)
    if job := _going(run):
        return _("unreachable") if job.trouble else _("running")
    return {
        "running": _("running"),
        "unknown": _("unknown"),
        "dead": _("dead"),
        "interrupted": _("stopped"),
        "failed": _("failed"),
        "completed": _("completed"),
    }[run.state]


def job_state(job: RemoteJob) -> str:
    """A job's state, in one or two words."""
    return {
        "starting": _("starting"),
        "running": _("running"),
        "ended": _("to be fetched"),
        "fetched": _("fetched"),
        "lost": _("lost"),
    }[job.state]


def summary(run: Run) -> str:
    """How a run stands, in one sentence."""
    if job := _instead(run):
        return job_summary(job)
    status, job, on = run.status, _going(run), place(run)
    at = {"step": status.step, "total": status.total_steps}
    stands = ("unknown" if job.trouble else "running") if job else run.state
    if stands == "running":
        words = _(", ").join([_running(status, on), *spent(run)])
    elif stands == "unknown":
        known = _("running on {host}, as far as is known: step {step} of {total}", host=on or host(status), **at)
        words = _(", ").join([known, *spent(run)])
    else:
        words = {
            "completed": _("the last run was completed: step {step} of {total}", **at),
            "interrupted": _("the last run was stopped at step {step} of {total}", **at),
            "failed": _("the last run failed at step {step} of {total}", **at),
            "dead": _("the last run is dead: its process ended at step {step} of {total}", **at),
        }[stands]
        words = _(", ").join([words, *([_("on {place}", place=on)] if on else []), *spent(run)])
    return f"{words}: {one_line(status.message)[:300]}" if status.message else words


def _running(status: RunStatus, on: str | None) -> str:
    at: dict[str, Any] = {"step": status.step, "total": status.total_steps}
    if on and not status.total_steps:
        return _("running on {place}, before the first step", place=on)
    if status.eta_seconds:
        at["left"] = span(status.eta_seconds)
        if on:
            return _("running on {place}: step {step} of {total}, {left} left", place=on, **at)
        return _("running: step {step} of {total}, {left} left", **at)
    if on:
        return _("running on {place}: step {step} of {total}", place=on, **at)
    return _("running: step {step} of {total}", **at)


def job_summary(job: RemoteJob) -> str:
    """How a job stands of which there is no run to speak of (yet), in one sentence."""
    at = one_line(job.place)[:80]
    words = {
        "starting": _("on its way to {place}; not running yet", place=at),
        "running": _("running on {place}", place=at),
        "ended": _("ended on {place}; what it made is not fetched yet", place=at),
        "fetched": _("was carried out on {place}", place=at),
        "lost": _("lost: {place} knows of it no more", place=at),
    }[job.state]
    usd = money(job_cost(job))
    words = _(", ").join([words, *([usd] if usd else [])])
    return f"{words}: {one_line(job.trouble)[:300]}" if job.trouble and job.state == "lost" else words


def job_hints(job: RemoteJob) -> list[str]:
    """What is to be known of a job besides: since when its machine has not answered, and why."""
    if not job.trouble or not is_open(job):
        return []
    at, why = one_line(job.place)[:80], one_line(job.trouble)[:300]
    if job.seen is None:
        return [_("{place} was not reached yet: {cause}", place=at, cause=why)]
    since = _("{place} cannot be reached; last heard of {span} ago: {cause}", place=at, span=span(_ago(job)), cause=why)
    return [since, _("what runs there goes on without this computer")]


def _ago(job: RemoteJob) -> float:
    from nlp_skills import files

    return max(0.0, (files.now() - (job.seen or job.created)).total_seconds())


def job_cost(job: RemoteJob) -> float | None:
    """US dollars for a job up to now, where its machine is charged for."""
    from nlp_skills.execution import costs

    return costs.so_far(job)


def place(run: Run) -> str | None:
    """The server or cluster that a run was sent to, as text from a file; None for one of this machine."""
    return one_line(run.status.place)[:80] if run.status.place else None


def cost(run: Run) -> float | None:
    """US dollars for a run up to now, where its machine is charged for."""
    job = _going(run)
    return run.status.cost_usd if job is None else max(run.status.cost_usd or 0.0, job_cost(job) or 0.0) or None


def spent(run: Run) -> list[str]:
    """What a run has cost so far, as a part of a sentence; nothing where nobody charges for it."""
    usd = money(cost(run))
    if usd is None:
        return []
    return [_("{cost} so far", cost=usd) if _going(run) else _("{cost} in all", cost=usd)]


def money(usd: float | None) -> str | None:
    """US dollars: $0.42, $1,250.00."""
    return None if usd is None else f"${usd:,.2f}"


def _left(status: RunStatus) -> list[str]:
    return [_("{left} left", left=span(status.eta_seconds))] if status.eta_seconds else []


def hints(run: Run) -> list[str]:
    """What is to be known besides: a long silence, what went wrong, and what to do about it."""
    from nlp_skills.training import health
    from nlp_skills.workspace import runs

    status, found = run.status, []
    if (seconds := runs.silence(status)) is not None:
        found.append(_("no step for {span}; a step takes {step}", span=span(seconds), step=span(status.step_seconds)))
    if job := job_of(run):
        found += job_hints(job)
    elif run.state == "unknown":
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
        *(_left(status) if run.state == "running" or _going(run) else []),
        *spent(run),
        _("on {place}", place=place(run)) if run.status.place else "",
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
    """The computer and process, or the place it was sent to; and when that was last heard of, where it is long ago."""
    from nlp_skills.workspace import runs

    if job := job_of(run):
        return job_where(job)
    if run.status.place or (run.state != "unknown" and runs.elsewhere(run.status)):
        return place(run) or host(run.status)
    if run.state == "unknown":
        heard = _("last heard of {span} ago", span=span(runs.age(run.status)))
        return f"{host(run.status)} · {heard}"
    return _("here, process {pid}", pid=run.status.pid) if run.state == "running" else _("here")


def job_where(job: RemoteJob) -> str:
    """The place of a job; and when it was last heard of, where it should be heard of and is not."""
    at = one_line(job.place)[:80]
    if job.state == "running" and (job.trouble or _ago(job) > _RECENT_SECONDS):
        heard = _("last heard of {span} ago", span=span(_ago(job)))
        return f"{at} · {heard}"
    return at


def local(time: dt.datetime) -> str:
    """A time on screen."""
    return time.astimezone().strftime("%Y-%m-%d %H:%M")


def as_dict(run: Run) -> dict[str, Any]:
    """For `--json`: the run, with the diagnosis of its end, and the job on another machine that it is."""
    told, job = diagnosis(run.status), job_of(run)
    about = {"job": job_as_dict(job)} if job else {}
    return {**run.as_dict(), "diagnosis": {"cause": told[0], "mend": told[1]} if told else None, **about}


def job_as_dict(job: RemoteJob) -> dict[str, Any]:
    """For `--json`: where a job stands, without what only the machinery needs."""
    known = ("id", "type", "step", "version", "place", "state", "created", "started", "ended", "seen", "trouble",
             "exit_code", "how", "cluster", "usd_per_hour")  # fmt: skip
    return {**{name: value for name, value in job.dump().items() if name in known}, "cost_usd": job_cost(job)}


def say(run: Run) -> None:
    """How a run stands and what is to be known besides, on standard output."""
    frame.say(summary(run))
    for hint in hints(run):
        frame.say(f"  {hint}")


def exit_code(run: Run) -> int:
    """What a command ends with that has waited for this run."""
    return {"completed": 0, "interrupted": 130}.get(run.state, 1)
