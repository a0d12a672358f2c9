"""Chat templates for base models that have none: ours by name, or a file of the task."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nlp_skills import files
from nlp_skills.errors import Invalid
from nlp_skills.i18n import _

_FOLDER = Path(__file__).parent
# What a template writes and the tokenizer must know as one token each.
_TOKENS = {"plain": (), "chatml": ("<|im_start|>", "<|im_end|>")}


def text(name: str, root: Path) -> str:
    """The text of one of our templates, or of a .jinja file in the task folder `root`.

    Raises:
        Invalid: there is no such template.
        Usage: the path leaves the task folder.
    """
    if name in _TOKENS:
        return (_FOLDER / f"{name}.jinja").read_text(encoding="utf-8")
    path = files.inside(root, name)
    if path.suffix != ".jinja" or not path.is_file():
        raise Invalid(
            _("there is no chat template {name}", name=name[:200]),
            cause=_("it is neither a .jinja file of the task nor one of: {names}", names=", ".join(_TOKENS)),
            mend=_("set chat_template: plain in config.yaml, or name a .jinja file inside the task folder"),
        )
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise Invalid(_("not UTF-8 text"), file=path, cause=str(error)) from error


def refuse_unfit(name: str, tokenizer: Any) -> None:
    """Refuse a template whose turn marks the tokenizer would cut into pieces.

    Raises:
        Invalid: the tokenizer does not have them.
    """
    known = tokenizer.get_vocab()
    missing = [token for token in _TOKENS.get(name, ()) if token not in known]
    if missing:
        raise Invalid(
            _("chat_template {name} is not for this base model", name=name),
            cause=_("its tokenizer has no token {token}", token=missing[0]),
            mend=_("set chat_template: plain, which ends an answer with the base model's own end token"),
        )
