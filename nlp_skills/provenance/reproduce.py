"""A version trained again from its records, beside the original: identical, within noise, or what differs.

The way: check that all is here, make a scratch task, make or choose the environment, train and evaluate in a program
of its own, compare, and note the answer in the version's lineage.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nlp_skills import files
from nlp_skills.errors import Invalid, Problem, Unavailable, Usage
from nlp_skills.i18n import _
from nlp_skills.progress import Tell
from nlp_skills.provenance import child, scratch, surroundings, verdict
from nlp_skills.provenance import original as originals
from nlp_skills.provenance.original import Original
from nlp_skills.provenance.surroundings import Choice, Difference, Kind
from nlp_skills.provenance.verdict import Verdict
from nlp_skills.training import own_code
from nlp_skills.workspace import active, lineage
from nlp_skills.workspace.folder import TaskFolder, VersionFolder
from nlp_skills.workspace.lock import writing


@dataclass(frozen=True)
class Reproduction:
    """What came of it. `seconds` are those of the two trainings; `kept` is the scratch task, where it was kept.

    `restored` is where the model was put, when the version had lost its own and this one has the same bytes.
    """

    task: str
    version: str
    environment: Kind
    verdict: Verdict
    seconds: dict[str, float | None]
    kept: Path | None
    restored: Path | None = None

    @property
    def ok(self) -> bool:
        """Whether the version can be had again."""
        return self.verdict.word != "differs"

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        found = self.verdict
        return {
            "ok": self.ok,
            "task": self.task,
            "version": self.version,
            "verdict": found.word,
            "why": found.why,
            "environment": self.environment,
            "differences": [one._asdict() for one in found.differences],
            "same_weights": found.same_weights,
            "files": [{**one._asdict(), "same": one.same} for one in found.files],
            "metrics": [
                {**one._asdict(), "difference": one.again - one.recorded, "within": one.within} for one in found.figures
            ],
            "rows": found.rows._asdict() if found.rows else None,
            "seconds": self.seconds,
            "kept": self.kept,
            "restored": self.restored,
        }


def reproduce(
    folder: TaskFolder, name: str | None = None, *, environment: Choice = "auto", keep: bool = False, tell: Tell
) -> Reproduction:
    """Train a version again and compare; `tell` hears each step. A stopped one goes on when asked for again.

    Raises:
        Invalid: something that it was made of is missing or no longer the same, all of it named.
        Unavailable: the base model, a package or uv is not here; the environment cannot be made.
        KeyboardInterrupt: stopped, with a checkpoint.
    """
    original = originals.read(folder, name)
    version = original.version.name
    with scratch.alone(folder, version):
        kind, lacking = surroundings.decide(original, environment)
        _refuse([*lacking, *originals.missing(original)])
        task, begun = scratch.make(original, kind)
        tell(_expectation(original, begun))
        again = VersionFolder(task.root, version)
        _prepare(original, kind, task.root, tell)
        _train(original, kind, again, tell)
        found = verdict.of(original, again, _around(original, kind, again))
        made = _noted(original, again, _made(original, kind, again, found, keep=keep), tell)
        scratch.finish(task.root, keep=keep)
    return made


def _refuse(problems: list[Problem]) -> None:
    if problems:
        first, *rest = problems
        first.also = rest
        raise first


def _expectation(original: Original, begun: bool) -> str:
    run = original.run
    about = {"version": original.version.name, "device": run.device or "?", "threads": run.threads or "?"}
    if begun:
        return _("going on with {version} where its reproduction was stopped", **about)
    if not run.seconds:
        return _("training {version} again; the record says {device}, threads: {threads}", **about)
    return _(
        "training {version} again; the record says {seconds:.0f} s on {device}, threads: {threads}",
        seconds=run.seconds,
        **about,
    )


def _prepare(original: Original, kind: Kind, root: Path, tell: Tell) -> None:
    if kind == "here":
        return
    other = ", ".join(map(str, surroundings.here(original))) or _("nothing differs from what runs here")
    tell(_("making the pinned environment ({differences})", differences=other))
    surroundings.install(original, root)


def _train(original: Original, kind: Kind, again: VersionFolder, tell: Tell) -> None:
    _step(original, kind, again, ["train"])
    if original.evaluated:
        tell(_("evaluating it"))
        _step(original, kind, again, ["evaluate", "--no-base-baseline"])


def _step(original: Original, kind: Kind, again: VersionFolder, words: list[str]) -> None:
    """One of our commands in the chosen environment, on the scratch task."""
    command = [*surroundings.interpreter(kind, again.task_root), "-m", "nlp_skills.cli.main", *words]
    ended = child.run(
        [*command, again.task_root, "--version", again.name, "--json"],
        cwd=scratch.working_directory(original),
        env=surroundings.variables(original, kind),
        listen=True,
    )
    if ended.code:
        raise _failed(words[0], again, ended)


def _failed(step: str, again: VersionFolder, ended: child.Ended) -> Problem:
    """The problem that the program reported, as it would have told it itself."""
    try:
        told = json.loads(ended.out)["error"]
        parts = {key: told.get(key) for key in ("file", "line", "cause", "mend")}
        kinds = {Usage.exit_code: Usage, Unavailable.exit_code: Unavailable}
        return kinds.get(ended.code, Invalid)(told["message"], **parts)
    except (ValueError, KeyError, TypeError, AttributeError):
        return Unavailable(
            _("{step} ended with exit code {code}", step=step, code=ended.code),
            file=again.task_root,
            mend=_("read its lines above; what it made so far is in this folder"),
        )


def _around(original: Original, kind: Kind, again: VersionFolder) -> dict[str, str]:
    """What the new training recorded; of an earlier release, whose code has no hash of its own, its wheel's."""
    found = surroundings.of(again)
    if "code" not in found and kind == "pinned":
        wheels = sorted((again.task_root / "vendor").glob("nlp_skills-*.whl"))
        found["code"] = own_code.in_wheel(wheels[-1]) if wheels else "?"
    return found


