"""What an analysis says, in the language in force."""

from __future__ import annotations

from nlp_skills.data import languages
from nlp_skills.evaluation import shown
from nlp_skills.evaluation.why.findings import Confusion, Fault, Mark, Slice, Small
from nlp_skills.evaluation.why.slices import CLASS, LENGTH, SCRIPT
from nlp_skills.i18n import _

_NAME_LENGTH = 40


def fault(one: Confusion) -> str:
    """What is wrong about an answer."""
    known: dict[Fault, str] = {
        "confused": _("taken for another"),
        "missed": _("missed"),
        "spurious": _("given where there is none"),
        "boundary": _("ends elsewhere"),
        "type": _("of another type"),
        "boundary_and_type": _("ends elsewhere, of another type"),
        "field": _("wrong value"),
        "different": _("another text"),
        "unread": _("could not be read"),
    }
    return known[one.fault] if one.field is None else f"{shown.cut(one.field, _NAME_LENGTH)}: {known[one.fault]}"


def mark(name: Mark) -> str:
    """Why an error is worth a look."""
    known: dict[Mark, str] = {
        "confident": _("sure and wrong"),
        "near_miss": _("the right answer came second"),
        "doubtful_label": _("the label itself looks wrong"),
        "contradicted": _("a training row like it has another answer"),
    }
    return known[name]


def part(one: Slice | Small) -> str:
    """A slice: its column and the value its rows have in it."""
    columns = {LENGTH: _("length"), SCRIPT: _("script"), CLASS: _("class")}
    name = languages.words(one.name) if one.column == SCRIPT else shown.cut(one.name, _NAME_LENGTH)
    return f"{columns.get(one.column, shown.cut(one.column, _NAME_LENGTH))}: {name}"
