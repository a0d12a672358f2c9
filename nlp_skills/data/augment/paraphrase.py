"""The same in other words, by a language model; every answer is recorded and every answer is checked."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple

from nlp_skills.data import entities, llm_answers, near
from nlp_skills.data import rows as lines
from nlp_skills.data.augment.entity_swap import begins
from nlp_skills.data.augment.rooms import Original, Resembling, Row, Work
from nlp_skills.data.llm import Answer, Model
from nlp_skills.data.sources.recording import Recording
from nlp_skills.schema.data_source import Paraphrase
from nlp_skills.schema.task import PLACEHOLDER, Task

# What a preview asks for: each question costs.
PREVIEWED = 3
_TEMPLATE = """\
Say what follows in other words, in the same language and with the same meaning and tone. It must call for \
exactly the same answer as before, which is: {answer}
{keep}Answer with a JSON object that has {fields}; nothing else.
This is version {number}: make it differ from what you would write first.

{input}"""


class _Question(NamedTuple):
    original: Original
    row: Row
    number: int


def rows(settings: Paraphrase, work: Work) -> Iterator[Row]:
    """`per_row` paraphrases of each original of the wanted classes; those that fail a check are counted and left out.

    Answers are kept in data/raw/recorded/_augmentation.jsonl, so that making the rows again asks nothing.
    """
    model = Model.of(settings, work.folder)
    # No source can be called so: a name begins with a letter or a digit.
    path = work.folder.raw / "recorded" / "_augmentation.jsonl"
    recording = Recording(path, read_only=work.fetching.preview)
    fields = work.task.input_fields
    texts = [near.normalised(row, fields) for _entry, row in work.originals.read(work.originals.entries)]
    alike = Resembling(texts, work.config.dedup.near)
    spent: Counter[str] = Counter()
    cost: float | None = 0.0
    for question, answer in _asked(settings, work, model, recording):
        spent.update(asked=1, replayed=answer.replayed, input_tokens=answer.input_tokens,
                     output_tokens=answer.output_tokens)  # fmt: skip
        cost = None if cost is None or answer.cost is None else cost + answer.cost
        # Kept up as it goes, so that whoever stops early reads true figures.
        work.record.update({"model": model.shown, **spent, "cost": cost})
        made, fault = _rewritten(question, answer, work.task)
        if made is not None and alike.has(near.normalised(made, fields)):
            made, fault = None, "near_original"
        if made is None:
            work.refused[fault] += 1
        elif work.new(made):
            work.count(made)
            yield work.marked(made, question.original, "paraphrase", question.number)


def placeholders(task: Task) -> list[str]:
    """What a prompt_template may name: the input fields, the answer, the entities, the version's number."""
    return list(dict.fromkeys([*task.input_fields, "answer", "entities", "number"]))


def unknown_placeholder(settings: Paraphrase, task: Task) -> str | None:
    """A name in the prompt_template that stands for nothing."""
    named = PLACEHOLDER.findall(settings.prompt_template or "")
    return next((name for name in named if name not in placeholders(task)), None)


def wanted(settings: Paraphrase, originals: Sequence[Original]) -> list[Original]:
    """The originals with one of the wanted classes."""
    return [entry for entry in originals if not settings.labels or set(entry.labels) & set(settings.labels)]


def _asked(settings: Paraphrase, work: Work, model: Model, recording: Recording) -> Iterator[tuple[_Question, Answer]]:
    """Questions with their answers, in the questions' order whoever answers first."""
    from concurrent.futures import ThreadPoolExecutor

    schema = _schema(work.task)

    def ask(question: _Question) -> Answer:
        messages = [{"role": "user", "content": prompt(settings, question.row, question.number, work.task)}]
        seed = None if settings.seed is None else settings.seed + question.number - 1
        return model.ask(messages, schema=schema, seed=seed, recording=recording)

    entries = wanted(settings, work.originals.entries)
    count, total = 0, len(entries) * settings.per_row
    if work.fetching.preview:
        entries = entries[:PREVIEWED]
    questions: Iterator[_Question] = (
        _Question(entry, row, number)
        for entry, row in work.originals.read(entries)
        for number in range(1, settings.per_row + 1)
    )
    if work.fetching.preview:
        questions = islice(questions, PREVIEWED)
    with ThreadPoolExecutor(settings.concurrency) as pool:
        while some := list(islice(questions, settings.concurrency * 4)):
            yield from zip(some, pool.map(ask, some), strict=True)
            count += len(some)
            work.fetching.note(f"paraphrase {count}/{total}")


