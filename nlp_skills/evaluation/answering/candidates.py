"""All the answers there are, where they can be listed: each is then asked for its likelihood, and none need be said."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from nlp_skills.data.render import Renderer
from nlp_skills.data.rows import label_key

Row = Mapping[str, Any]

# Of more answers than these, what is asked for all of them costs more than saying one.
MOST = 128


@dataclass(frozen=True)
class Candidate:
    """An answer as a model would say it, and the labels in it."""

    text: str
    labels: tuple[str, ...]


def alone(renderer: Renderer) -> list[Candidate] | None:
    """Each label as an answer; None where an answer is more than one label."""
    output = renderer.output_format
    if len(output.schema_) > 1 or output.multi_label or not output.labels:
        return None
    name = str(output.label_field)
    return [Candidate(renderer.answer({name: label}), (label_key(label),)) for label in output.labels]


def lists(renderer: Renderer, rows: Iterable[Row]) -> list[Candidate] | None:
    """The lists of labels that `rows` have, as they spell them, each label alone, and none at all where that may be.

    A label's probability is what the lists that have it have together, of what all have. That is sound as long as the
    model says little else, which `Answer.valid` tells. None where an answer is more than its labels, or there are too
    many lists.
    """
    output = renderer.output_format
    if len(output.schema_) > 1 or not output.multi_label:
        return None
    name = str(output.label_field)
    least = (output.schema_[name].model_extra or {}).get("minItems", 0)
    values = [*([[]] if not least else []), *([label] for label in output.labels)]
    found = {renderer.answer({name: value}): tuple(map(label_key, value)) for value in values}
    for row in rows:
        found[renderer.answer(row)] = tuple(dict.fromkeys(map(label_key, row[name])))
        if len(found) > MOST:
            return None
    return [Candidate(text, labels) for text, labels in found.items()]
