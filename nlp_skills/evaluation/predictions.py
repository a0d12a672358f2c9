"""predictions.jsonl: a version's answer to every test row, one JSON object a line.

`key` names the row, alike in every version; `gold` and `predicted` have the form of the task's kind: a label, a sorted
list of labels, the answer's properties (spans, fields), or a text; `predicted` is null where an answer could not be
read. Beside them: `correct`, `raw`, `cut` (it came to the limit before it came to its end), `bent` (the schema made it
other than it would have been), `probability`, `probabilities`, `valid_answer_probability`, `prompt_sha256`,
`latency_seconds`, `input` and each baseline's answer in `baselines`, as far as they are known; of some rows
`unconstrained`, what is said without the schema's help.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nlp_skills.errors import Invalid
from nlp_skills.i18n import _
from nlp_skills.schema.kinds import Kind

Row = Mapping[str, Any]

_FORMS: dict[Kind, tuple[type, ...]] = {
    "label": (str,),
    "labels": (list,),
    "spans": (dict,),
    "fields": (dict,),
    "text": (str,),
}


def load(path: Path, kind: Kind | None = None) -> list[dict[str, Any]]:
    """The rows of predictions.jsonl, each with at least `key`, `gold` and `predicted`.

    Raises:
        Invalid: the file is missing, or a line of it is not such a row, or not of `kind`.
    """
    try:
        lines = path.read_bytes().split(b"\n")
    except FileNotFoundError as error:
        mend = _("make the predictions: nlp-skills evaluate")
        raise Invalid(_("there are no predictions yet"), file=path, mend=mend) from error
    return [_row(line, path, number, kind) for number, line in enumerate(lines, 1) if line.strip()]


def gold_key(row: Row) -> str:
    """The right answer as one text: two rows have the same one when these are equal."""
    gold = row["gold"]
    return gold if isinstance(gold, str) else json.dumps(gold, ensure_ascii=False, sort_keys=True)


def column(rows: Sequence[Row], name: str) -> list[Any]:
    """One key of every row; None where it is not there."""
    return [row.get(name) for row in rows]


def _row(line: bytes, path: Path, number: int, kind: Kind | None) -> dict[str, Any]:
    cause = _("a prediction has the keys key, gold and predicted")
    try:
        row = json.loads(line)
    except UnicodeDecodeError as error:
        row, cause = None, str(error)
    except json.JSONDecodeError as error:
        row, cause = None, error.msg
    if not _is_one(row, kind):
        mend = _("make the predictions anew: nlp-skills evaluate --again")
        raise Invalid(_("not a prediction"), file=path, line=number, cause=cause, mend=mend)
    found: dict[str, Any] = row
    return found


def _is_one(row: Any, kind: Kind | None) -> bool:
    forms = _FORMS[kind] if kind else (str, list, dict)
    return (
        isinstance(row, dict)
        and isinstance(row.get("key"), str)
        and isinstance(row.get("gold"), forms)
        and "predicted" in row
        and isinstance(row["predicted"], (*forms, type(None)))
    )
