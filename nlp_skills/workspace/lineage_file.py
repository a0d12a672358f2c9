"""lineage.yaml as it is found: read as far as possible, and put right from what the version's own files say.

What stands in the file is never thrown away: before it is written anew, it is kept beside as `lineage.yaml.bak-TIME`.
"""

from __future__ import annotations

import contextlib
import copy
import datetime as dt
import getpass
import os
import platform
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from nlp_skills import files
from nlp_skills.errors import Invalid, Problem, Unavailable
from nlp_skills.i18n import _
from nlp_skills.schema import yaml
from nlp_skills.schema.task import Task
from nlp_skills.schema.version import LINEAGE_SCHEMA, Lineage, LineageEvent
from nlp_skills.workspace import salvage, sections
from nlp_skills.workspace.folder import VersionFolder

_PERSONS = ("changes", "notes", "parent")
_KNOWN = tuple(Lineage.model_fields)


@dataclass(frozen=True)
class Repaired:
    """`backup` is the earlier file's new name, `rebuilt` the sections taken from disk, `dropped` what made no sense."""

    backup: str
    rebuilt: list[str]
    dropped: list[str]


@dataclass
class _Look:
    """A file as it was found. `data` is what can be read of it; `parsed` what a strict reader gets, if anything."""

    text: str = ""
    data: dict[str, Any] = field(default_factory=dict)
    parsed: dict[str, Any] | None = None
    lineage: Lineage | None = None
    dropped: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    newer: bool = False


def read(version: VersionFolder) -> tuple[Lineage | None, list[Problem]]:
    """The lineage as far as it can be read, and what is wrong with the file; (None, []) where there is none.

    Nothing is written, and nothing raised: who only looks at versions can look at all of them.
    """
    if not os.path.lexists(version.lineage_path):
        return None, []
    try:
        look = _look(version)
    except OSError as error:
        problem = Unavailable(_("the system refused"), file=version.lineage_path, cause=error.strerror or str(error))
        return None, [problem]
    return look.lineage, look.problems


def put_right(version: VersionFolder) -> Repaired | None:
    """Repair a lineage that cannot be read, and bring one of the first form to the present one; None if all is well.

    Raises:
        Invalid: a newer nlp-skills wrote it.
        Unavailable: the folder cannot be written.
    """
    if not version.lineage_path.exists():
        return None
    look = _look(version)
    if look.newer or look.problems:
        return _repair(version, look)
    if look.lineage and look.lineage.schema_version < LINEAGE_SCHEMA:
        backup = _set_aside(version)
        files.write_text(version.lineage_path, _rewritten(version, look, _first_form(look)))
        return Repaired(backup, [], [])
    return None


def repair(version: VersionFolder) -> Repaired:
    """Write the lineage anew, from what can be read of it and from the version's own files; the earlier file is kept.

    What a person wrote (changes, notes, parent, keys of their own) stays as it is, and so do comments where the file
    parses.

    Raises:
        Invalid: a newer nlp-skills wrote it.
        Unavailable: the folder cannot be written.
    """
    return _repair(version, _look(version))


