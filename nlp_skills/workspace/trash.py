"""What a cleanup took away, for some days: moved by rename, brought back by rename.

`.nlp-skills/trash/TIME/` holds a batch: its manifest, and each thing at the path it had in the task. What is on
another disk stays on it, in a `.trash/` beside its kind: nothing is copied, so nothing can be half copied.

The manifest's name says where a batch stands: `moving.json` is written before the first move, `manifest.json` is a
finished batch, `restoring.json` is on its way back, `going.json` is being deleted. Whether a thing was moved is seen
from where it is. Whoever takes the task's lock next settles what a kill cut off: see `settle`.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import errno
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from nlp_skills import files
from nlp_skills.errors import Invalid, Problem, Unavailable, Usage
from nlp_skills.i18n import _
from nlp_skills.schema.document import Document, Model
from nlp_skills.schema.version import Lineage
from nlp_skills.workspace import artefacts, events, lineage, naming
from nlp_skills.workspace.folder import TaskFolder, VersionFolder

KEPT = dt.timedelta(days=7)

Kind = Literal["checkpoints", "merged", "gguf", "adapter", "version", "store"]

_ID = re.compile(r"\d{8}-\d{6}-\d{6}\Z", re.ASCII)
_BLOB = re.compile(r"\.nlp-skills/store/sha256/[0-9a-f]{2}/[0-9a-f]{64}\Z")
_STATES = ("going", "restoring", "moving", "manifest")
_HOMES: dict[Kind, tuple[str, ...]] = {
    **{kind: ("models", f"models/{kind}") for kind in artefacts.KINDS},
    "version": ("versions",),
    "store": (".nlp-skills/store",),
}


class Entry(Model):
    """One thing that was taken away: where it was, relative to the task folder, and why it went."""

    path: str
    kind: Kind
    version: str | None = None
    bytes: int
    why: str

    @model_validator(mode="after")
    def _only_what_we_move(self) -> Entry:
        """Undo moves to these paths: none may be one that a cleanup never takes."""
        folder, _slash, name = self.path.rpartition("/")
        if self.kind == "store":
            fine = _BLOB.match(self.path) is not None
        elif self.kind == "gguf":
            fine = folder == "models/gguf" and name.endswith(".gguf") and naming.is_version(self.version or "")
        else:
            place = "versions" if self.kind == "version" else f"models/{self.kind}"
            fine = folder == place and name == self.version and naming.is_version(name)
        if not fine:
            raise ValueError(_("{path} is nothing that a cleanup takes", path=repr(self.path)))
        return self


class Manifest(Document):
    """What a batch is made of, in the order in which it was moved."""

    schema_version: int = 1
    time: dt.datetime
    by: str
    entries: list[Entry] = Field(default_factory=list)
    restoring: dt.datetime | None = None

    @property
    def versions(self) -> list[str]:
        """The versions that it holds something of."""
        return list(dict.fromkeys(entry.version for entry in self.entries if entry.version))

    def why(self, version: str) -> str:
        """What went of a version, and why."""
        mine = [entry for entry in self.entries if entry.version == version]
        return f"{', '.join(entry.kind for entry in mine)}: {mine[0].why}"


@dataclass(frozen=True)
class Batch:
    """What one cleanup took; `entries` are the things that are still in the trash."""

    id: str
    time: dt.datetime
    entries: list[Entry]

    @property
    def until(self) -> dt.datetime:
        """When it may be deleted."""
        return self.time + KEPT

    @property
    def expired(self) -> bool:
        return files.now() >= self.until

    @property
    def bytes(self) -> int:
        return sum(entry.bytes for entry in self.entries)


def is_id(text: str) -> bool:
    """Whether a text is made as the names of batches are."""
    return _ID.match(text) is not None


def batches(folder: TaskFolder) -> list[Batch]:
    """What can be brought back, oldest first."""
    found = []
    for name in _ids(folder):
        manifest = _manifest(folder, name)
        here = [entry for entry in manifest.entries if _payload(folder, name, entry)] if manifest else []
        if manifest and here and _state(folder, name) != "going":
            found.append(Batch(name, manifest.time, here))
    return found


def holding(folder: TaskFolder, version: str) -> str | None:
    """The newest batch with a version's model, or with the version itself."""
    kinds = ("adapter", "merged", "version")
    found = [
        batch.id for batch in batches(folder) if any(e.version == version and e.kind in kinds for e in batch.entries)
    ]
    return found[-1] if found else None


