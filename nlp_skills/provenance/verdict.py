"""Two trainings of one version beside each other: the same bytes, the same within what chance explains, or not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from nlp_skills import files
from nlp_skills.evaluation import significance
from nlp_skills.i18n import _
from nlp_skills.provenance import surroundings
from nlp_skills.provenance.original import Original
from nlp_skills.provenance.surroundings import Difference
from nlp_skills.workspace import lineage
from nlp_skills.workspace.folder import VersionFolder

Word = Literal["identical", "within_noise", "differs"]


class File(NamedTuple):
    """A file of the model and its hash on each side; None where there is no such file."""

    name: str
    recorded: str | None
    again: str | None

    @property
    def same(self) -> bool:
        return self.recorded == self.again

    @property
    def weights(self) -> bool:
        return self.name.endswith(".safetensors")


class Figure(NamedTuple):
    """A metric on each side. `interval` is the 95 % interval of the recorded one, where it was measured."""

    name: str
    recorded: float
    again: float
    interval: tuple[float, float] | None

    @property
    def within(self) -> bool:
        """Whether the recorded interval has room for the new value."""
        return self.interval is None or self.interval[0] <= self.again <= self.interval[1]


class Rows(NamedTuple):
    """The answers to the same test rows: how many there are, how many are others, and the paired test's chance."""

    compared: int
    others: int
    flipped: list[str]
    told_apart: bool
    p: float | None


@dataclass(frozen=True)
class Verdict:
    """The answer, what it rests on, and what was otherwise in the two trainings. `why` says it in sentences."""

    word: Word
    files: list[File]
    figures: list[Figure]
    rows: Rows | None
    differences: list[Difference]
    why: list[str] = field(default_factory=list)

    @property
    def same_weights(self) -> bool:
        weights = [one for one in self.files if one.weights]
        return bool(weights) and all(one.same for one in weights)


def of(original: Original, again: VersionFolder, around: Mapping[str, str]) -> Verdict:
    """How the version trained again, `again`, in the surroundings `around`, does beside the original."""
    models = _files(original, again)
    figures, rows = _figures(original, again), _rows(original, again)
    weights = [one for one in models if one.weights]
    word: Word = "differs"
    if weights and all(one.same for one in weights):
        word = "identical"
    elif rows is not None and not rows.told_apart and all(one.within for one in figures):
        word = "within_noise"
    differences = surroundings.differences(surroundings.of(original.version), around)
    why = [] if word == "identical" else [*_findings(original, models, figures, rows), *_causes(original, differences)]
    return Verdict(word, models, figures, rows, differences, why)


def _files(original: Original, again: VersionFolder) -> list[File]:
    """By their names in the model's folder: the version may have been called otherwise when it was trained."""
    place = original.info.adapter_path or original.info.merged_path or ""
    recorded = original.lineage.model.hashes if original.lineage.model else {}
    if not recorded and original.version.model:
        # A record of an earlier release: the files themselves are what there is.
        recorded = lineage.file_hashes(original.version.model, original.version.task_root)
    before = {_in_model(path, place): sha256 for path, sha256 in recorded.items()}
    made = again.model
    assert made is not None
    after = {
        path.removeprefix(f"{made.relative_to(again.task_root).as_posix()}/"): sha256
        for path, sha256 in lineage.file_hashes(made, again.task_root).items()
    }
    return [File(name, before.get(name), after.get(name)) for name in sorted({*before, *after})]


def _in_model(path: str, place: str) -> str:
    if path.startswith(f"{place}/"):
        return path.removeprefix(f"{place}/")
    # models/adapter/NAME/…, by whatever name
    return path.split("/", 3)[-1]


def _figures(original: Original, again: VersionFolder) -> list[Figure]:
    results, now = original.version.results(), again.results()
    recorded = dict(results.metrics) if results else _recorded_metrics(original)
    if now is None:
        return []
    intervals = results.intervals if results else {}
    return [
        Figure(name, value, now.metrics[name], intervals.get(name))
        for name, value in recorded.items()
        if name in now.metrics
    ]


def _recorded_metrics(original: Original) -> dict[str, float]:
    section = original.lineage.results
    return dict(section.model_extra or {}) if section else {}


def _rows(original: Original, again: VersionFolder) -> Rows | None:
    """None where one side has no predictions, or the original's are no longer those on record."""
    section = original.lineage.results
    wanted = section.hashes.get(original.version.predictions_path.name) if section else None
    path = original.version.predictions_path
    if not (path.is_file() and again.predictions_path.is_file()):
        return None
    if wanted and files.sha256_file(path) != wanted:
        return None
    task = original.folder.task()
    found = significance.between(original.version, again, task.metric, task.language)
    if found["verdict"] == "not_comparable":
        return None
    return Rows(
        compared=found["rows"],
        others=found["disagree"],
        flipped=[*found["fixed"], *found["broken"]],
        told_apart=found["verdict"] != "cannot_tell",
        p=found["metrics"][found["metric"]]["p"],
    )


def _findings(original: Original, models: Sequence[File], figures: Sequence[Figure], rows: Rows | None) -> list[str]:
    """What is not the same in what came out."""
    names = ", ".join(one.name for one in models if not one.same)
    if not any(one.recorded for one in models):
        said = [_("there are neither hashes nor files of the original model to compare with")]
    else:
        said = [_("other bytes: {names}", names=names)]
    if not original.evaluated:
        return [*said, _("the version was never evaluated, so there are no answers to compare")]
    if rows is None:
        return [*said, _("there are no two sets of predictions that can be compared, so no test can be made")]
    said.append(_("other answers: {others} of {rows} test rows", others=rows.others, rows=rows.compared))
    outside = [one.name for one in figures if not one.within]
    if outside:
        said.append(_("outside the recorded interval: {names}", names=", ".join(outside)))
    if rows.told_apart:
        said.append(_("the paired test tells the two apart (p = {p:.3g})", p=rows.p))
    return said


def _causes(original: Original, differences: Sequence[Difference]) -> list[str]:
    """What the records know that may be the reason."""
    said = []
    if differences:
        said.append(_("not as recorded: {names}", names=", ".join(map(str, differences))))
    recorded, run = original.lineage.environment, original.run
    if "before" in recorded:
        said.append(
            _("the recorded run was stopped, and went on at step {steps}; before that it had: {before}",
              steps=recorded.get("resumed_at", "?"), before=recorded["before"])
        )  # fmt: skip
    if run.device != "cpu" or (run.threads or 0) > 1:
        said.append(
            _("it was computed on {device} with {threads} threads, where sums may be taken in another order each time",
              device=run.device or "?", threads=run.threads or "?")
        )  # fmt: skip
    return said or [_("nothing that is recorded differs")]
