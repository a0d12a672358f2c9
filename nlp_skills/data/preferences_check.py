"""What is wrong with the files of data/preferences/, before anything learns from them."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nlp_skills.data import near
from nlp_skills.data import preferences as form
from nlp_skills.data import rows as lines
from nlp_skills.data.faults import fault_words
from nlp_skills.data.findings import Finding
from nlp_skills.data.render import Message, Renderer
from nlp_skills.errors import Invalid
from nlp_skills.i18n import _
from nlp_skills.schema.task import PLACEHOLDER, Task
from nlp_skills.schema.training import Method
from nlp_skills.workspace.folder import TaskFolder

_SHOWN = 5
_WARNINGS = ("duplicate", "off_format", "off_template", "one_sided")
# An answer that is this often rejected, and so many times as often as chosen, is learnt away from whatever is asked.
_OFTEN, _SIDED = 10, 4
Fault = tuple[str, str]  # code and detail


def check(folder: TaskFolder, task: Task, method: Method | None = None) -> list[Finding]:
    """Look at every row; with a method, also whether there is something for it to learn from.

    Without one, pairs and single answers are both taken, and no files are nothing to complain of.
    """
    here = {split: path for split in form.SPLITS if (path := folder.preferences(split)).is_file()}
    if method and "train" not in here:
        return [_missing(folder, method)]
    looks = {split: _Look(path, task, method) for split, path in here.items()}
    for look in looks.values():
        look.read()
    if looks:
        tested = _tested(folder, task)
        for split, look in looks.items():
            look.between(tested, looks["train"].asked if split == "valid" and "train" in looks else {})
        if method and "train" in looks:
            looks["train"].enough()
    return [finding for look in looks.values() for finding in look.findings()]


@dataclass
class _Seen:
    """The answers to one prompt so far, and the line each was first given on."""

    good: dict[str, int] = field(default_factory=dict)
    bad: dict[str, int] = field(default_factory=dict)


@dataclass
class _Look:
    """One file: what is found is counted per kind, with the first few places of each."""

    path: Path
    task: Task
    method: Method | None
    seen: Counter[str] = field(default_factory=Counter)
    places: dict[str, list[tuple[int, str]]] = field(default_factory=dict)
    asked: dict[bytes, int] = field(default_factory=dict)
    answers: dict[bytes, _Seen] = field(default_factory=dict)
    whole: set[bytes] = field(default_factory=set)
    given: dict[str, list[int]] = field(default_factory=dict)
    rows: int = 0
    good: int = 0
    bad: int = 0

    def __post_init__(self) -> None:
        self.renderer = Renderer(self.task.input_template, self.task.output_format)
        self.fixed = [part for part in PLACEHOLDER.split(self.task.input_template.rstrip("\n"))[::2] if part]

    def read(self) -> None:
        """Every line by itself, and against those before it."""
        with open(self.path, "rb") as stream:
            for number, line in enumerate(stream, 1):
                if line.strip():
                    self.rows += 1
                    self._line(number, line)

    def between(self, tested: Mapping[bytes, int], train: Mapping[bytes, int]) -> None:
        """Prompts that a test row has, or that are trained on as well."""
        for key, line in self.asked.items():
            if key in tested:
                self._note("leak", line, f"data/test.jsonl:{tested[key]}")
            if key in train:
                self._note("overlap", line, f"data/preferences/train.jsonl:{train[key]}")

    def enough(self) -> None:
        """Whether there is something to learn from, and more than one answer to learn away from."""
        faulty = self.seen.keys() - {*_WARNINGS}
        for answer, counts in self.given.items():
            if max(counts) >= _OFTEN and max(counts) > _SIDED * min(counts):
                told = _("{answer}: chosen {chosen}, rejected {rejected}",
                         answer=lines.shown(answer), chosen=counts[0], rejected=counts[1])  # fmt: skip
                self._note("one_sided", 0, told)
        if not self.rows:
            self._note("no_rows", 0, "")
        elif self.method == "kto" and not faulty and not (self.good and self.bad):
            self._note("one_kind", 0, "true" if self.good else "false")

    def findings(self) -> Iterator[Finding]:
        """What was found, in words."""
        for code, count in self.seen.items():
            places = self.places[code]
            line = places[0][0] or None
            shown = ", ".join(_shown(line, detail) for line, detail in places)
            message, mend = self._words(code)
            yield Finding(
                "warning" if code in _WARNINGS else "error",
                code,
                message,
                file=str(self.path),
                line=line,
                lines=tuple(line for line, _detail in places) if line else None,
                count=count,
                cause=_("rows: {count}; lines: {lines}", count=count, lines=shown) if line else shown or None,
                mend=mend,
            )

    def _line(self, number: int, line: bytes) -> None:
        row: Any = None
        try:
            row = lines.parse(line)
            faults = list(_faults(row, self.method))
        except (ValueError, RecursionError) as error:
            faults = [lines.parse_fault(error)]
        for code, detail in faults:
            self._note(code, number, detail)
        if not faults:
            self._good(form.of(number, row))

    def _good(self, row: form.Pair | form.Judged) -> None:
        """A row that can be read: its prompt and its answers beside the others'."""
        text = form.question(row.prompt)
        if not self._fits(text):
            self._note("off_template", row.line, lines.shown(text))
        self.asked.setdefault(_key(text), row.line)
        if isinstance(row, form.Pair) and self._same(row.chosen) == self._same(row.rejected):
            self._note("same_answers", row.line, lines.shown(row.chosen))
            return
        whole = _exactly({**vars(row), "line": 0})
        if whole in self.whole:
            self._note("duplicate", row.line, "")
        self.whole.add(whole)
        seen = self.answers.setdefault(_exactly(row.prompt), _Seen())
        for answer in form.judged([row]):
            self._answer(answer, seen)

    def _answer(self, row: form.Judged, seen: _Seen) -> None:
        said = self._same(row.answer)
        mine, other = (seen.good, seen.bad) if row.good else (seen.bad, seen.good)
        if said in other:
            self._note("contradiction", row.line, _("as in line {line}", line=other[said]))
        mine.setdefault(said, row.line)
        self.good += row.good
        self.bad += not row.good
        allowed = self.renderer.parse(row.answer) is not None
        if allowed and self.task.labels:
            self.given.setdefault(said, [0, 0])[not row.good] += 1
        if row.good and not allowed:
            self._note("off_format", row.line, lines.shown(row.answer))

    def _same(self, answer: str) -> str:
        """An answer in the one spelling that all answers of its meaning share."""
        parsed = self.renderer.parse(answer)
        return answer.strip() if parsed is None else lines.canonical(parsed).decode()

    def _fits(self, text: str) -> bool:
        """Whether the fixed parts of input_template stand in a prompt, in their order."""
        at = 0
        for part in self.fixed:
            found = text.find(part, at)
            if found < 0:
                return False
            at = found + len(part)
        return True

    def _note(self, code: str, line: int, detail: str) -> None:
        self.seen[code] += 1
        places = self.places.setdefault(code, [])
        if len(places) < _SHOWN:
            places.append((line, detail))

    def _words(self, code: str) -> tuple[str, str | None]:
        if code in ("bad_json", "bad_utf8", "nan", "not_object"):
            return fault_words(code), _("correct the line, or make the file anew: nlp-skills data preferences")
        return _sentences(code, self.method, self.task)


