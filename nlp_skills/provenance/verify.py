"""Whether what a version was made with, and what was made, still is what its lineage says. Looks, and writes nothing.

What was never recorded is said to be so: it neither matches nor fails to.
"""

from __future__ import annotations

import contextlib
import difflib
import functools
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel

from nlp_skills import files, progress
from nlp_skills.errors import Problem
from nlp_skills.i18n import _
from nlp_skills.schema.training import Config
from nlp_skills.schema.version import LINEAGE_SCHEMA, SPLITS, Lineage, LineageConfig, LineageLora
from nlp_skills.workspace import lineage as lineages
from nlp_skills.workspace import runs, sections, store
from nlp_skills.workspace.compare import flat
from nlp_skills.workspace.folder import TaskFolder, VersionFolder

State = Literal[
    "changed", "missing", "extra", "damaged", "differs", "unreadable", "unknown", "not recorded", "cleaned", "note"
]
BAD = ("changed", "missing", "extra", "damaged", "differs", "unreadable")
Verdict = Literal["sound", "mismatch", "unknown"]

_HASH = re.compile(r"sha256:[0-9a-f]{64}\Z")
_LONG_MB = 200


@dataclass(frozen=True)
class Finding:
    """One thing that is not as recorded, or that nobody can tell; `mend` is a command or a sentence."""

    what: str
    state: State
    expected: str | None = None
    found: str | None = None
    mend: str | None = None


@dataclass
class Verified:
    """A version: `checked` counts the hashes that were taken again and are as they were recorded."""

    version: str
    checked: int = 0
    findings: list[Finding] = field(default_factory=list)

    @property
    def verdict(self) -> Verdict:
        """`unknown` where there was nothing to hold against anything."""
        if any(finding.state in BAD for finding in self.findings):
            return "mismatch"
        return "sound" if self.checked else "unknown"

    def as_dict(self) -> dict[str, Any]:
        """The version for --json; absent parts are left out."""
        listed = [{key: value for key, value in asdict(entry).items() if value} for entry in self.findings]
        return {"version": self.version, "verdict": self.verdict, "checked": self.checked, "findings": listed}


def verify(folder: TaskFolder, name: str | None = None) -> list[Verified]:
    """A version, or all of them in their order.

    Raises:
        Invalid: the version named does not exist, or task.yaml cannot be read.
    """
    names = [folder.existing_version(name).name] if name else folder.version_names()
    known = {*folder.version_names(), *(entry.version for entry in folder.task().history if entry.version)}
    versions = [_Version.of(folder, folder.version(each), known) for each in names]
    total = sum(path.stat().st_size >> 20 for path in {path for version in versions for path in version.heavy()})
    with contextlib.ExitStack() as stack:
        bar = stack.enter_context(progress.bar(_("hashing, MB"), total)) if total >= _LONG_MB else None
        hashes = _Hashes(bar)
        return [version.verified(hashes) for version in versions]


class _Hashes:
    """Hashes of files, each taken once, however many versions share it."""

    def __init__(self, bar: progress.Bar | None) -> None:
        self.bar = bar
        self.known: dict[Path, str] = {}

    def of(self, path: Path) -> str:
        if path not in self.known:
            self.known[path] = files.sha256_file(path)
            self._count(path)
        return self.known[path]

    def of_base(self, place: Path) -> str:
        """The fingerprint of a base model's folder."""
        from nlp_skills.training import base_model

        if place not in self.known:
            self.known[place] = base_model.fingerprint(str(place))
            self._count(*_weights(place))
        return self.known[place]

    def _count(self, *paths: Path) -> None:
        if self.bar is None:
            return
        counted = min(sum(path.stat().st_size >> 20 for path in paths), self.bar.total - self.bar.done)
        if counted:
            self.bar.advance(counted)


def _weights(place: Path) -> list[Path]:
    return sorted(place.glob("*.safetensors"))