def whoami() -> str:
    """user@host of whoever runs this."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = str(os.getuid())  # a container may run as a number without a name
    return f"{user}@{platform.node() or 'localhost'}"


def behind(
    version: VersionFolder, written: Mapping[str, Any], told: Mapping[str, dict[str, Any]]
) -> dict[str, dict[str, Any]]:
    """The sections that should read differently, given what the files tell; not those that contradict them."""
    against = contradictions(version, written, told)
    found = {}
    for name, truth in told.items():
        if name == "run" and "config" in against:
            truth = {key: value for key, value in truth.items() if key != "config_hash"}
        merged = _merged(name, _dict(written.get(name)), truth)
        if name not in against and merged != written.get(name):
            found[name] = merged
    run = _dict(written.get("run"))
    if run and "run" not in told and "config" in told and "config" not in against and "config_hash" not in run:
        found["run"] = {**run, "config_hash": sections.config_hash(version.config_path)}
    return found


def contradictions(
    version: VersionFolder, written: Mapping[str, Any], told: Mapping[str, dict[str, Any]]
) -> dict[str, str]:
    """The sections whose files are not those that were recorded, by the file's name.

    The record is then the only trace of what was there, so nothing may bring it into line with the files.
    """
    found = {}
    data, results, run = (_dict(written.get(name)) for name in ("data", "results", "run"))
    if _clash(_dict(data.get("hashes")), told.get("data", {}).get("hashes", {})):
        found["data"] = version.snapshot_path.name
    here = told.get("results", {}).get("hashes", {}).get(version.results_path.name)
    if here and _dict(results.get("hashes")).get(version.results_path.name, here) != here:
        found["results"] = version.results_path.name
    if "config" in told and _another_config(version, _dict(written.get("config")), run, told["config"]):
        found["config"] = version.config_path.name
    return found


def _another_config(
    version: VersionFolder, recorded: Mapping[str, Any], run: Mapping[str, Any], told: Mapping[str, Any]
) -> bool:
    if "config_hash" in run:
        return bool(run["config_hash"] != sections.config_hash(version.config_path))
    # Without a hash, the record of a training says at least which settings it had.
    return bool(run) and _clash(recorded, told)


def _clash(recorded: Any, told: Any) -> bool:
    """Whether something stands in both and is not the same; what only one of them has says nothing."""
    if isinstance(recorded, dict) and isinstance(told, dict):
        return any(key in told and _clash(value, told[key]) for key, value in recorded.items())
    return bool(recorded != told)


def _merged(name: str, recorded: dict[str, Any], truth: dict[str, Any]) -> dict[str, Any]:
    if name == "run":
        return {**recorded, **truth} if _went_on(recorded, truth) else {**truth, **recorded}
    kept = truth if name in ("config", "results") else {**recorded, **truth}
    if name in ("model", "results"):
        # A hash that was recorded stays, whatever became of the file.
        hashes = {**_dict(truth.get("hashes")), **_dict(recorded.get("hashes"))}
        kept = {**kept, **({"hashes": hashes} if hashes else {})}
    return kept


def _went_on(recorded: Mapping[str, Any], truth: Mapping[str, Any]) -> bool:
    """Whether the run ended later than the record says: it was killed before it could record that."""
    if not truth.get("ended"):
        return False
    return _time(truth["ended"]) > _time(recorded["ended"]) if recorded.get("ended") else False


def _time(text: str) -> float:
    return dt.datetime.fromisoformat(text).timestamp()


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _look(version: VersionFolder) -> _Look:
    path = version.lineage_path
    if path.is_dir():
        message = _("a folder stands where the lineage belongs")
        return _Look(problems=[Invalid(message, file=path, mend=_mend(version))])
    raw = path.read_bytes()
    look = _Look(text=salvage.text_of(raw))
    lines: yaml.Lines = {}
    try:
        data, lines = yaml.read(path)
        look.parsed = data if isinstance(data, dict) else None
        look.lineage = Lineage.check(data, path, lines)
        look.data = dict(data)
        look.problems = _cut(version, look, lines)
    except Problem as found:
        look.problems = [found, *found.also]
        look.data = look.parsed or salvage.mapping(look.text, _KNOWN)
    look.newer = _schema(look.data) > LINEAGE_SCHEMA
    if look.problems:
        _fit(version, look)
    if look.newer:
        look.problems = [_newer(version, _schema(look.data)), *look.problems]
    for problem in look.problems:
        problem.mend = problem.mend or _mend(version)
    return look


def _mend(version: VersionFolder) -> str:
    command = f"nlp-skills lineage {version.task_root.name} {_name(version)} --complete"
    return _("put it right from the version's own files: {command}", command=command)


def _schema(data: Mapping[str, Any]) -> int:
    found = data.get("schema_version", 1)
    with contextlib.suppress(TypeError, ValueError):
        return int(found)
    return 1


def _newer(version: VersionFolder, schema: int) -> Invalid:
    return Invalid(
        _("a newer nlp-skills wrote this lineage"),
        file=version.lineage_path,
        cause=_("its schema_version is {found}; this one writes {ours}", found=schema, ours=LINEAGE_SCHEMA),
        mend=_("update nlp-skills"),
    )


def _cut(version: VersionFolder, look: _Look, lines: yaml.Lines) -> list[Problem]:
    """A file of ours ends with a line's end. Where it does not, a last value of ours may be half of what it was."""
    if look.text.endswith("\n") or _last_key(look.text) in _trusted(version, look.data):
        return []
    line = max(lines.values(), default=1)
    return [Invalid(_("the file ends in the middle of a line"), file=version.lineage_path, line=line)]