def _shown(line: int, detail: str) -> str:
    if not line:
        return detail
    return f"{line} ({detail})" if detail else str(line)


def _faults(row: Any, method: Method | None) -> Iterator[Fault]:
    """What is wrong with one row by itself."""
    if not isinstance(row, dict):
        yield "not_object", lines.brief(row)
        return
    judged = form.is_judged(row)
    if judged and method not in (None, "kto"):
        yield "judged", ""
        return
    columns = form.JUDGED if judged else form.PAIR
    missing = [name for name in columns if name not in row]
    for name in missing:
        near_by = difflib.get_close_matches(name, [key for key in row if key not in columns], n=1)
        told = _("did you mean {name}?", name=lines.shown_name(name)) if near_by else ""
        yield "missing_column", f"{name}: {lines.shown_name(near_by[0])} – {told}" if near_by else name
    if missing:
        return
    yield from _prompt_faults(row["prompt"])
    for name in columns[1:]:
        yield from _answer_faults(name, row[name])


def _prompt_faults(prompt: Any) -> Iterator[Fault]:
    if isinstance(prompt, list):
        if not prompt or not all(_is_message(message) for message in prompt):
            yield "bad_messages", lines.brief(prompt)
        elif prompt[-1]["role"] != "user" or any(message["role"] == "system" for message in prompt[1:]):
            yield "bad_messages", ", ".join(message["role"] for message in prompt[-3:])
    else:
        yield from _answer_faults("prompt", prompt)


