"""Ask a version on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nlp_skills.cli import frame
from nlp_skills.i18n import N_, _

if TYPE_CHECKING:
    from nlp_skills.deployment.asker import Prediction
    from nlp_skills.deployment.predicting import Predictor
    from nlp_skills.evaluation.subject import Subject
    from nlp_skills.workspace.folder import TaskFolder


@frame.command(
    "predict",
    help=N_(
        "Ask a version a text, a row or a file of rows, on this machine and without a server. TEXT is for a prompt "
        "with one field; - reads standard input, a text a line, or a JSON object a line where there are more fields."
    ),
    examples=[
        'nlp-skills predict reviews "The battery died after a week."',
        "nlp-skills predict tickets --field subject=Invoice --field body='Where is it?'",
        "nlp-skills predict reviews --file new.csv --out answers.jsonl",
        "cat new.txt | nlp-skills predict reviews - --version v1",
        'nlp-skills predict reviews "Superb." --engine llama.cpp --json',
    ],
)
@click.argument("folder", metavar="TASK", callback=frame.resolve_task)
@click.argument("text", metavar="[TEXT]", required=False)
@frame.option("--field", "fields", metavar="NAME=TEXT", multiple=True, help=N_("A field of the prompt; once for each."))
@frame.option("--file", "source", metavar="FILE", type=click.Path(path_type=Path), help=N_("Rows as .jsonl or .csv."))
@frame.option(
    "--out",
    "target",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help=N_("Where the answers to a file go, a JSON object a line; those that are there are not asked again."),
)
@frame.option("--again", is_flag=True, help=N_("With --out: ask all rows anew."))
@frame.option(
    "--engine",
    "--backend",
    "engine",
    type=click.Choice(["transformers", "llama.cpp"]),
    default="transformers",
    help=N_("What answers: the version as it was trained, or its GGUF file."),
)
@frame.version_option
@frame.json_option
def predict(
    folder: TaskFolder,
    text: str | None,
    fields: tuple[str, ...],
    source: Path | None,
    target: Path | None,
    again: bool,
    engine: str,
    version_name: str | None,
    as_json: bool,
) -> None:
    from nlp_skills.deployment import predicting
    from nlp_skills.evaluation import subject

    _refuse_mixed(text, fields, source, target, again)
    chosen = subject.asked(folder, version_name)
    if source is not None and target is not None:
        _file(chosen, source, target, engine, again=again, as_json=as_json)
        return
    asked: Any = predicting.row_of(chosen, fields) if fields else text
    if asked == "-":
        with predicting.opened(chosen, engine) as predictor:
            _lines(predictor, as_json=as_json)
        return
    row = {predicting.single_field(chosen): asked} if isinstance(asked, str) else asked
    predicting.refuse(chosen, row)
    with predicting.opened(chosen, engine) as predictor:
        said = predictor.predict(row)
    if as_json:
        frame.emit({"ok": said.answer is not None, "version": chosen.version.name, **said.as_json()})
    else:
        _show(said)


def _refuse_mixed(
    text: str | None, fields: tuple[str, ...], source: Path | None, target: Path | None, again: bool
) -> None:
    given = sum((text is not None, bool(fields), source is not None))
    if given != 1:
        raise click.UsageError(_("give one of these: TEXT, --field, --file"))
    if (source is None) != (target is None):
        raise click.UsageError(_("--file and --out belong together"))
    if again and target is None:
        raise click.UsageError(_("--again is for --out"))


def _file(chosen: Subject, source: Path, target: Path, engine: str, *, again: bool, as_json: bool) -> None:
    from nlp_skills.deployment import file_predictions

    try:
        done = file_predictions.predict(chosen, source, target, engine, again=again)
    except KeyboardInterrupt:
        frame.note(_("the answers so far are kept; the same command without --again goes on"))
        raise
    if as_json:
        frame.emit({"ok": True, "version": chosen.version.name, "path": str(target), **vars(done)})
        return
    frame.say(_("{path}: rows {rows}, asked now {asked}", path=frame.shown(target), rows=done.rows, asked=done.asked))
    if done.unread:
        frame.warn([_("answers that could not be read: {count}", count=done.unread)])


def _lines(predictor: Predictor, *, as_json: bool) -> None:
    """Answer standard input line by line, each as soon as it is there."""
    import sys

    from nlp_skills.deployment import predicting

    predictions = []
    for said in predicting.of_lines(predictor, sys.stdin.buffer):
        if as_json:
            predictions.append(said.as_json())
        else:
            frame.say("\t".join([_answer(said), _share(said.probability)]).rstrip())
    if as_json:
        read = all(one["answer"] is not None for one in predictions)
        frame.emit({"ok": read, "version": predictor.version, "predictions": predictions})


def _show(said: Prediction) -> None:
    from nlp_skills.evaluation import words

    if said.answer is None:
        frame.warn([_("what the model said is no answer: {text}", text=words.plain(said.raw or ""))])
        return
    if said.probabilities is None:
        frame.say(_answer(said))
        if said.probability is not None:
            frame.say(_("probability: {share}", share=_share(said.probability)))
        return
    frame.say(_answer(said))
    likeliest = sorted(said.probabilities.items(), key=lambda one: -one[1])
    frame.table(
        [_("Label"), _("Probability")], [[words.plain(name), _share(one)] for name, one in likeliest], right=[1]
    )


def _answer(said: Prediction) -> str:
    """The value where there is one only, else the properties as JSON; in one line, as a terminal may show it."""
    import json

    from nlp_skills.evaluation import words

    if said.answer is None:
        return "?"
    values = [*said.answer.values()]
    alone = values[0] if len(values) == 1 else said.answer
    return words.plain(alone if isinstance(alone, str) else json.dumps(alone, ensure_ascii=False))


def _share(probability: float | None) -> str:
    return "" if probability is None else f"{probability:.4f}"
