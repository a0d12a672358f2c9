"""The codes of the row checker, which knows no language, in the user's."""

from __future__ import annotations

from nlp_skills.i18n import _


def fault_words(code: str) -> str:
    """What a code of `rows.check` means, in words."""
    words = {
        "bad_json": _("not valid JSON"),
        "bad_utf8": _("not UTF-8 text"),
        "bom": _("a byte order mark before the row"),
        "not_object": _("the line is not a JSON object"),
        "nan": _("NaN and infinity are not JSON"),
        "missing_field": _("a field is missing"),
        "wrong_type": _("a value of the wrong type"),
        "empty_text": _("a text is empty"),
        "unknown_label": _("a label the task does not know"),
        "repeated_label": _("a label stands twice in the list"),
        "too_short": _("a text is shorter than checks.min_chars"),
        "too_long": _("a text is longer than checks.max_chars"),
        "off_schema": _("the answer does not meet output_format.schema"),
        "entity_shape": _("an entity without a text"),
        "entity_missing": _("an entity that does not stand in the text"),
        "entity_offset": _("start and end of an entity do not enclose its text"),
        "entity_repeated": _("an entity is listed more than once"),
        "too_long_line": _("the line is too long"),
        "duplicate": _("the line repeats an earlier one"),
    }
    return words[code]
