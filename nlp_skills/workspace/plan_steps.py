"""Where a task stands, and the commands that lead on from there: what a new plan is written from.

Judged by the task's files alone: which documents, splits, models and results there are, and what the results say.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TypeVar

from nlp_skills.errors import Problem
from nlp_skills.i18n import _
from nlp_skills.schema.data_lock import DataLock
from nlp_skills.schema.task import Task
from nlp_skills.schema.version import SPLITS, Results, RunStatus
from nlp_skills.workspace import naming, runs, versions
from nlp_skills.workspace.folder import TaskFolder, VersionFolder
from nlp_skills.workspace.plan_text import Wanted

Found = TypeVar("Found")


@dataclass(frozen=True)
class Standing:
    """What there is of a task. `rows` are those of each split, as far as the lock says."""

    name: str
    task: Task
    version: str
    sources: int
    to_review: bool
    splits: bool
    rows: dict[str, int]
    configured: bool
    trained: bool
    run: RunStatus | None
    results: Results | None
    parent: str | None
    next_version: str
    broken: list[Problem] = field(default_factory=list)


def standing(folder: TaskFolder) -> Standing:
    """Look at the task's files; a document that cannot be read is named in `broken` and counts as absent.

    Raises:
        Invalid: task.yaml is wrong.
    """
    task, broken = folder.task(), list[Problem]()
    version = folder.version(task.version)
    sources, to_review = _sources(folder, broken)
    made = _read(version.lineage, broken)
    return Standing(
        name=folder.root.name,
        task=task,
        version=version.name,
        sources=sources,
        to_review=to_review,
        splits=all(folder.split(name).is_file() for name in SPLITS),
        rows=_rows(folder),
        configured=version.config_path.is_file(),
        trained=_read(version.model_info, broken) is not None,
        run=_read(version.status, broken),
        results=_read(version.results, broken),
        parent=made.parent if made else None,
        next_version=_next(folder, task, version),
        broken=broken,
    )


def _read(load: Callable[[], Found], broken: list[Problem]) -> Found | None:
    try:
        return load()
    except Problem as problem:
        broken.append(problem)
        return None


def _sources(folder: TaskFolder, broken: list[Problem]) -> tuple[int, bool]:
    if not folder.sources_path.is_file():
        return 0, False
    found = _read(folder.sources, broken)
    if found is None:
        return 0, False
    review = any(source.type == "llm_generated" and source.validation.require_review for source in found.sources)
    return len(found.sources), review


def _rows(folder: TaskFolder) -> dict[str, int]:
    try:
        lock = DataLock.load(folder.raw.parent / "data.lock.yaml")
    except (Problem, OSError):
        return {}  # whether it is there and right is `status`'s to say
    return {name: lock.outputs[name].rows for name in SPLITS if name in lock.outputs}


def _next(folder: TaskFolder, task: Task, version: VersionFolder) -> str:
    try:
        return naming.next_name(task.versioning, versions.taken(folder, task), parent=version.name)
    except Problem:
        return "NEXT"  # two strategies side by side: new-version says so when it is asked


def about(stand: Standing) -> str:
    """The facts in one paragraph."""
    facts = [_("{task} is {state}, at {version}.", task=stand.name, state=stand.task.status, version=stand.version)]
    if stand.rows:
        counts = ", ".join(f"{name} {rows}" for name, rows in stand.rows.items())
        facts.append(_("Rows: {counts}.", counts=counts))
    elif not stand.splits:
        facts.append(_("There are no splits yet."))
    facts += _model_facts(stand)
    # Chinese sentences end in a full stop that brings its own space.
    return "".join(fact if fact.endswith("。") else f"{fact} " for fact in facts).strip()


def _model_facts(stand: Standing) -> Iterator[str]:
    if stand.results:
        yield _score(stand.results, stand.task.success_criteria.threshold)
        if weakest := _weakest(stand.results):
            yield _("Weakest class: {name}, F1 {value}.", name=weakest[0], value=f"{weakest[1]:.1%}")
    elif stand.trained:
        yield _("The model is trained and not measured.")
    elif stopped(stand.run):
        assert stand.run is not None
        yield _("Training stopped at step {step} of {total}.", step=stand.run.step, total=stand.run.total_steps)
    elif stand.run and stand.run.state == "running":
        yield _("Training is running.")


def stopped(run: RunStatus | None) -> bool:
    """Whether there is a run to go on with."""
    return run is not None and run.kind == "train" and run.state != "completed" and not runs.alive(run)


def _score(results: Results, threshold: float | None) -> str:
    name = results.success.primary_metric
    value = results.metrics.get(name)
    given = "–" if value is None else f"{value:.3f}" if name == "mcc" else f"{value:.1%}"
    if threshold is None:
        return _("{metric} is {value}; no threshold is set.", metric=name, value=given)
    wanted = f"{threshold:.3f}" if name == "mcc" else f"{threshold:.1%}"
    return _("{metric} is {value}, wanted {threshold}.", metric=name, value=given, threshold=wanted)


def _weakest(results: Results) -> tuple[str, float] | None:
    return min(((name, found.f1) for name, found in results.per_class.items()), key=lambda pair: pair[1], default=None)


def steps(stand: Standing) -> list[Wanted]:
    """What leads on from here, a command each."""
    return list(_steps(stand))


def checkpoints() -> list[str]:
    """What to look at after the first three steps, the second three, and every three from then on."""
    return [
        _(
            "does every class have rows, are there enough test rows for the difference that matters, and is anything "
            "found so far to be mended at its origin first?"
        ),
        _("is the figure above the simple baselines, and which class holds it back?"),
        _("does the goal still hold? Change, add or skip the steps that follow."),
    ]


def _steps(stand: Standing) -> Iterator[Wanted]:
    name = shlex.quote(stand.name)
    if stand.task.status == "archived":
        yield Wanted(
            _("Take the task out of the archive"), f"nlp-skills unarchive {name}",
            _("the task is configuring again"), "nlp-skills tasks",
        )  # fmt: skip
    if stand.broken:
        yield Wanted(
            _("Mend the documents that cannot be read"), f"nlp-skills validate {name} --documents",
            _("no errors; one would be named with its file and line"), f"nlp-skills status {name}",
        )  # fmt: skip
    if not stand.results:
        yield from _data(stand, name)
        yield from _first_model(stand, name)
    elif stand.results.success.verdict == "met":
        yield from _settle(stand, name)
    else:
        yield from _next_round(stand, name)


def _data(stand: Standing, name: str) -> Iterator[Wanted]:
    if not stand.sources and not stand.splits:
        yield Wanted(
            _("Say where the rows come from"), f"nlp-skills data-source add {name}",
            _("data_source.yaml names the source, and its first rows are shown"),
            f"nlp-skills data-source check {name}",
        )  # fmt: skip
    if stand.to_review and not stand.splits:
        yield Wanted(
            _("Let the model write its rows"), f"nlp-skills regenerate {name}",
            _("the rows are there and wait for review"), f"nlp-skills status {name}",
        )  # fmt: skip
        yield Wanted(
            _("Look at what it wrote"), f"nlp-skills review {name}",
            _("every row is accepted, edited or rejected"), f"nlp-skills status {name}",
        )  # fmt: skip
    if not stand.splits:
        yield Wanted(
            _("Fetch the rows and split them"), f"nlp-skills regenerate {name}",
            _("train, valid and test, with rows of every class in each"), f"nlp-skills validate {name}",
        )  # fmt: skip
    elif not stand.trained:
        yield Wanted(
            _("Check every row"), f"nlp-skills validate {name}",
            _("no errors, and no test row in train"), f"nlp-skills status {name}",
        )  # fmt: skip
    if not stand.trained:
        yield Wanted(
            _("Look for wrong labels and personal data"), f"nlp-skills audit {name}",
            _("docs/data_report.html; what is wrong is put right where the rows come from"),
            f"nlp-skills validate {name}",
        )  # fmt: skip


def _first_model(stand: Standing, name: str) -> Iterator[Wanted]:
    version = stand.version
    if not stand.configured:
        yield Wanted(
            _("Make the scripts and the configuration"), f"nlp-skills generate {name}",
            _("versions/{version}/config.yaml and scripts/", version=version), f"nlp-skills preflight {name}",
        )  # fmt: skip
    elif not stand.trained:
        yield Wanted(
            _("See a row as the model will see it"), f"nlp-skills preflight {name} --version {version}",
            _("the part it learns is marked, and nothing is refused"), f"nlp-skills validate {name} --documents",
        )  # fmt: skip
    if not stand.trained:
        going_on = stopped(stand.run)
        yield Wanted(
            _("Go on training {version}", version=version) if going_on else _("Train {version}", version=version),
            f"nlp-skills train {name} --version {version}",
            _("the loss falls and the run is completed"), f"nlp-skills lineage {name} {version}",
        )  # fmt: skip
    yield _measure(name, version)
    yield Wanted(
        _("Read the report and decide: adopt it, or another round"), f"nlp-skills report {name} --version {version}",
        _("what holds it back is one sentence you can write down"), f"nlp-skills history {name}",
    )  # fmt: skip


def _measure(name: str, version: str) -> Wanted:
    return Wanted(
        _("Measure {version} beside its baselines", version=version),
        f"nlp-skills evaluate {name} --version {version}",
        _("versions/{version}/results.json, better than the baselines", version=version),
        f"nlp-skills evaluate {name} --version {version} --gate",
    )


def _next_round(stand: Standing, name: str) -> Iterator[Wanted]:
    version, following = stand.version, stand.next_version
    yield Wanted(
        _("Read what {version} gets wrong", version=version), f"nlp-skills report {name} --version {version}",
        _("the commonest kind of mistake is named"), f"nlp-skills history {name}",
    )  # fmt: skip
    yield Wanted(
        _("See whether the labels are to blame"), f"nlp-skills audit {name}",
        _("suspect labels are looked at, and put right where the rows come from"), f"nlp-skills validate {name}",
    )  # fmt: skip
    yield Wanted(
        _("Start {version} with one change that answers it", version=following),
        f'nlp-skills new-version {name} --from {version} --change "WHAT: FROM → TO" --set KEY=VALUE',
        _("versions/{version}/config.yaml differs from its parent in that change only", version=following),
        f"nlp-skills preflight {name} --version {following}",
    )  # fmt: skip
    yield Wanted(
        _("Train {version}", version=following), f"nlp-skills train {name} --version {following}",
        _("the loss falls and the run is completed"), f"nlp-skills lineage {name} {following}",
    )  # fmt: skip
    yield _measure(name, following)
    yield Wanted(
        _("Compare it with {version}", version=version), f"nlp-skills compare {name} {version} {following}",
        _("better, worse, or too few rows to tell, with a p-value"), f"nlp-skills history {name}",
    )  # fmt: skip


def _settle(stand: Standing, name: str) -> Iterator[Wanted]:
    version = stand.version
    yield Wanted(
        _("Read the report of {version}", version=version), f"nlp-skills report {name} --version {version}",
        _("no class and no kind of mistake that would be a surprise in use"),
        f"nlp-skills evaluate {name} --version {version} --gate",
    )  # fmt: skip
    if stand.parent:
        yield Wanted(
            _("Make sure it is better than {version}", version=stand.parent),
            f"nlp-skills compare {name} {stand.parent} {version}",
            _("better, worse, or too few rows to tell, with a p-value"), f"nlp-skills history {name}",
        )  # fmt: skip
    if naming.is_experiment(version):
        yield Wanted(
            _("Turn the experiment into a version"), f"nlp-skills promote {name} {version}",
            _("the next version, promoted from {version}", version=version), f"nlp-skills history {name}",
        )  # fmt: skip
    yield Wanted(
        _("Make it again from its records"), f"nlp-skills reproduce {name} {version}",
        _("identical, or within noise"), f"nlp-skills lineage verify {name} {version}",
    )  # fmt: skip
    yield Wanted(
        _("See what may go"), f"nlp-skills cleanup {name} --dry-run",
        _("every version with the rule that keeps it or the reason it goes"), f"nlp-skills du {name}",
    )  # fmt: skip