@dataclass
class _Version:
    """One version, its lineage as far as it can be read, and what is found."""

    folder: TaskFolder
    place: VersionFolder
    known: set[str]
    lineage: Lineage | None
    done: Verified

    @classmethod
    def of(cls, folder: TaskFolder, place: VersionFolder, known: set[str]) -> _Version:
        lineage, problems = lineages.read(place)
        version = cls(folder, place, known, lineage, Verified(place.name))
        # What a newer release writes is no damage; this one only cannot tell.
        state: State = "unknown" if lineage and lineage.schema_version > LINEAGE_SCHEMA else "unreadable"
        for problem in problems:
            line = f":{problem.line}" if problem.line else ""
            mend = problem.mend if state == "unknown" else version.command("lineage", "--complete")
            version.say(f"lineage.yaml{line}", state, found=_because(problem), mend=mend)
        return version

    def say(self, what: str, state: State, expected: Any = None, found: Any = None, mend: str | None = None) -> None:
        texts = [None if value is None else str(value) for value in (expected, found)]
        self.done.findings.append(Finding(what, state, texts[0], texts[1], mend))

    def command(self, name: str, *options: str) -> str:
        version = () if name.startswith("lineage") else ("--version",)
        return " ".join(["nlp-skills", name, self.folder.root.name, *version, self.place.name, *options])

    def heavy(self) -> Iterator[Path]:
        """The files that take long: the model, the data's bytes, the base model."""
        if self.lineage and self.lineage.model:
            model = self.lineage.model
            names = (self.folder.root / name for name in (*model.hashes, *model.exports))
            yield from (path for path in names if path.is_file() and not path.is_symlink())
        kept = self.snapshot.files if self.snapshot else {}
        yield from (path for digest in kept.values() if (path := store.blob(self.folder, digest)).is_file())
        if place := self.base:
            yield from _weights(place)

    @functools.cached_property
    def base(self) -> Path | None:
        """The base model's folder on this machine; nothing is fetched."""
        name, revision, _digest = self.wanted
        if name is None:
            return None
        from nlp_skills.training import base_model

        try:
            return Path(base_model.locate(name, root=self.folder.root, revision=revision, fetch=False))
        except Problem:
            return None

    @functools.cached_property
    def wanted(self) -> tuple[str | None, str | None, str | None]:
        """The base model that was trained on: its name, its revision, its fingerprint."""
        run, config = (self.lineage.run, self.lineage.config) if self.lineage else (None, None)
        info = self.info
        name = info.base_model if info else config.base_model if config else None
        revision = (run.base_model_revision if run else None) or (info.base_model_revision if info else None)
        digest = (run.base_model_hash if run else None) or (info.base_model_hash if info else None)
        return (name if self.trained else None), revision, digest

    @functools.cached_property
    def info(self) -> Any:
        return self.read("model_info")

    @functools.cached_property
    def snapshot(self) -> Any:
        return self.read("snapshot")

    @functools.cached_property
    def results(self) -> Any:
        return self.read("results")

    def verified(self, hashes: _Hashes) -> Verified:
        if runs.alive(self.status()):
            self.say("run", "note", found=_("it is being trained; look again when that has ended"))
            return self.done
        if self.lineage is None:
            if not self.place.lineage_path.exists():
                self.say("lineage.yaml", "not recorded", mend=self.command("lineage", "--complete"))
            return self.done
        _own(self, self.lineage)
        _parent(self, self.lineage)
        _config(self, self.lineage)
        _data(self, self.lineage, hashes)
        _model(self, self.lineage, hashes)
        _results(self, self.lineage, hashes)
        _pinned(self, self.lineage, hashes)
        _base(self, hashes)
        return self.done

    def status(self) -> Any:
        with contextlib.suppress(Problem):
            return self.place.status()
        return None

    def read(self, name: str) -> Any:
        """A document of the version; None where there is none or it cannot be read, which is said."""
        try:
            return getattr(self.place, name)()
        except Problem as problem:
            self.say(Path(problem.file or name).name, "unreadable", found=_because(problem), mend=problem.mend)
            return None

    def blob(self, what: str, digest: str, hashes: _Hashes, mend: str) -> None:
        """Whether the store has these bytes, and they are still theirs."""
        path = store.blob(self.folder, digest)
        if not _HASH.match(digest):
            self.say(what, "differs", expected=digest, found=_("not a hash"), mend=mend)
        elif not path.is_file():
            self.say(what, "missing", expected=digest, found=_("the store does not have it"), mend=mend)
        elif (found := hashes.of(path)) != digest:
            first = _("remove {path}", path=str(path.relative_to(self.folder.root)))
            self.say(what, "damaged", expected=digest, found=found, mend=f"{first}; {mend}")
        else:
            self.done.checked += 1

    def compared(self, section: str, recorded: Any, told: Any, file: str, mend: str, state: State = "differs") -> None:
        """Each value of a section that its file has otherwise."""
        before, after = (dict(flat(sections.plain(part))) for part in (recorded, told))
        for key, value in before.items():
            if key in after and after[key] != value:
                self.say(f"lineage.yaml {section}.{key}", state, value, f"{after[key]} ({file})", mend)

    @property
    def trained(self) -> bool:
        return bool(self.lineage and self.lineage.run) or self.place.model_info_path.exists()