def _schema(task: Task) -> dict[str, Any]:
    fields = {name: {"type": "string"} for name in task.input_fields}
    return {"type": "object", "properties": fields, "required": list(fields), "additionalProperties": False}


def prompt(settings: Paraphrase, row: Row, number: int, task: Task) -> str:
    """What the model is asked about one row."""
    kept = _surfaces(row, task)
    listed = ", ".join(json.dumps(text, ensure_ascii=False) for text in kept)
    answer = {name: row[name] for name in task.output_fields}
    whole = {name: str(row[name]) for name in task.input_fields}
    values = {
        **whole,
        "answer": json.dumps(answer, ensure_ascii=False),
        "entities": listed,
        "number": str(number),
    }
    if settings.prompt_template is not None:
        return PLACEHOLDER.sub(lambda match: values[match[1]], settings.prompt_template)
    values |= {
        "keep": f"Keep these exactly as they are written: {listed}\n" if kept else "",
        "fields": ", ".join(json.dumps(name, ensure_ascii=False) for name in whole),
        "input": json.dumps(whole, ensure_ascii=False, indent=1),
    }
    return PLACEHOLDER.sub(lambda match: values[match[1]], _TEMPLATE)


def _surfaces(row: Row, task: Task) -> list[str]:
    name = entities.entity_field(task)
    return list(dict.fromkeys(item["text"] for item in row[name])) if name else []


def _rewritten(question: _Question, answer: Answer, task: Task) -> tuple[Row | None, str]:
    """The row in the model's words, or None and why not: `prose`, `cut_off`, `empty`, `refusal`, `same`, …"""
    found = llm_answers.found(answer.text, answer.finish)
    said = found.rows[0] if len(found.rows) == 1 and isinstance(found.rows[0], dict) else None
    if said is None:
        return None, found.fault or "prose"
    texts = {name: said.get(name) for name in task.input_fields}
    if not all(isinstance(text, str) and text.strip() for text in texts.values()):
        return None, "empty"
    made = {**question.row, **{name: str(text).strip() for name, text in texts.items()}}
    if near.row_key(made, task.input_fields) == question.original.key:
        return None, "same"
    if len(lines.dump(made)) > lines.MAX_LINE_BYTES:
        return None, "too_long"
    return _with_entities(made, question.row, task)


def _with_entities(made: Row, row: Row, task: Task) -> tuple[Row | None, str]:
    """The row with its entities where they stand now; all of them must still be there."""
    name = entities.entity_field(task)
    if name is None:
        return made, ""
    if any(code != "entity_repeated" for code, _detail in entities.faults(row, name, task.input_fields)):
        return None, "misplaced"
    before, after = ([str(one[field]) for field in task.input_fields] for one in (row, made))
    found = []
    for item in row[name]:
        old = [(n, at) for n, text in enumerate(before) for at in entities.places(text, item["text"])]
        new = [(n, at) for n, text in enumerate(after) for at in entities.places(text, item["text"])]
        if len(new) < len(old):
            return None, "entity_lost"
        found.append(_moved(item, old, new))
    return {**made, name: found}, ""


def _moved(item: dict[str, Any], old: list[tuple[int, int]], new: list[tuple[int, int]]) -> dict[str, Any]:
    """The same occurrence, counted from the beginning, at its new place."""
    begin = begins(item)
    if begin is None:
        return dict(item)
    nth = next(nth for nth, (_field, at) in enumerate(old) if at == begin)
    at = new[nth][1]
    moved = {"start": at, "end": at + len(item["text"])}
    return {**item, **{key: value for key, value in moved.items() if key in item}}