def _trusted(version: VersionFolder, data: Mapping[str, Any]) -> set[str]:
    """The keys whose last line counts although the file ends in it: a person's, and what is plainly whole."""
    keys = {"changes", "notes", *(data.keys() - set(_KNOWN))}
    if (version.task_root / "versions" / str(data.get("parent"))).is_dir():
        keys.add("parent")
    if re.search(r"(Z|[+-]\d\d:\d\d)\Z", str(data.get("created"))):
        keys.add("created")
    return keys


def _last_key(text: str) -> str:
    keys = re.findall(r"^([^\s#\-][^:]*):", text, re.MULTILINE)
    return keys[-1].strip("\"'") if keys else ""


def _without_last_line(version: VersionFolder, look: _Look) -> dict[str, Any]:
    """What can be read when the half line at the end is left out; a sentence of a person's is kept as it is."""
    if not look.text or look.text.endswith("\n") or _last_key(look.text) in _trusted(version, look.data):
        return look.data
    earlier, _end, last = look.text.rpartition("\n")
    kept = salvage.mapping(earlier + "\n", _KNOWN)
    if not kept:
        return look.data
    look.dropped.append(last.strip())
    return kept


def _fit(version: VersionFolder, look: _Look) -> None:
    """Leave out of `data` what is not as a lineage has it, name that in `dropped`, and make the lineage of the rest."""
    look.data = copy.deepcopy(_without_last_line(version, look))
    if not look.data:
        return
    look.data["version"] = _name(version)
    if not isinstance(look.data.get("created"), str):
        look.data["created"] = _began(version).isoformat()
    if isinstance(look.data.get("run"), dict):
        look.data["run"].setdefault("state", _state(version))
    for _attempt in range(1000):
        try:
            look.lineage = Lineage.model_validate(look.data)
            return
        except ValidationError as error:
            _leave_out(version, look, error)


def _name(version: VersionFolder) -> str:
    """The version's name, also while its folder is half made."""
    return version.name.removesuffix(".tmp")


def _leave_out(version: VersionFolder, look: _Look, error: ValidationError) -> None:
    """The deepest parts that pydantic names; items of lists from the end, so that numbers stay right."""
    places = {_place(look.data, entry["loc"], missing=entry["type"] == "missing") for entry in error.errors()}
    for place in sorted(places, key=lambda place: [str(step).zfill(9) for step in place], reverse=True):
        *parents, last = place
        holder: Any = look.data
        with contextlib.suppress(KeyError, IndexError, TypeError):
            for step in parents:
                holder = holder[step]
            value = holder.pop(last)
            look.dropped.append(f"{'.'.join(map(str, place))}: {str(value)[:60]}")
    look.data.setdefault("version", _name(version))
    look.data.setdefault("created", _began(version).isoformat())


def _place(data: Any, location: tuple[Any, ...], *, missing: bool) -> tuple[Any, ...]:
    """Where in the data an error is; for a key that is missing, what it is missing from."""
    at: list[Any] = []
    for step in location:
        inside = (isinstance(data, dict) and step in data) or (
            isinstance(data, list) and isinstance(step, int) and step < len(data)
        )
        if not inside:
            break
        data = data[step]
        at.append(step)
    if missing and len(at) == len(location):
        at.pop()
    return tuple(at) or (location[0],)


def _state(version: VersionFolder) -> str:
    with contextlib.suppress(Problem):
        if (told := sections.run(version)) is not None:
            return told.state
    return "unknown"


def _began(version: VersionFolder) -> dt.datetime:
    """When the version was made, as far as the task's history, its records or its files tell."""
    name = _name(version)
    times: list[dt.datetime] = []
    with contextlib.suppress(Problem, OSError):
        history = Task.load(version.task_root / "task.yaml").history
        times += [entry.time for entry in history if entry.version == name][:1]
    for load in (version.snapshot, version.model_info, version.results):
        with contextlib.suppress(Problem, OSError):
            document = load()
            times += [document.created] if document else []
    with contextlib.suppress(Problem, OSError):
        status = version.status()
        times += [status.started] if status else []
    if not times:
        known = version.config_path if version.config_path.is_file() else version.lineage_path
        with contextlib.suppress(OSError):
            return dt.datetime.fromtimestamp(int(known.stat().st_mtime)).astimezone()
        return files.now()
    return min(time.astimezone() for time in times)