def _made(original: Original, kind: Kind, again: VersionFolder, found: Verdict, *, keep: bool) -> Reproduction:
    record = again.lineage()
    seconds = record.run.seconds if record and record.run else None
    return Reproduction(
        task=original.folder.task().task_name,
        version=original.version.name,
        environment=kind,
        verdict=found,
        seconds={"recorded": original.run.seconds, "again": seconds},
        kept=again.task_root if keep else None,
    )


def _noted(original: Original, again: VersionFolder, made: Reproduction, tell: Tell) -> Reproduction:
    """The verdict in the version's lineage. Hours of training are not thrown away because a file is not free."""
    try:
        with writing(original.folder, wait_seconds=60, tell=tell):
            lineage.note(original.version, "reproduced", reason=_reason(original, made))
            if original.version.model is None and made.verdict.word == "identical":
                return replace(made, restored=_put_back(original, again))
    except Problem as problem:
        tell(_("the verdict could not be noted in the lineage: {why}", why=str(problem)))
    return made


def _put_back(original: Original, again: VersionFolder) -> Path | None:
    """A version whose model was cleaned up has it again, byte for byte."""
    if again.model is None:
        return None
    place = original.folder.root / again.model.relative_to(again.task_root)
    beside = place.with_name(f".{place.name}.restored")
    try:
        shutil.rmtree(beside, ignore_errors=True)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(again.model, beside)
        beside.rename(place)
    except OSError as error:
        raise files.storage_problem(error, place) from error
    lineage.note(original.version, "restored", reason="reproduced with the recorded bytes")
    active.point(original.folder)
    return place


def _reason(original: Original, made: Reproduction) -> str:
    """The verdict and the figures it rests on, for the record."""
    found, parts = made.verdict, [f"environment: {made.environment}"]
    parts.append(f"same files: {sum(one.same for one in found.files)} of {len(found.files)}")
    primary = original.folder.task().metric
    parts += [f"{one.name} {one.recorded:.4f} → {one.again:.4f}" for one in found.figures if one.name == primary]
    if found.rows:
        parts.append(f"other answers: {found.rows.others} of {found.rows.compared}")
    if found.word != "identical" and found.differences:
        parts.append(", ".join(str(one) for one in found.differences))
    return f"{found.word.replace('_', ' ')}: {'; '.join(parts)}"


__all__ = ["Choice", "Difference", "Reproduction", "reproduce"]