def _is_message(message: Any) -> bool:
    return (
        isinstance(message, dict)
        and message.get("role") in form.ROLES
        and isinstance(message.get("content"), str)
        and bool(message["content"].strip())
    )


def _answer_faults(name: str, value: Any) -> Iterator[Fault]:
    wanted: type = bool if name == "label" else str
    if not isinstance(value, wanted):
        yield "wrong_type", f"{name} = {lines.brief(value)}"
    elif isinstance(value, str) and not value.strip():
        yield "empty_text", name


def _key(text: str) -> bytes:
    """Texts that differ in case or spacing only share it."""
    return near.text_key(near.normalised({"": text}, [""]))


def _exactly(value: Any) -> bytes:
    return near.text_key(lines.canonical(value).decode())


def _tested(folder: TaskFolder, task: Task) -> dict[bytes, int]:
    """What the test rows ask, and the line of each; rows that cannot be read are named by the check of the splits."""
    renderer, found = Renderer(task.input_template, task.output_format), dict[bytes, int]()
    if not folder.split("test").is_file():
        return found
    with open(folder.split("test"), "rb") as stream:
        for number, line in enumerate(stream, 1):
            try:
                messages: list[Message] = renderer.messages(lines.parse(line))
            except (ValueError, RecursionError, TypeError, Invalid):
                continue
            found.setdefault(_key(messages[-1]["content"]), number)
    return found


def _missing(folder: TaskFolder, method: Method) -> Finding:
    return Finding(
        "error",
        "missing_file",
        _("there are no preferences for {method} to learn from", method=method),
        file=str(folder.preferences("train")),
        mend=_("make them of a version's own mistakes: nlp-skills data preferences"),
    )


def _sentences(code: str, method: Method | None, task: Task) -> tuple[str, str | None]:
    """Message and mend of a finding."""
    anew = _("make them of a version's own mistakes: nlp-skills data preferences")
    pairs, singles = ("{prompt, chosen, rejected}", "{prompt, completion, label}")
    wanted = pairs if method in ("dpo", "orpo") else _("{pairs} or {singles}", pairs=pairs, singles=singles)
    return {
        "missing_column": (_("a column is missing"), _("a row is {form}", form=wanted)),
        "judged": (
            _("{method} learns from pairs of answers, and this is a single one", method=str(method)),
            _("write {form}, or set method: kto", form=pairs),
        ),
        "wrong_type": (
            _("a value of the wrong type"),
            _("answers are text, label is true or false, prompt is text or a list of messages"),
        ),
        "empty_text": (_("a text is empty"), _("write the text, or remove the row")),
        "bad_messages": (
            _("the prompt is no conversation that a user ends"),
            _("messages are {{role, content}}; the roles are system (first only), user and assistant"),
        ),
        "same_answers": (_("chosen and rejected are the same answer"), _("remove the row, or correct one of them")),
        "contradiction": (
            _("an answer is preferred for a prompt and rejected for the same one"),
            _("decide which is right, and remove the other row"),
        ),
        "duplicate": (_("the row repeats an earlier one"), _("remove the second; it would count twice")),
        "off_format": (
            _("answers to be learnt are not what output_format allows"),
            _("write them as the model should give them, such as: {answer}", answer=_example(task)),
        ),
        "off_template": (
            _("prompts are not as input_template renders them: the model would be asked otherwise than it learns"),
            _("write the whole user's turn, beginning with: {start}", start=lines.shown(_beginning(task))),
        ),
        "leak": (_("the prompt is one of data/test.jsonl"), _("remove the rows; what is tested must not be learnt")),
        "overlap": (
            _("the prompt is trained on as well, so valid would say nothing"),
            _("remove the rows from one of the two files"),
        ),
        "one_sided": (
            _("an answer is nearly always chosen, or nearly always rejected: that is learnt, whatever is asked"),
            _("add pairs of rows that are answered rightly: nlp-skills data preferences --margin 1"),
        ),
        "no_rows": (_("the file is empty"), anew),
        "one_kind": (
            _("all answers are judged alike; KTO learns from the difference"),
            _("add answers of the other kind, or write pairs"),
        ),
    }[code]


def _example(task: Task) -> str:
    output, values = task.output_format, dict[str, Any]()
    for name, part in output.schema_.items():
        choice = (part.choices or ["…"])[0]
        values[name] = [choice] if part.type == "array" else choice
    return lines.cut(Renderer(task.input_template, output).answer(values))


def _beginning(task: Task) -> str:
    return PLACEHOLDER.split(task.input_template)[0] or task.input_template