def _repair(version: VersionFolder, look: _Look) -> Repaired:
    if look.newer:
        raise look.problems[0]
    if look.lineage is None:
        look.data = {"version": _name(version), "created": _began(version).isoformat()}
        look.lineage = Lineage.model_validate(look.data)
    rebuilt = behind(version, look.lineage.dump(), sections.readable(version))
    backup = _set_aside(version)
    event = LineageEvent(time=files.now(), event="repaired", reason=_reason(backup, rebuilt, look.dropped), by=whoami())
    target = {**look.data, **rebuilt, "schema_version": LINEAGE_SCHEMA}
    target["events"] = [*(target.get("events") or []), sections.plain(event)]
    files.write_text(version.lineage_path, _rewritten(version, look, target))
    return Repaired(backup, list(rebuilt), look.dropped)


def _reason(backup: str, rebuilt: Mapping[str, Any], dropped: list[str]) -> str:
    parts = [_("the earlier file is {backup}", backup=backup)]
    if rebuilt:
        parts.append(_("taken from the version's own files: {sections}", sections=", ".join(rebuilt)))
    if dropped:
        parts.append(_("could not be kept: {parts}", parts=" | ".join(dropped)[:300]))
    return "; ".join(parts)


def _set_aside(version: VersionFolder) -> str:
    """Keep the file (or the folder in its place) beside itself; the name of the copy."""
    path = version.lineage_path
    plain = f"{path.name}.bak-{files.now():%Y%m%dT%H%M%S}"
    names = (plain if number == 1 else f"{plain}-{number}" for number in range(1, 10_000))
    backup = next(place for name in names if not os.path.lexists(place := path.with_name(name)))
    if path.is_dir():
        try:
            path.rename(backup)
        except OSError as error:
            raise files.storage_problem(error, backup) from error
    else:
        files.write_bytes(backup, path.read_bytes())
    return backup.name


def _first_form(look: _Look) -> dict[str, Any]:
    """What a file of the first form says, as it is written now; no value changes."""
    target = {**look.data, "schema_version": LINEAGE_SCHEMA}
    config = target.get("config")
    if isinstance(config, dict) and "lora_r" in config:
        flat = {key: value for key, value in config.items() if key != "lora_r"}
        target["config"] = {**flat, "lora": {"r": config["lora_r"], **(config.get("lora") or {})}}
    return target


def _rewritten(version: VersionFolder, look: _Look, target: dict[str, Any]) -> str:
    """`target` as text: the file's own text with what differs changed, or a new one where it cannot be parsed."""
    kept = _changed(version.lineage_path, look, target) if look.parsed else None
    if kept is not None:
        return kept
    order = [key for key in _KNOWN if key in target]
    ordered = {key: target[key] for key in [*order, *(key for key in target if key not in order)]}
    return yaml.dumps(ordered, header=_head(look.text))


def _changed(path: Path, look: _Look, target: dict[str, Any]) -> str | None:
    """None where the parser that keeps comments does not take the file, or does not give back what was meant."""
    from ruamel.yaml.error import YAMLError

    before = look.parsed or {}
    changes: dict[tuple[yaml.Key, ...], Any]
    changes = {(key,): target.get(key) for key in target if before.get(key) != target[key]}
    changes |= {(key,): None for key in before if key not in target}
    schema = changes.pop(("schema_version",), None) if "schema_version" not in before else None
    try:
        text = yaml.changed(path, changes)
        text = _with_schema(text, schema) if schema else text
        same = _said(yaml.loads(text, path).data) == _said(target)
    except (YAMLError, Invalid, ValueError, TypeError, OSError):
        return None
    return text if same else None


def _said(data: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in data.items() if value is not None}


def _with_schema(text: str, schema: int) -> str:
    """`schema_version:` as the first key, under the comments at the top."""
    lines = text.splitlines(keepends=True)
    first = next((at for at, line in enumerate(lines) if line.strip() and not line.startswith(("#", "%", "---"))), 0)
    return "".join([*lines[:first], f"schema_version: {schema}\n", *lines[first:]])


def _head(text: str) -> str:
    """The comments at the top of a file."""
    head = []
    for line in text.splitlines():
        if line.strip() and not line.startswith("#"):
            break
        head.append(line)
    kept = [line for line in head if line.strip()]
    return "".join(f"{line}\n" for line in kept)