def put(folder: TaskFolder, entries: Sequence[Entry]) -> Batch:
    """Move things to the trash, models first, then versions, then what the store kept for them.

    The caller holds the lock. Children stand before their parents among `entries`, so that no cut leaves a version
    whose parent is gone.

    Raises:
        Invalid: the trash is a link to somewhere else.
        Unavailable: the disk is full or read-only; what was moved until then is in the trash.
    """
    _refuse_a_link(folder)
    name = f"{dt.datetime.now(dt.UTC):%Y%m%d-%H%M%S-%f}"
    order = [*artefacts.KINDS, "version", "store"]
    manifest = Manifest(
        time=files.now(), by=lineage.whoami(), entries=sorted(entries, key=lambda entry: order.index(entry.kind))
    )
    manifest.save(_base(folder) / name / "moving.json")
    try:
        for entry in manifest.entries:
            _move(folder, name, entry)
    finally:
        _settle_moving(folder, name, manifest)
    return Batch(name, manifest.time, [entry for entry in manifest.entries if _payload(folder, name, entry)])


def settle(folder: TaskFolder) -> None:
    """Finish what a kill cut off: what was not yet moved stays, what was on its way back goes there.

    The caller holds the lock.
    """
    for name in _ids(folder):
        state = _state(folder, name)
        manifest = _manifest(folder, name) if state in ("moving", "restoring") else None
        # A full disk must not keep anyone from emptying the trash; the next command tries again.
        with contextlib.suppress(Unavailable):
            if manifest and state == "moving":
                _settle_moving(folder, name, manifest)
            elif manifest:
                _bring_back(folder, name, manifest)


def undo(folder: TaskFolder, name: str | None = None) -> Batch:
    """Bring a batch back, the newest one by default. The caller holds the lock.

    Raises:
        Usage: there is no such batch.
        Invalid: the trash is empty, or something came meanwhile to where things were; nothing is moved then.
        Unavailable: the disk is full or read-only; the next command goes on.
    """
    batch = _wanted(folder, name)
    problems = list(_in_the_way(folder, batch))
    if problems:
        problems[0].also = [*problems[1:]]
        raise problems[0]
    manifest = _manifest(folder, batch.id)
    assert manifest is not None
    manifest = manifest.model_copy(update={"restoring": files.now()})
    manifest.save(_base(folder) / batch.id / "restoring.json")
    _bring_back(folder, batch.id, manifest)
    return batch


def delete(folder: TaskFolder, names: Sequence[str] | None = None) -> None:
    """Delete batches for good, all by default, and finish deletions that were cut off. The caller holds the lock.

    Raises:
        Unavailable: something cannot be deleted.
    """
    for name in _ids(folder):
        if names is None or name in names or _state(folder, name) == "going" or _never_begun(folder, name):
            _delete(folder, name)


def homes(folder: TaskFolder) -> list[Path]:
    """Every folder that trash may be in."""
    others = dict.fromkeys(place for places in _HOMES.values() for place in places)
    return [_base(folder), *(folder.root / place / ".trash" for place in others)]


def version_folders(folder: TaskFolder) -> list[Path]:
    """The versions that were purged and can still be brought back."""
    found = [
        _payload(folder, batch.id, entry)
        for batch in batches(folder)
        for entry in batch.entries
        if entry.kind == "version"
    ]
    return [path for path in found if path]