def _own(version: _Version, lineage: Lineage) -> None:
    """The lineage by itself: its form, its keys, its name."""
    mend = version.command("lineage", "--complete")
    if lineage.schema_version < LINEAGE_SCHEMA:
        version.say("lineage.yaml schema_version", "note", LINEAGE_SCHEMA, lineage.schema_version, mend)
    for key, near in unknown_keys(lineage):
        words = _("did you mean {name}?", name=near) if near else None
        version.say(f"lineage.yaml {key}", "note", found=_("not a key of ours; it is kept"), mend=words)
    if lineage.version != version.place.name:
        words = _("write the folder's name there: version: {name}", name=version.place.name)
        version.say("lineage.yaml version", "differs", version.place.name, lineage.version, words)


def unknown_keys(lineage: Lineage) -> list[tuple[str, str | None]]:
    """The keys that no release of ours writes, each with the known one nearest to it."""
    settings = {*Config.model_fields, *LineageConfig.model_fields}
    lora = lineage.config.lora if lineage.config else None
    parts: list[tuple[str, BaseModel | None, set[str]]] = [
        ("", lineage, set(Lineage.model_fields)),
        *((f"{name}.", part, set(type(part).model_fields)) for name in ("data", "run", "model")
          if (part := getattr(lineage, name))),
        ("config.", lineage.config, settings),
        ("config.lora.", lora, set(LineageLora.model_fields)),
    ]  # fmt: skip
    found = []
    for prefix, part, known in parts:
        for key in (part.model_extra or {}) if part else {}:
            if key not in known:
                near = difflib.get_close_matches(key, sorted(known), n=1)
                found.append((f"{prefix}{key}", near[0] if near else None))
    return found


def _parent(version: _Version, lineage: Lineage) -> None:
    name = lineage.parent
    if name is None or (version.folder.root / "versions" / name).is_dir():
        return
    if name in version.known:
        version.say("parent", "note", name, _("it was here and was removed; task.yaml knows it"))
    else:
        mend = _("correct parent: in lineage.yaml, or bring versions/{name} back", name=name)
        version.say("parent", "missing", name, _("no such version"), mend)


def _config(version: _Version, lineage: Lineage) -> None:
    path, mend = (
        version.place.config_path,
        _("bring config.yaml back from version control; lineage.yaml says what it said"),
    )
    recorded = lineage.run.config_hash if lineage.run else None
    if not path.is_file():
        version.say("config.yaml", "missing", recorded, None, mend)
        return
    config = version.read("config")
    if config is None:
        return
    if recorded is None:
        if version.trained:
            version.say("config.yaml", "not recorded", mend=version.command("lineage", "--complete"))
    elif (found := sections.config_hash(path)) != recorded:
        version.say("config.yaml", "changed", recorded, found, mend)
    else:
        version.done.checked += 1
        mend = version.command("lineage", "--complete")
    if lineage.config:
        # Before the training a configuration may change as it likes.
        state: State = "differs" if version.trained else "note"
        version.compared("config", lineage.config, sections.config(config), "config.yaml", mend, state)


