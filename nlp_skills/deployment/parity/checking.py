"""An export held against the version as it was evaluated, in the engine that it is made for."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from nlp_skills import files
from nlp_skills.data.render import Message, tokenise
from nlp_skills.deployment.export import records as exports
from nlp_skills.deployment.parity import answer_check
from nlp_skills.deployment.parity.prompt_check import prompts
from nlp_skills.deployment.parity.records import record, verdict
from nlp_skills.errors import Invalid
from nlp_skills.evaluation import asking, subject
from nlp_skills.evaluation.answering import llamacpp, transformers
from nlp_skills.evaluation.answering.scorer import Scorer
from nlp_skills.evaluation.asking import Asking
from nlp_skills.evaluation.subject import Subject
from nlp_skills.i18n import _
from nlp_skills.schema.deployment import AnswerParity, Export, ParityCheck, PromptParity
from nlp_skills.workspace.folder import TaskFolder, VersionFolder


@dataclass(frozen=True)
class _Engine:
    """An export that can be asked, and how it renders and reads prompts."""

    scorer: Scorer
    render: Callable[[list[Message]], str]
    tokens: Callable[[str], list[int]]


def of_export(folder: TaskFolder, version: VersionFolder, export: Export, *, again: bool = False) -> ParityCheck:
    """Ask an export the prompts and the test rows, and record in parity.json what came of it.

    A check of the same bytes against the same results is not made anew, unless `again`; it is judged by today's
    `deploy.max_drop`. A check that is not passed is returned as well: see `refuse`.

    Raises:
        Invalid: the version was not evaluated as it is; the file is not the one that was exported; the engine cannot
            load it; another command is at it.
        Unavailable: the engine's extra is missing.
    """
    chosen = measured(folder, version)
    known = None if again else _known(chosen, export)
    if known is not None:
        return known
    place = folder.state / f"parity-{version.name}-{export.name}"
    with exports.alone(folder, version):
        _refuse_other_bytes(folder, export)
        if again:
            asking.forget(place)
        with _opened(chosen, export) as engine:
            alike = prompts(chosen, engine.render, engine.tokens, chosen.task.deploy.prompts)
            kept = _answers(chosen, engine, place, alike)
    check = ParityCheck(
        subject=export.name,
        engine="llama.cpp" if export.kind == "gguf" else "transformers",
        sha256=export.sha256,
        made=files.now(),
        prompts=alike,
        answers=kept,
        verdict=verdict(alike, kept),
    )
    record(version, check)
    shutil.rmtree(place, ignore_errors=True)
    return check


def _answers(chosen: Subject, engine: _Engine, place: Path, alike: PromptParity) -> AnswerParity | None:
    """None where the engine cannot even be asked, for the fault that its prompts show already."""
    try:
        given = Asking(chosen, engine.scorer, place).as_before(answer_check.evaluated(chosen).asked)
    except Invalid:
        if verdict(alike, None) == "met":
            raise
        return None
    return answer_check.answers(chosen, given, chosen.task.deploy.max_drop)


def measured(folder: TaskFolder, version: VersionFolder) -> Subject:
    """The version, once there are results that an export can be held against.

    Raises:
        Invalid: it was not evaluated as it is now.
    """
    chosen = subject.choose(folder, version.name)
    answer_check.evaluated(chosen)
    return chosen


def _known(chosen: Subject, export: Export) -> ParityCheck | None:
    """An earlier check of the same bytes, prompts and results, by today's `max_drop`."""
    same = (check for check in chosen.version.parity() if (check.subject, check.sha256) == (export.name, export.sha256))
    found = next((check for check in same if _of_the_same_question(chosen, check)), None)
    if found is None or found.answers is None:
        return found
    judged = found.answers.model_copy(update={"max_drop": chosen.task.deploy.max_drop})
    today = found.model_copy(update={"answers": judged, "verdict": verdict(found.prompts, judged)})
    if today != found:
        record(chosen.version, today)
    return today


def _of_the_same_question(chosen: Subject, check: ParityCheck) -> bool:
    """Whether a check asked as many prompts, and held answers against the results that are there."""
    asked = check.prompts.asked if check.prompts else 0
    if asked != min(chosen.task.deploy.prompts, len(chosen.test)):
        return False
    if check.made < answer_check.evaluated(chosen).created:
        return False
    kept = check.answers
    return kept is None or (kept.metric, kept.rows) == (answer_check.metric(chosen), len(chosen.test))


def _refuse_other_bytes(folder: TaskFolder, export: Export) -> None:
    for name, digest in (export.hashes or {export.path: export.sha256}).items():
        path = files.inside(folder.root, name)
        if not path.is_file() or files.sha256_file(path) != digest:
            raise Invalid(
                _("this is not the file that was exported"),
                file=path,
                mend=_("make it anew: nlp-skills export --again"),
            )


@contextlib.contextmanager
def _opened(chosen: Subject, export: Export) -> Iterator[_Engine]:
    place = files.inside(chosen.folder.root, export.path)
    engine = _llamacpp(chosen, place) if export.kind == "gguf" else _transformers(chosen, place, export)
    try:
        yield engine
    finally:
        engine.scorer.close()


def _llamacpp(chosen: Subject, place: Path) -> _Engine:
    # The file's own chat template answers: that is what others will be given.
    scorer = llamacpp.open(place, chat_template_kwargs=chosen.info.chat_template_kwargs)
    return _Engine(scorer, scorer.rendered, scorer.tokens)


def _transformers(chosen: Subject, place: Path, export: Export) -> _Engine:
    scorer = transformers.load_merged(chosen.folder, chosen.info, place, export.sha256)
    tokenizer = scorer.loaded.tokenizer
    return _Engine(
        scorer,
        lambda messages: chosen.renderer.prompt_after(tokenizer, messages),
        lambda text: tokenise(tokenizer, text),
    )
