"""The files that run a gateway elsewhere: an image for containers, or a unit for systemd. Nothing is served here.

A person may change them: what was changed stays, and what we would write now stands beside it as NAME.new.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from nlp_skills import files
from nlp_skills.deployment.serving.emit import images, units
from nlp_skills.deployment.serving.settings import Settings
from nlp_skills.errors import Usage
from nlp_skills.i18n import _
from nlp_skills.scaffold.ledger import Ledger, State
from nlp_skills.workspace import lock
from nlp_skills.workspace.folder import TaskFolder

Kind = Literal["docker", "systemd"]
KINDS: tuple[Kind, ...] = ("docker", "systemd")


@dataclass(frozen=True)
class Emitted:
    """What became of each file, by its name in `place`; `versions` are those that can be asked there."""

    place: Path
    versions: tuple[str, ...]
    files: dict[str, State]

    @property
    def kept(self) -> list[str]:
        """Files that a person changed, whose new text stands in NAME.new."""
        return [name for name, state in self.files.items() if state == "kept"]


def emit(folder: TaskFolder, settings: Settings, kind: Kind, out: Path | None = None) -> Emitted:
    """Write the files into `out`, by default deploy/KIND in the task folder; settings are those of the gateway there.

    Raises:
        Usage: `out` is not a folder inside the task folder, or a setting cannot be had there.
        Invalid: a version that cannot be asked, or whose files cannot be taken there; a path that cannot be named.
        Unavailable: a file cannot be written, or this nlp-skills cannot be packed.
    """
    if not settings.port:
        raise Usage(_("what is to run elsewhere needs a port that is known"), mend=_("name one: --port N"))
    place = files.inside(folder.root, out.absolute() if out is not None else f"deploy/{kind}")
    if place == folder.root or place.is_file():
        raise Usage(_("these files need a folder of their own"), file=place, mend=_("name another: --out DIR"))
    within = place.relative_to(folder.root).as_posix()
    versions, wanted = (images if kind == "docker" else units).wanted(folder, settings, within)
    with lock.writing(folder):
        ledger = Ledger(folder.root)
        try:
            states = {name: ledger.put(f"{within}/{name}", content) for name, content in wanted.items()}
            states |= _without_old_wheels(ledger, within, wanted)
        finally:
            # What was written before an interruption is known to be ours the next time.
            ledger.save()
    return Emitted(place, tuple(versions), states)


def _without_old_wheels(ledger: Ledger, within: str, wanted: dict[str, bytes]) -> dict[str, State]:
    ours = [name.removeprefix(f"{within}/") for name in ledger.hashes if name.startswith(f"{within}/")]
    old = [name for name in ours if name.endswith(".whl") and name not in wanted]
    return {name: "removed" for name in old if ledger.remove(f"{within}/{name}")}
