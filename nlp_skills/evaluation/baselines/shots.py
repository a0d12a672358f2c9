"""Which training rows are shown before the question, as earlier turns of the conversation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nlp_skills.data import snapshot
from nlp_skills.data.render import Message, Renderer, tokenise
from nlp_skills.evaluation import forms
from nlp_skills.schema.kinds import Kind

if TYPE_CHECKING:
    from nlp_skills.evaluation.answering.scorer import Scorer

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Shown(Renderer):
    """The version's own way to ask, after `earlier` turns of question and right answer."""

    earlier: tuple[Message, ...] = ()

    def messages(self, row: Row) -> list[Message]:
        """The system message, the earlier turns, then the row's question."""
        *system, question = super().messages(row)
        return [*system, *self.earlier, question]


def shown(plain: Renderer, rows: Sequence[Row]) -> Shown:
    """A renderer that shows `rows` with their right answers first."""
    turns: list[Message] = []
    for row in rows:
        turns += [plain.messages(row)[-1], {"role": "assistant", "content": plain.answer(row)}]
    return Shown(plain.input_template, plain.output_format, plain.system_prompt, plain.chat_template_kwargs, (*turns,))


def pick(kind: Kind, plain: Renderer, fields: Sequence[str], train: Sequence[Row], count: int) -> list[Row]:
    """So many training rows, the same ones whatever order train is in: every class in turn, as far as they go.

    Classes are labels, or types of entities; of rows that are as good the hash of their text decides.
    """
    ordered = sorted(train, key=lambda row: (snapshot.row_key(dict(row), list(fields)), plain.answer(row)))
    left = [(row, _classes(kind, plain, row)) for row in ordered]
    chosen: list[Row] = []
    seen: Counter[str] = Counter()
    while left and len(chosen) < count:
        # What has no class at all, such as a sentence without entities, comes after what has.
        place = min(range(len(left)), key=lambda at: min((seen[name] for name in left[at][1]), default=count))
        row, classes = left.pop(place)
        chosen.append(row)
        seen.update(classes)
    return chosen


def fitting(scorer: Scorer, plain: Renderer, rows: Sequence[Row], shots: Sequence[Row], new: int) -> Sequence[Row]:
    """As many of the `shots`, from the first, as the model reads before the longest of `rows` and `new` tokens after.

    All of them where the backend does not say how much it reads.
    """
    loaded = getattr(scorer, "loaded", None)
    most = _most(loaded)
    if loaded is None or most is None or not rows:
        return shots

    def needed(row: Row, before: Sequence[Row]) -> int:
        prompt = plain.prompt_after(loaded.tokenizer, shown(plain, before).messages(row))
        return len(tokenise(loaded.tokenizer, prompt))

    longest = max(rows, key=lambda row: needed(row, []))
    for count in range(len(shots), 0, -1):
        if needed(longest, shots[:count]) + new <= most:
            return shots[:count]
    return []


def _most(loaded: Any) -> int | None:
    """How many tokens the model reads."""
    limit = getattr(loaded.model.config.get_text_config(), "max_position_embeddings", None) if loaded else None
    return int(limit) if limit else None


def _classes(kind: Kind, plain: Renderer, row: Row) -> list[str]:
    answer = forms.of(kind, plain.output_format, row)
    if kind in ("label", "labels"):
        return [answer] if isinstance(answer, str) else list(answer)
    if kind != "spans":
        return []
    return [
        str(one.get("type", ""))
        for part in answer.values()
        if isinstance(part, list)
        for one in part
        if isinstance(one, dict)
    ]
