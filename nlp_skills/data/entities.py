"""Entities of an extraction task: does each stand in the text, and where its `start` and `end` say?

Standard library only, Python 3.9, as rows.py: the hook uses it too. Offsets count characters of the
input field the entity stands in, from 0; `end` is the offset after the last.
"""

from __future__ import annotations

from nlp_skills.data.rows import brief

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from nlp_skills.schema.task import Task

    Fault = tuple[str, str]  # code and detail
    Entity = dict[str, Any]

_MOST_PLACES = 1000


def entity_field(task: Task) -> str | None:
    """The property of the answer that lists entities: an array of objects with a `text`."""
    return field_of({name: part.model_dump() for name, part in task.output_format.schema_.items()})


def field_of(output: dict[str, Any]) -> str | None:
    """As `entity_field`, from the properties' JSON Schema fragments."""
    for name, part in output.items():
        items = part.get("items") if part.get("type") == "array" else None
        if isinstance(items, dict) and "text" in (items.get("properties") or {}):
            return name
    return None


def misplaced(row: dict[str, Any], task: Task) -> list[Fault]:
    """Everything wrong with the entities of a row, as codes and details; nothing for a task without entities."""
    name = entity_field(task)
    return faults(row, name, task.input_fields) if name else []


def checker(fields: list[str], output: dict[str, Any]) -> Callable[[dict[str, Any]], list[Fault]] | None:
    """`faults` for a task's rows; None where its answers list no entities."""
    name = field_of(output)
    return None if name is None else lambda row: faults(row, name, fields)


def faults(row: dict[str, Any], name: str, fields: list[str]) -> list[Fault]:
    """Everything wrong with the entities in `name`, whose texts stand in one of the input `fields`."""
    texts = [row[field] for field in fields]
    found: list[Fault] = []
    good: list[Entity] = []
    for entity in row[name]:
        fault = _fault(entity, texts)
        if fault:
            found.append(fault)
        else:
            good.append(entity)
    return found + _repeated(good, texts)


def places(text: str, entity: str) -> list[int]:
    """The offsets at which an entity stands in a text, overlapping ones included; at most 1000."""
    found: list[int] = []
    at = text.find(entity)
    while at >= 0 and len(found) < _MOST_PLACES:
        found.append(at)
        at = text.find(entity, at + 1)
    return found


def _fault(entity: Any, texts: list[str]) -> Fault | None:
    if not isinstance(entity, dict) or not isinstance(entity.get("text"), str) or not entity["text"].strip():
        return "entity_shape", brief(entity)
    text = entity["text"]
    given = {key: entity[key] for key in ("start", "end") if entity.get(key) is not None}
    if _fits(given, text, texts):
        return None
    standing = [place for whole in texts for place in places(whole, text)]
    if not standing:
        return "entity_missing", brief(text)
    said = ", ".join(f"{key} {brief(value)}" for key, value in given.items())
    start = given.get("start")
    near = min(standing, key=lambda at: abs(at - start)) if isinstance(start, (int, float)) else standing[0]
    return "entity_offset", f"{brief(text)}: {said} → start {near}, end {near + len(text)}"


def _fits(given: dict[str, Any], text: str, texts: list[str]) -> bool:
    """Whether the text stands where `start` and `end`, as far as they are given, say; else anywhere."""
    if not given:
        return any(text in whole for whole in texts)
    if any(value.__class__ is not int for value in given.values()):
        return False
    start = given["start"] if "start" in given else given["end"] - len(text)
    right = {"start": start, "end": start + len(text)}
    fits = start >= 0 and all(right[key] == value for key, value in given.items())
    return fits and any(whole.startswith(text, start) for whole in texts)


def _repeated(entities: list[Entity], texts: list[str]) -> list[Fault]:
    """Entities of one type that overlap, and those listed more often than they stand in the text."""
    found: list[Fault] = []
    last: dict[Any, int] = {}
    listed: dict[Any, int] = {}
    for entity in sorted(entities, key=lambda one: (one.get("start") is not None, one.get("start") or 0)):
        kind, text, start = str(entity.get("type")), entity["text"], entity.get("start")
        if start is None:
            listed[kind, text] = listed.get((kind, text), 0) + 1
            if listed[kind, text] > sum(whole.count(text) for whole in texts):
                found.append(("entity_repeated", brief(text)))
            continue
        if start < last.get(kind, 0):
            found.append(("entity_repeated", f"{brief(text)}: start {start}"))
        last[kind] = max(last.get(kind, 0), start + len(text))
    return found