def _base(folder: TaskFolder) -> Path:
    return folder.state / "trash"


def _ids(folder: TaskFolder) -> list[str]:
    base = _base(folder)
    if artefacts.beyond(folder, base) or not base.is_dir():
        return []
    return sorted(path.name for path in base.iterdir() if _ID.match(path.name) and not path.is_symlink())


def _state(folder: TaskFolder, name: str) -> str | None:
    return next((state for state in _STATES if (_base(folder) / name / f"{state}.json").is_file()), None)


def _never_begun(folder: TaskFolder, name: str) -> bool:
    """A batch whose manifest was not even written: there is nothing in it."""
    return _state(folder, name) is None and not any(path.is_dir() for path in (_base(folder) / name).iterdir())


def _manifest(folder: TaskFolder, name: str) -> Manifest | None:
    """None while there is none yet, and for one that is not ours: then nothing is done with it."""
    with contextlib.suppress(Problem):
        return Manifest.load(_base(folder) / name / f"{_state(folder, name)}.json")
    return None


def _payloads(folder: TaskFolder, name: str, entry: Entry) -> Iterator[Path]:
    for home in (_base(folder), *(folder.root / place / ".trash" for place in _HOMES[entry.kind])):
        if not artefacts.beyond(folder, home):
            yield home / name / entry.path


def _payload(folder: TaskFolder, name: str, entry: Entry) -> Path | None:
    return next((path for path in _payloads(folder, name, entry) if os.path.lexists(path)), None)


def _refuse_a_link(folder: TaskFolder) -> None:
    if artefacts.beyond(folder, _base(folder)):
        raise Invalid(
            _("the trash is not in the task folder"),
            file=_base(folder),
            cause=_("it, or a folder above it, is a link"),
            mend=_("remove the link; the folder is then made by itself"),
        )


def _move(folder: TaskFolder, name: str, entry: Entry) -> None:
    """To the first place on the same disk."""
    origin, refusal = folder.root / entry.path, OSError()
    for target in _payloads(folder, name, entry):
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            origin.rename(target)
            return
        except OSError as error:
            _remove_empty(target.parent)
            refusal = error
            if error.errno != errno.EXDEV:
                break
    raise files.storage_problem(refusal, origin) from refusal


def _remove_empty(place: Path) -> None:
    """A folder and those above it, up to the trash, as far as nothing is in them."""
    with contextlib.suppress(OSError):
        for empty in (place, *place.parents):
            empty.rmdir()
            if empty.name == ".trash":
                return


def _settle_moving(folder: TaskFolder, name: str, manifest: Manifest) -> None:
    place = _base(folder) / name
    moved = [entry for entry in manifest.entries if _payload(folder, name, entry)]
    for version in dict.fromkeys(entry.version for entry in moved if entry.version):
        record = _record(folder, name, manifest, version)
        events.once(record, "cleaned", time=manifest.time, reason=manifest.why(version))
    if moved:
        (place / "moving.json").rename(place / "manifest.json")
    else:
        _delete(folder, name)


def _record(folder: TaskFolder, name: str, manifest: Manifest, version: str) -> VersionFolder:
    """Where a version's records are now: in the task, or in this batch."""
    for entry in manifest.entries:
        if entry.kind == "version" and entry.version == version and (payload := _payload(folder, name, entry)):
            return VersionFolder(payload.parent.parent, version)
    return folder.version(version)


def _bring_back(folder: TaskFolder, name: str, manifest: Manifest) -> None:
    """Parents before their children, versions before their models; what is in the way by now stays in the trash."""
    for entry in reversed(manifest.entries):
        origin, payload = folder.root / entry.path, _payload(folder, name, entry)
        if payload and not os.path.lexists(origin) and not artefacts.beyond(folder, origin.parent):
            try:
                origin.parent.mkdir(parents=True, exist_ok=True)
                payload.rename(origin)
            except OSError as error:
                raise files.storage_problem(error, origin) from error
    for version in map(folder.version, manifest.versions):
        if version.root.is_dir():
            time = manifest.restoring or files.now()
            events.once(version, "restored", time=time, reason=manifest.why(version.name))
    left = [entry for entry in manifest.entries if entry.kind != "store" and _payload(folder, name, entry)]
    if not left:
        _delete(folder, name)
        return
    place = _base(folder) / name
    manifest.model_copy(update={"restoring": None, "entries": left}).save(place / "manifest.json")
    (place / "restoring.json").unlink()