def _data(version: _Version, lineage: Lineage, hashes: _Hashes) -> None:
    snapshot, again = version.snapshot, version.command("train", "--again")
    if snapshot is None:
        if lineage.data and lineage.data.hashes and not version.place.snapshot_path.exists():
            mend = _("bring it back from version control, or train again: {command}", command=again)
            version.say("data_snapshot.json", "missing", mend=mend)
        elif version.trained and not version.place.snapshot_path.exists():
            version.say(_("data"), "not recorded", mend=again)
        return
    told = sections.data(snapshot)
    if lineage.data:
        another = any(lineage.data.hashes.get(split, digest) != digest for split, digest in told.hashes.items())
        mend = again if another else version.command("lineage", "--complete")
        version.compared("data", lineage.data, told, "data_snapshot.json", mend)
    for split in SPLITS:
        kept, digest = snapshot.files.get(f"data/{split}.jsonl"), told.hashes.get(split)
        if kept and digest and kept != digest:
            version.say(f"data_snapshot.json data/{split}.jsonl", "differs", digest, kept, again)
    if not snapshot.files:
        version.say(_("bytes of the data"), "not recorded", mend=again)
    mend = f"nlp-skills regenerate {version.folder.root.name} --all"
    for path, digest in {
        **snapshot.files,
        **({"data_source.yaml": snapshot.config} if snapshot.config else {}),
    }.items():
        version.blob(path, digest, hashes, mend)


def _model(version: _Version, lineage: Lineage, hashes: _Hashes) -> None:
    info, again = version.info, version.command("train", "--again")
    if info and lineage.model:
        mend = version.command("lineage", "--complete")
        version.compared("model", lineage.model, sections.model(info), "model_info.json", mend)
    recorded = lineage.model.hashes if lineage.model else {}
    if not recorded:
        if version.place.model is not None:
            mend = version.command("lineage", "--complete")
            version.say(version.place.model.relative_to(version.folder.root).as_posix(), "not recorded", mend=mend)
        return
    cleaned = _cleaned(lineage)
    for name, digest in recorded.items():
        _model_file(version, name, digest, hashes, cleaned, again)
    exports = lineage.model.exports if lineage.model else {}
    for name, digest in exports.items():
        _model_file(version, name, digest, hashes, cleaned, _export(version, name))
    for place, mend in ((version.place.adapter, again), (version.place.merged, _export(version, "merged"))):
        prefix = f"{place.relative_to(version.folder.root).as_posix()}/"
        if any(name.startswith(prefix) for name in (*recorded, *exports)):
            here = (path.relative_to(version.folder.root).as_posix() for path in sections.regular_files(place))
            for name in sorted(set(here) - {*recorded, *exports}):
                version.say(name, "extra", mend=_("remove it, or: {command}", command=mend))


def _export(version: _Version, name: str) -> str:
    """The command that makes an export anew, given a file of it."""
    quantization = Path(name).stem.rpartition("-")[2] if name.endswith(".gguf") else ""
    options = f"--gguf {quantization}" if quantization else "--merged"
    return f"nlp-skills export {version.folder.root.name} {version.place.name} {options} --again"


def _model_file(version: _Version, name: str, digest: str, hashes: _Hashes, cleaned: str | None, mend: str) -> None:
    place = version.folder.root / name
    try:
        inside = files.inside(version.folder.root, name)
    except Problem:
        version.say(name, "unknown", digest, _("the path leads out of the task folder"))
        return
    if place.is_symlink():
        version.say(name, "changed", digest, _("a link"), mend)
    elif not inside.is_file():
        if cleaned is None:
            version.say(name, "missing", digest, None, mend)
        else:
            version.say(name, "cleaned", digest, cleaned, mend)
    elif (found := hashes.of(inside)) != digest:
        version.say(name, "changed", digest, found, mend)
    else:
        version.done.checked += 1


def _cleaned(lineage: Lineage) -> str | None:
    """When the model was cleaned away, unless it was brought back since."""
    told = [entry for entry in lineage.events if entry.event in ("cleaned", "restored")]
    if not told or told[-1].event == "restored":
        return None
    return _("cleaned away on {day}", day=told[-1].time.date().isoformat())


