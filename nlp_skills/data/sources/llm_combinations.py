"""What a model is asked for: each template with each variation, and the words of one request."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from nlp_skills import files
from nlp_skills.data import review
from nlp_skills.data import rows as lines
from nlp_skills.data.row_form import Row, RowForm
from nlp_skills.data.sources.settings import line_of, unexpanded
from nlp_skills.errors import Invalid
from nlp_skills.i18n import _
from nlp_skills.schema.source import LlmGenerated
from nlp_skills.schema.task import PLACEHOLDER, Task
from nlp_skills.workspace.folder import TaskFolder


@dataclass
class Combination:
    """One template with one variation, and what came of it so far."""

    number: int
    title: str
    template: str
    variation: dict[str, Any]
    form: RowForm
    entries: list[review.Entry] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)
    requests: int = 0
    barren: int = 0
    given_up: bool = False

    @property
    def rows(self) -> list[Row]:
        """The rows so far."""
        return [entry.row for entry in self.entries]

    @property
    def prompt_hash(self) -> str:
        """`sha256:…` of the prompt, whatever the size of a batch."""
        return files.sha256_bytes(self.prompt().encode("utf-8"))

    def prompt(self, **more: Any) -> str:
        """The template with the variation in it; keys it does not use are told below it. Other braces stay."""
        values = {**self.variation, **more}
        text = PLACEHOLDER.sub(lambda match: str(values.get(match[1], match[0])), self.template).strip()
        used = PLACEHOLDER.findall(self.template)
        return "\n".join([text, *(f"{key}: {value}" for key, value in self.variation.items() if key not in used)])


@dataclass(frozen=True)
class Question:
    """A combination's next request."""

    of: Combination
    rows: int
    messages: list[dict[str, str]]
    seed: int | None


def combinations(source: LlmGenerated, settings: LlmGenerated, task: Task, folder: TaskFolder) -> Iterator[Combination]:
    """Each template with each variation.

    Raises:
        Invalid: a template uses a key that a variation does not have, or the source has a mapping.
    """
    if source.mapping:
        raise Invalid(
            _("source {name} needs no mapping: rows are written under the task's own names", name=str(source.name)),
            file=folder.sources_path,
            line=line_of(source, folder, "mapping"),
            mend=_("remove mapping:"),
        )
    templates, written = settings.prompt_templates, unexpanded(source).get("variations") or [{}]
    for index, template in enumerate(templates):
        for place, variation in enumerate(settings.variations or [{}]):
            _check_keys(template, variation, source, folder)
            _check_labels(variation, task, source, folder)
            number = index * len(written) + place + 1
            yield Combination(
                number, _title(source, index, written[place]), template, variation, RowForm(task, variation)
            )


def _title(source: LlmGenerated, template: int, variation: Mapping[str, Any]) -> str:
    """What a combination is called in messages and records: `#2 sentiment=negative`."""
    parts = [f"#{template + 1}"] if len(source.prompt_templates) > 1 else []
    parts += [f"{lines.shown_name(key)}={lines.cut(str(value), 40)}" for key, value in variation.items()]
    return " ".join(parts) or str(source.name)


def _check_keys(template: str, variation: Mapping[str, Any], source: LlmGenerated, folder: TaskFolder) -> None:
    known = {"count", *variation}
    missing = next((key for key in PLACEHOLDER.findall(template) if key not in known), None)
    if "count" in variation or missing is not None:
        words = _("prompt_template uses {{{key}}}, which a variation does not have", key=missing)
        if missing is None:
            words = _("a variation cannot be called count: that is the number of rows asked for")
        raise Invalid(
            words,
            file=folder.sources_path,
            line=line_of(source, folder, "prompt_template" if missing else "variations"),
            cause=_("its keys: {keys}", keys=", ".join(map(str, variation))) if variation else _("there is none"),
            mend=_("write the key in every variation, or take the braces away"),
        )


def _check_labels(variation: Mapping[str, Any], task: Task, source: LlmGenerated, folder: TaskFolder) -> None:
    """A key with the name of a field says what every row must have there, so it must be something it may have."""
    for name, value in variation.items():
        part = task.output_format.schema_.get(name)
        if part is not None and part.enum and value not in part.enum:
            raise Invalid(
                _("a variation asks for {name}: {value}, which the task does not know", name=name, value=repr(value)),
                file=folder.sources_path,
                line=line_of(source, folder, "variations"),
                cause=_("labels of the task: {labels}", labels=", ".join(map(str, part.enum))),
                mend=_("use one of them, or add it to task.yaml"),
            )


def told(prompt: str, count: int, form: RowForm, shown: list[Row]) -> str:
    """What the model is told: the prompt, the form of the answer, and what to differ from."""
    words = [
        prompt,
        f'Answer with one JSON object and nothing else: {{"rows": [ … ]}} with exactly {count} rows. A row has',
        *(f"- {json.dumps(name, ensure_ascii=False)}: {_said(part)}" for name, part in form.properties.items()),
        "No row may repeat another one.",
    ]
    if shown:
        words += [
            "These were written before. Write others, with other content, wording and sentence structure:",
            *(json.dumps(row, ensure_ascii=False) for row in shown),
        ]
    return "\n".join(words)


def _said(part: Mapping[str, Any]) -> str:
    if part.get("enum"):
        return " | ".join(json.dumps(value, ensure_ascii=False) for value in part["enum"])
    return json.dumps({name: value for name, value in part.items() if name != "minLength"}, ensure_ascii=False)


def examples(combination: Combination, count: int) -> list[Row]:
    """Earlier rows to differ from: others every time, but always the same ones for the same rows."""

    def place(row: Row) -> bytes:
        return hashlib.blake2b(lines.canonical(row), key=str(combination.requests).encode(), digest_size=8).digest()

    return sorted(combination.rows, key=place)[:count]