def _wanted(folder: TaskFolder, name: str | None) -> Batch:
    found = batches(folder)
    known = [batch.id for batch in found]
    if not found and (broken := _without_a_list(folder)):
        raise Invalid(
            _("the list of what is in there cannot be read"),
            file=broken,
            mend=_("move things back by hand: each is at the path it had in the task"),
        )
    if not found:
        raise Invalid(
            _("there is nothing in the trash"),
            file=_base(folder),
            mend=_("what was cleaned longer ago can be made anew: nlp-skills reproduce"),
        )
    if name is not None and name not in known:
        raise Usage(
            _("there is no {name} in the trash", name=name), mend=_("choose one of: {known}", known=", ".join(known))
        )
    return found[-1] if name is None else found[known.index(name)]


def _without_a_list(folder: TaskFolder) -> Path | None:
    """A batch that holds something and whose manifest is not ours, if there is one."""
    for name in _ids(folder):
        place = _base(folder) / name
        if _manifest(folder, name) is None and any(path.is_dir() for path in place.iterdir()):
            return place
    return None


def _in_the_way(folder: TaskFolder, batch: Batch) -> Iterator[Invalid]:
    returning = {str(entry.version) for entry in batch.entries if entry.kind == "version"}
    there = {*folder.version_names(), *returning}
    for entry in batch.entries:
        origin = folder.root / entry.path
        # A blob is named by its bytes: one that is there again is the same.
        if entry.kind != "store" and os.path.lexists(origin):
            mend = _("move it away first, then undo again")
            yield Invalid(_("something else is there by now; it is not overwritten"), file=origin, mend=mend)
        elif artefacts.beyond(folder, origin.parent):
            yield Invalid(_("this now leads out of the task folder"), file=origin.parent, mend=_("remove the link"))
        elif entry.version and entry.kind != "version" and entry.version not in there:
            yield _missing(folder, batch, entry.version, origin)
        elif entry.kind == "version" and (parent := _parent(folder, batch, entry)) and parent not in there:
            yield _missing(folder, batch, parent, origin)


def _missing(folder: TaskFolder, batch: Batch, version: str, origin: Path) -> Invalid:
    other = holding(folder, version)
    mend = None
    if other and other != batch.id:
        mend = _("bring that back first: nlp-skills cleanup {task} --undo {id}", task=folder.root.name, id=other)
    return Invalid(_("version {name}, which it needs, is not there", name=version), file=origin, mend=mend)


def _parent(folder: TaskFolder, batch: Batch, entry: Entry) -> str | None:
    payload = _payload(folder, batch.id, entry)
    with contextlib.suppress(Problem):
        return Lineage.load(payload / "lineage.yaml").parent if payload else None
    return None


def _delete(folder: TaskFolder, name: str) -> None:
    """The batch is marked first: of what is half deleted nothing is brought back."""
    place = _base(folder) / name
    try:
        state = _state(folder, name)
        if state not in ("going", None):
            (place / f"{state}.json").rename(place / "going.json")
        for home in homes(folder):
            if home != _base(folder) and not artefacts.beyond(folder, home / name) and (home / name).is_dir():
                shutil.rmtree(home / name)
                _remove_empty(home)
        for path in place.iterdir():
            if path.name != "going.json":
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        (place / "going.json").unlink(missing_ok=True)
        place.rmdir()
    except OSError as error:
        raise files.storage_problem(error, place) from error