def _results(version: _Version, lineage: Lineage, hashes: _Hashes) -> None:
    results, measure = version.results, version.command("evaluate", "--again")
    recorded = lineage.results.hashes if lineage.results else {}
    changed = False
    for path in (version.place.results_path, version.place.predictions_path):
        digest = recorded.get(path.name)
        if digest is None:
            if path.is_file():
                version.say(path.name, "not recorded", mend=version.command("lineage", "--complete"))
        elif not path.is_file():
            version.say(path.name, "missing", digest, None, measure)
        elif (found := hashes.of(path)) != digest:
            version.say(path.name, "changed", digest, found, measure)
            changed = True
        else:
            version.done.checked += 1
    if results and lineage.results:
        mend = measure if changed else version.command("lineage", "--complete")
        version.compared("results", lineage.results, sections.results(results), "results.json", mend)
    elif lineage.results and not recorded and not version.place.results_path.exists():
        version.say("results.json", "missing", mend=measure)
    test = version.snapshot.splits.get("test") if version.snapshot else None
    if results and test and results.test_sha256 != test.sha256:
        version.say("results.json test_sha256", "differs", test.sha256, results.test_sha256, measure)


def _pinned(version: _Version, lineage: Lineage, hashes: _Hashes) -> None:
    if lineage.run is None:
        return
    mend = _("put the file back as it was, and train again: {command}", command=version.command("train", "--again"))
    for path, digest in lineage.run.pinned.items():
        version.blob(_("{path} of the environment", path=path), digest, hashes, mend)
    if not lineage.run.pinned:
        version.say(_("environment files"), "not recorded", mend=f"nlp-skills generate {version.folder.root.name}")


def _base(version: _Version, hashes: _Hashes) -> None:
    name, _revision, digest = version.wanted
    if name is None:
        return
    what = _("base model {name}", name=name)
    if digest is None:
        version.say(what, "not recorded", mend=version.command("lineage", "--complete"))
    elif version.base is None:
        version.say(what, "unknown", digest, _("it is not here"), version.command("preflight"))
    elif (found := hashes.of_base(version.base)) != digest:
        mend = _("put the base model back as it was; without it the version cannot be made or asked again")
        version.say(what, "changed", digest, found, mend)
    else:
        version.done.checked += 1


def _because(problem: Problem) -> str:
    return f"{problem.message}: {problem.cause}" if problem.cause else problem.message


def sentence(done: Verified) -> str:
    """The verdict in words."""
    if done.verdict == "mismatch":
        count = sum(finding.state in BAD for finding in done.findings)
        return _("does not match its lineage; findings: {count}", count=count)
    if done.verdict == "unknown":
        return _("cannot tell: nothing was recorded that could be checked")
    if any(finding.state in ("not recorded", "unknown", "cleaned") for finding in done.findings):
        return _("sound as far as it can be told; hashes checked: {count}", count=done.checked)
    return _("sound; hashes checked: {count}", count=done.checked)


def cells(finding: Finding) -> list[str]:
    """A finding as a row for a person: hashes short, nothing in it that a terminal would obey."""
    shown = (finding.what, _state(finding.state), finding.expected, finding.found, finding.mend)
    return [_short(text) for text in shown]


def _short(text: str | None) -> str:
    cut = re.sub(r"(sha256:[0-9a-f]{12})[0-9a-f]{52}", r"\1…", text or "-")
    clean = "".join(letter if letter.isprintable() else "�" for letter in cut)
    return clean if len(clean) <= 160 else f"{clean[:159]}…"


def _state(state: State) -> str:
    return {
        "changed": _("changed"),
        "missing": _("missing"),
        "extra": _("extra"),
        "damaged": _("damaged"),
        "differs": _("differs"),
        "unreadable": _("not readable"),
        "unknown": _("cannot tell"),
        "not recorded": _("not recorded"),
        "cleaned": _("cleaned away"),
        "note": _("note"),
    }[state]
