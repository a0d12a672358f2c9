"""What was exported of a version: exports.json, and the lineage's word of it."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nlp_skills import files
from nlp_skills.errors import Invalid, Unavailable
from nlp_skills.evaluation import model
from nlp_skills.i18n import _
from nlp_skills.schema.deployment import Export, Exports
from nlp_skills.schema.version import LineageModel, ModelInfo
from nlp_skills.workspace import lifecycle, lineage, lock, runs
from nlp_skills.workspace.folder import TaskFolder, VersionFolder

# What a finished export waits for the task's lock.
_PATIENCE = 600.0


def current(folder: TaskFolder, version: VersionFolder, name: str) -> Export | None:
    """An export by its name (`merged`, `q8_0`): None unless it is there, whole, and of the model as it is now.

    Raises:
        Invalid: exports.json is not ours, or the version has no model.
    """
    known = next((export for export in version.exports() if export.name == name), None)
    if known is None or not _whole(folder, known):
        return None
    return known if model.fingerprint(folder.root, model.info(version)) == known.source else None


def _whole(folder: TaskFolder, export: Export) -> bool:
    """Whether the bytes are those that were made; what was not touched since is not read again."""
    place = files.inside(folder.root, export.path)
    wanted = export.hashes or {export.path: export.sha256}
    paths = {name: files.inside(folder.root, name) for name in wanted}
    if not place.exists() or not all(path.is_file() for path in paths.values()):
        return False
    if sum(path.stat().st_size for path in paths.values()) != export.bytes:
        return False
    made = export.made.timestamp() + 1
    return all(path.stat().st_mtime <= made or files.sha256_file(path) == wanted[name] for name, path in paths.items())


def exportable(folder: TaskFolder, version: VersionFolder) -> ModelInfo:
    """The version's model_info.json, once there is a model that nobody is changing.

    Raises:
        Invalid: the task is archived, the version was not trained, its weights are gone, or it is being trained.
    """
    lifecycle.refuse_archived(folder, folder.task())
    status = version.status()
    if status is not None and runs.alive(status):
        raise runs.busy(version, status)
    return model.info(version)


@contextlib.contextmanager
def alone(folder: TaskFolder, version: VersionFolder) -> Iterator[None]:
    """Within the block nobody else exports this version.

    Raises:
        Invalid: another process does.
    """
    from filelock import FileLock, Timeout

    held = FileLock(folder.state / f"export-{version.name}.lock")
    try:
        folder.state.mkdir(parents=True, exist_ok=True)
        held.acquire(timeout=0)
    except Timeout as error:
        raise Invalid(
            _("another command is exporting version {version}", version=version.name),
            mend=_("wait until it ends, then run this command again: it will find what was made"),
        ) from error
    except OSError as error:
        raise files.storage_problem(error, folder.state) from error
    try:
        yield
    finally:
        held.release()


@contextlib.contextmanager
def beside(target: Path) -> Iterator[Path]:
    """A folder beside an export's place to make it in; what a killed process left there goes first."""
    prefix = f".{target.name}."
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        for left in target.parent.glob(f"{prefix}*"):
            shutil.rmtree(left, ignore_errors=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=prefix) as temporary:
            yield Path(temporary)
    except OSError as error:
        raise files.storage_problem(error, target) from error


def refuse_full_disk(where: Path, needed: int) -> None:
    """Refuse to begin what will not end.

    Raises:
        Unavailable: less than `needed` bytes are free in the folder, or in the nearest one above that is there.
    """
    there = next(path for path in (where, *where.parents) if path.is_dir())
    free = shutil.disk_usage(there).free
    if free < needed:
        raise Unavailable(
            _("not enough disk space for the export"),
            file=where,
            cause=_("{free} MB free, {needed} MB needed", free=free // 10**6, needed=needed // 10**6 + 1),
            mend=_("free some space (nlp-skills cleanup --dry-run says what could go), then run the command again"),
        )


def put(folder: TaskFolder, version: VersionFolder, export: Export, made: Path | None) -> Export:
    """Move what was made to its place, whole, and record it. `made`: left out where it is there already.

    Raises:
        Invalid: the model was replaced meanwhile; nothing is moved then.
        Unavailable: the disk is full or a folder cannot be written.
    """
    target = files.inside(folder.root, export.path)
    with lock.writing(folder, wait_seconds=_PATIENCE):
        if model.fingerprint(folder.root, model.info(version)) != export.source:
            raise Invalid(
                _("version {version} changed while it was being exported", version=version.name),
                file=version.root,
                mend=_("run the command again"),
            )
        if made is not None:
            _install(made, target)
        kept = [known for known in version.exports() if known.name != export.name]
        Exports(version=version.name, exports=[*kept, export]).save(version.exports_path)
        lineage.record(version, model=_section(version, export))
    return export


def _install(made: Path, target: Path) -> None:
    try:
        if target.is_dir():
            with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as aside:
                target.rename(Path(aside) / "old")
                made.rename(target)
        else:
            made.replace(target)
    except OSError as error:
        raise files.storage_problem(error, target) from error


def _section(version: VersionFolder, export: Export) -> Any:
    """The lineage's `model:` with this export in it, in place of an earlier one of the same path."""
    known = lineage.ensure(version).model or LineageModel()
    within = f"{export.path}/"
    kept = {path: digest for path, digest in known.exports.items() if path != export.path}
    kept = {path: digest for path, digest in kept.items() if not path.startswith(within)}
    # The hashes of a model whose every weight was trained are there as the version's own.
    hashes = export.hashes or {export.path: export.sha256}
    fresh = {path: digest for path, digest in hashes.items() if path not in known.hashes}
    named = {"gguf_path": export.path} if export.kind == "gguf" else {"merged_path": export.path}
    return known.model_copy(update={**named, "exports": {**kept, **fresh}})


def of_folder(hashes: dict[str, str]) -> str:
    """One hash for a folder: of the sorted list of its files' hashes."""
    return files.sha256_bytes("".join(f"{name} {hashes[name]}\n" for name in sorted(hashes)).encode())
