"""What would go up and where, without asking anybody: the files with their sizes, and the card."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from nlp_skills import extras
from nlp_skills.deployment import gate
from nlp_skills.deployment.going import Going
from nlp_skills.deployment.huggingface import card, cleaning, contents, names
from nlp_skills.deployment.huggingface.cleaning import Cleaner
from nlp_skills.deployment.huggingface.contents import Forms, Piece
from nlp_skills.deployment.huggingface.hub import size
from nlp_skills.deployment.huggingface.names import Place
from nlp_skills.i18n import _
from nlp_skills.schema.task import Quantization


@dataclass(frozen=True)
class Plan:
    """A version as it goes up. `missing` are forms that were asked for and are made only when it goes."""

    place: Place
    private: bool
    pieces: list[Piece]
    missing: list[str] = field(default_factory=list)

    @property
    def card(self) -> str:
        """The model card."""
        return next(piece.text or "" for piece in self.pieces if piece.name == contents.CARD)

    @property
    def total(self) -> int:
        """Bytes of all files."""
        return sum(piece.size for piece in self.pieces)

    def lines(self) -> list[str]:
        """The files, one a line, with their sum and where they would go."""
        where = _("private") if self.private else _("public")
        told = {"name": self.place.name, "where": where, "count": len(self.pieces), "size": size(self.total)}
        width = max(len(piece.name) for piece in self.pieces)
        listed = [f"  {piece.name:{width}}  {size(piece.size):>10}" for piece in self.pieces]
        later = _("made when it is sent")
        unmade = [f"  {name:{width}}  {later}" for name in self.missing]
        return [_("would go to {name} ({where}); files: {count}, {size}", **told), *listed, *unmade]

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "repo": self.place.repo,
            "tag": self.place.tag,
            "private": self.private,
            "files": [{"path": piece.name, "bytes": piece.size} for piece in self.pieces],
            "bytes": self.total,
            "not_made_yet": self.missing,
            "card": self.card,
        }


def plan(
    going: Going,
    *,
    repo: str | None = None,
    public: bool = False,
    merged: bool = False,
    gguf: Sequence[Quantization] = (),
    retag: bool = False,
) -> Plan:
    """What `deploy` with the same options would send; nothing is made, sent or asked for.

    Raises:
        Invalid: the Hub knows no such name, or a file would tell what is nobody's business.
        Unavailable: the extra is missing.
    """
    del retag  # of no matter to what goes up
    extras.need("hub", "huggingface_hub")
    place = names.of(going.task, going.version.name, repo)
    forms = contents.there(going, merged=merged, gguf=gguf)
    return of(going, place, forms, private=is_private(going, public=public))


def is_private(going: Going, *, public: bool) -> bool:
    """Whether only the account is to see it."""
    return going.task.deploy.private and not public


def of(going: Going, place: Place, forms: Forms, *, private: bool, token: str | None = None) -> Plan:
    """Everything that goes to a place, looked through for what may not.

    Raises:
        Invalid: a file would tell a secret, or of this machine.
    """
    standing = gate.check(going.folder, going.version.name)
    pieces = contents.collect(going, forms, standing)
    clean = Cleaner.of(going.folder, going.info)
    written = card.text(card.Told(going, standing, place, forms, clean))
    pieces.append(Piece(contents.CARD, written.encode()))
    pieces.append(contents.manifest(going, pieces))
    for piece in pieces:
        if piece.text is not None:
            cleaning.refuse_leak(clean, piece.name, piece.text, token)
    return Plan(place, private, sorted(pieces, key=lambda piece: piece.name), forms.missing)
