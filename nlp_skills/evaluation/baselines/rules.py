"""A person's rules, measured like any other baseline.

    rules:
      - {when: '(?i)\\brefund\\b', answer: negative}
      - {when: {contains: [great, lovely]}, field: text, answer: positive}
    default: neutral

The first rule that holds decides; where a row may have several labels, all that hold do.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from nlp_skills import files
from nlp_skills.data.rows import label_key
from nlp_skills.errors import Invalid, Unavailable
from nlp_skills.evaluation.baselines import rule_matching
from nlp_skills.i18n import _
from nlp_skills.schema import yaml
from nlp_skills.schema.kinds import Kind
from nlp_skills.schema.task import SuccessCriteria

# Of a field so much is looked at, and so long a rule may take for all rows together, of the processor's time.
MOST_CHARACTERS = 20_000
SECONDS = 10
_PATIENCE = 30


@dataclass(frozen=True)
class Rule:
    """One rule: a regular expression or texts of which one must stand in `field` (None: in any), and its line."""

    pattern: str | None
    contains: tuple[str, ...]
    field: str | None
    answer: str
    line: int | None


@dataclass(frozen=True)
class Rules:
    """A rule file that was read; `default` are the labels of a row that no rule holds for."""

    path: Path
    rules: tuple[Rule, ...]
    default: tuple[str, ...]

    def answers(self, rows: Sequence[Mapping[str, Any]], fields: Sequence[str], kind: Kind) -> list[Any]:
        """What the rules say of every row: a label, or a sorted list of them.

        Raises:
            Invalid: a regular expression runs for longer than `SECONDS` over these rows.
        """
        texts = {name: [str(row.get(name, ""))[:MOST_CHARACTERS] for row in rows] for name in fields}
        holding = self._holding(texts)
        if kind == "label":
            return [self.rules[held[0]].answer if held else self.default[0] for held in holding]
        return [sorted({self.rules[one].answer for one in held} or set(self.default)) for held in holding]

    def _holding(self, texts: Mapping[str, list[str]]) -> list[list[int]]:
        """The rules that hold for each row. In a process of its own: nothing else stops an expression that runs."""
        asked = {
            "seconds": SECONDS,
            "texts": texts,
            "rules": [[rule.pattern, list(rule.contains), rule.field] for rule in self.rules],
        }
        program = [sys.executable, "-I", str(Path(rule_matching.__file__))]
        try:
            ran = subprocess.run(
                program, input=json.dumps(asked).encode(), capture_output=True, timeout=SECONDS * _PATIENCE, check=False
            )
            said, wrong = ran.stdout, ran.stderr
        except subprocess.TimeoutExpired as error:
            said, wrong = error.stdout or b"", b""
        lines = [json.loads(line) for line in said.splitlines(keepends=True) if line.endswith(b"\n")]
        if lines and "held" in lines[-1]:
            held: list[list[int]] = lines[-1]["held"]
            return held
        if not lines:
            raise Unavailable(
                _("the rules could not be matched"), file=self.path, cause=wrong.decode(errors="replace")[-200:]
            )
        raise self._runs_away(self.rules[lines[-1]["rule"]])

    def _runs_away(self, rule: Rule) -> Invalid:
        return Invalid(
            _("a rule takes too long"),
            file=self.path,
            line=rule.line,
            cause=_("the regular expression ran for {seconds} s and came to no end", seconds=SECONDS),
            mend=_("write it without a repetition inside a repetition, such as (a+)+"),
        )


def rule_file(criteria: SuccessCriteria) -> str | None:
    """The path of the rule file that `success_criteria.baseline` names; None where that is a figure or a name."""
    named = criteria.baseline
    return named if isinstance(named, str) and named.strip().lower().endswith((".yaml", ".yml")) else None


def read(root: Path, named: str, labels: Sequence[str], fields: Sequence[str], kind: Kind) -> Rules:
    """The rule file at `named` in the task folder; its answers are `labels`, its fields those the prompt shows.

    Raises:
        Invalid: the file is missing, or a rule in it is none.
        Usage: the path leaves the task folder.
    """
    path = files.inside(root, named.strip())
    if not path.is_file():
        raise Invalid(
            _("the rule file is missing"),
            file=path,
            cause=_("success_criteria.baseline in task.yaml names it"),
            mend=_("write it, or set success_criteria.baseline to the figure it reaches"),
        )
    return _Reading(path, yaml.read(path), labels, fields, kind).whole()


@dataclass(frozen=True)
class _Reading:
    path: Path
    content: yaml.Read
    labels: Sequence[str]
    fields: Sequence[str]
    kind: Kind

    def whole(self) -> Rules:
        data = self.content.data
        if not isinstance(data, dict) or not isinstance(data.get("rules"), list) or not data["rules"]:
            raise self._refuse((), _("a rule file has a list of rules and a default"), _FORM)
        self._known((), data, ("rules", "default"))
        if "default" not in data:
            raise self._refuse(
                (), _("the rules have no default"), _("add what to answer where no rule holds: default: …")
            )
        rules = tuple(self._rule(place, rule) for place, rule in enumerate(data["rules"]))
        return Rules(self.path, rules, self._default(data["default"]))

    def _default(self, value: Any) -> tuple[str, ...]:
        if self.kind == "labels" and isinstance(value, list):
            return tuple(self._label(("default", at), label) for at, label in enumerate(value))
        return (self._label(("default",), value),)

    def _rule(self, place: int, rule: Any) -> Rule:
        at: tuple[Any, ...] = ("rules", place)
        if not isinstance(rule, dict) or not {"when", "answer"} <= set(rule):
            raise self._refuse(at, _("a rule has when and answer"), _FORM)
        self._known(at, rule, ("when", "field", "answer"))
        field = rule.get("field")
        if field is not None and field not in self.fields:
            raise self._refuse(
                (*at, "field"),
                _("{name} is no field that the prompt shows", name=repr(field)),
                _("it shows: {names}", names=", ".join(self.fields)),
            )
        pattern, contains = self._when((*at, "when"), rule["when"])
        return Rule(pattern, contains, field, self._label((*at, "answer"), rule["answer"]), self._line(at))

    def _when(self, at: tuple[Any, ...], when: Any) -> tuple[str | None, tuple[str, ...]]:
        if isinstance(when, str) and when:
            try:
                re.compile(when)
            except (re.error, OverflowError, RecursionError) as error:
                mend = _("in YAML a regular expression stands in single quotes, a backslash in it is one backslash")
                raise self._refuse(at, _("not a regular expression"), mend, str(error)) from error
            return when, ()
        if isinstance(when, dict) and list(when) == ["contains"]:
            texts = when["contains"] if isinstance(when["contains"], list) else [when["contains"]]
            if texts and all(isinstance(text, str) and text for text in texts):
                return None, tuple(texts)
        raise self._refuse(at, _("when is a regular expression, or contains: a list of texts"), _FORM)

    def _label(self, at: tuple[Any, ...], value: Any) -> str:
        if not isinstance(value, list | dict) and label_key(value) in self.labels:
            return label_key(value)
        near = get_close_matches(str(value), self.labels, n=1)
        listed = _("the task's labels are: {labels}", labels=", ".join(self.labels))
        mend = _("did you mean {name}?", name=near[0]) if near else listed
        raise self._refuse(at, _("{label} is no label of the task", label=repr(value)[:80]), mend)

    def _known(self, at: tuple[Any, ...], mapping: Mapping[Any, Any], names: Sequence[str]) -> None:
        for key in mapping:
            if key not in names:
                mend = _("it may have: {names}", names=", ".join(names))
                raise self._refuse((*at, key), _("a rule file has no key {key}", key=repr(key)[:80]), mend)

    def _line(self, at: tuple[Any, ...]) -> int | None:
        while at and at not in self.content.lines:
            at = at[:-1]
        return self.content.lines.get(at)

    def _refuse(self, at: tuple[Any, ...], message: str, mend: str, cause: str | None = None) -> Invalid:
        return Invalid(message, file=self.path, line=self._line(at), cause=cause, mend=mend)


_FORM = "rules: [{when: 'regex', answer: LABEL}, {when: {contains: [TEXT]}, answer: LABEL}]; default: LABEL"
