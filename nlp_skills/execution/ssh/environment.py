"""What a step runs in on a server: the pinned packages, made there once, and this very nlp-skills beside them.

Which packages: what nlp-skills itself requires for the task's steps (`scaffold.project.extras_of`, and what an adapter
in 4 bits takes), and what the task's own pyproject.toml names. Which versions, the first that knows a package:

1. the task's uv.lock, which `uv sync --frozen` installs first, where uv is there or can be had;
2. the pins of the task's pyproject.toml, which are those of the machine that it was made on;
3. the versions that this nlp-skills was released with, machine/pins.txt. A laptop without anything to train with pins
   nothing more than these, and so a server has the same as a machine that is set up from uv.lock.

An environment is known by a hash over all of these, the Python wanted (the same minor as here, where the server has
it or uv can get it) and the kind of machine. Our own code changes more often than they do: it is sent as the wheel
that `scaffold.wheel` builds, and lies beside the packages, known by a hash of its own.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import sys
import time
import tomllib
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from nlp_skills.errors import Invalid, Problem, Unavailable
from nlp_skills.execution.ssh.server import Server
from nlp_skills.i18n import _
from nlp_skills.machine import pins as locked
from nlp_skills.progress import Tell
from nlp_skills.scaffold import project, wheel
from nlp_skills.workspace.folder import TaskFolder

_LOOK_SECONDS = 0.5
# A slow link takes a while to send our code.
_SEND_SECONDS = 900.0
# What must be importable, and what is shown of an environment.
_MODULES = ("torch", "transformers", "trl", "peft", "accelerate", "datasets", "sklearn")
_SHOWN = ("torch", "transformers", "trl", "peft", "accelerate", "datasets", "tokenizers", "safetensors", "numpy")
# What a torch is built with, of which it takes exactly one version.
_CUDA = ("nvidia-", "cuda-", "triton")
_LINE = 160


@dataclass(frozen=True)
class Plan:
    """What the environment will be, or is where it is `ready`.

    `origin` is where its versions come from: lock, project, release or given (`execution.python`). `packages` are the
    versions of those that decide the numbers; `tool` what makes it: uv, or None where uv is to be fetched; `python`
    an interpreter there that will do. `cuda` is what torch is built for, `gpu_usable` whether it found the GPU
    there usable: None where there is none, or nobody has tried.
    """

    ready: bool
    origin: str
    extras: list[str]
    packages: dict[str, str]
    python: str | None
    tool: str | None
    path: str
    cuda: str | None = None
    gpu_usable: bool | None = None
    failed: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return asdict(self)


@dataclass(frozen=True)
class Recipe:
    """All that decides what is installed."""

    origin: str
    extras: list[str]
    requirements: list[str]
    pins: list[str]
    modules: list[str]
    minor: str
    python: str | None = None
    project: dict[str, str] | None = None
    shown: tuple[str, ...] = _SHOWN

    @property
    def content(self) -> dict[str, Any]:
        """As it is sent."""
        return asdict(self)

    @property
    def hash(self) -> str:
        """Hexadecimal; where the versions come from is no part of it, nor are those of other Pythons."""
        told = {name: value for name, value in self.content.items() if name not in ("origin", "extras", "shown")}
        told["pins"] = sorted(str(pin) for pin in _holding(self))
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def ready(folder: TaskFolder, server: Server, there: str, *, python: str | None, tell: Tell) -> list[str]:
    """Make the environment of a task, unless it is there; the command there that nlp-skills' arguments follow.

    Cut off and called again, it goes on from where it was; what is being made there goes on meanwhile.

    Raises:
        Unreachable: the link broke.
        Invalid: the task's project file or lock cannot be used.
        Unavailable: it cannot be made there; the cause has what was said there.
    """
    return entry(server, recipe(folder, python), tell)


def entry(server: Server, wanted: Recipe, tell: Tell) -> list[str]:
    """As `ready`, of a recipe."""
    packed = wheel.build()
    code = packed.name.split("-")[2]
    given: dict[str, Any] = {"workdir": server.workdir, "recipe": wanted.hash, "code": code}
    found = server.ask("environment", use=True, **given)
    if found["state"] != "ready":
        found = _make(server, wanted, given, tell)
    if found["entry"] is None:
        tell(_("sending nlp-skills itself"))
        content = base64.b64encode(zlib.compress(packed.content)).decode()
        found["entry"] = server.ask("unpack", timeout=_SEND_SECONDS, content=content, **given)["entry"]
    return [found["entry"], "-I", "-m", "nlp_skills.cli.main"]


def variables(workdir: str) -> dict[str, str]:
    """What keeps in our folder there what libraries, and we, otherwise keep in the home folder and in /tmp."""
    kept = {
        "XDG_CACHE_HOME": "",
        "XDG_DATA_HOME": "/data",
        "TORCHINDUCTOR_CACHE_DIR": "/inductor",
        "TRITON_CACHE_DIR": "/triton",
        "CUDA_CACHE_PATH": "/nv",
    }
    return {name: f"{workdir}/cache{path}" for name, path in kept.items()}


def plan(folder: TaskFolder, server: Server, python: str | None) -> Plan:
    """What `ready` would do; nothing is made there."""
    wanted = recipe(folder, python)
    code = wheel.build().name.split("-")[2]
    given: dict[str, Any] = {"workdir": server.workdir, "recipe": wanted.hash, "code": code}
    found = server.glance("environments", "environment", look=True, **given)
    stamp, tools = found["stamp"] or {}, found["tools"]
    cuda = stamp.get("cuda") or {}
    return Plan(
        ready=found["state"] == "ready",
        origin=wanted.origin,
        extras=wanted.extras,
        packages=stamp.get("packages") or _pinned(wanted),
        python=stamp.get("python") or next(iter(tools["python"]), None),
        tool=stamp.get("tool") or ("uv" if tools["uv"] else None),
        path=stamp.get("interpreter") or f"{found['place']}/venv/bin/python",
        cuda=cuda.get("built"),
        gpu_usable=cuda["usable"] if cuda.get("gpu") else None,
        failed=(found["failed"] or {}).get("error"),
    )


def _pinned(wanted: Recipe) -> dict[str, str]:
    """The pinned versions of the packages that are shown; those of this Python, where there are several."""
    return {pin.name: str(pin.specifier).removeprefix("==") for pin in _holding(wanted) if pin.name in wanted.shown}


def _holding(wanted: Recipe) -> Iterator[Requirement]:
    """The pins that hold for the Python that is wanted, on Linux, without the conditions."""
    there = {"python_version": wanted.minor, "python_full_version": f"{wanted.minor}.0", "sys_platform": "linux",
             "platform_system": "Linux", "os_name": "posix"}  # fmt: skip
    for pin in map(Requirement, wanted.pins):
        if pin.marker is None or pin.marker.evaluate(there):
            pin.marker = None
            yield pin


def _make(server: Server, wanted: Recipe, given: dict[str, Any], tell: Tell) -> dict[str, Any]:
    """Make it there, as a job that goes on by itself; what it says is told as it comes."""
    tell(_checking(wanted) if wanted.python else _making(wanted))
    prepared = server.ask("prepare", content=wanted.content, workdir=server.workdir, recipe=wanted.hash)
    job: dict[str, Any] = {"workdir": server.workdir, "id": prepared["job"]}
    if server.ask("poll", **job)["state"] in ("ended", "lost"):
        server.ask("forget", **job)
    begun = server.ask("start", argv=prepared["argv"], cwd=server.workdir, env={}, **job)
    said = _follow(server, begun, job, tell)
    found = server.ask("environment", use=True, **given)
    if found["state"] != "ready":
        raise _failed(server, found, wanted, said)
    _describe(found["stamp"], wanted, tell)
    server.ask("forget", **job)
    return found


def _making(wanted: Recipe) -> str:
    origins = {
        "lock": _("the task's uv.lock"),
        "project": _("the task's pyproject.toml"),
        "release": _("this nlp-skills' own versions"),
    }
    return _("making the environment there, from {origin}; this is done once", origin=origins[wanted.origin])


def _checking(wanted: Recipe) -> str:
    return _("trying {python} there; this is done once", python=wanted.python)


def _follow(server: Server, seen: dict[str, Any], job: dict[str, Any], tell: Tell) -> str:
    """Tell what the job says until it is over; returns the last words of what broke it, where something did."""
    at = 0
    while True:
        if seen["out"] is not None:
            at = seen["out"]["at"]
            said = [line.strip() for line in seen["out"]["text"].splitlines() if line.strip()]
            # One line a look: a hundred packages are of no interest.
            if said and not said[-1].startswith("failed: "):
                tell(_shown(said[-1]))
        if seen["state"] not in ("running", "starting"):
            errors = seen["err"]["text"].strip().splitlines() if seen["err"] else []
            return errors[-1] if errors else seen["how"] or ""
        time.sleep(_LOOK_SECONDS)
        seen = server.ask("poll", out=at, **job)


def _shown(line: str) -> str:
    """A line of a foreign program as it may go to a terminal."""
    safe = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line[:_LINE])
    return f"{safe}…" if len(line) > _LINE else safe


def _describe(stamp: dict[str, Any], wanted: Recipe, tell: Tell) -> None:
    """What it has come to; and what of it will not be as people expect."""
    packages, cuda = stamp["packages"], stamp.get("cuda")
    built = _("for CUDA {version}", version=cuda["built"]) if cuda and cuda["built"] else _("for the CPU only")
    torch = f", torch {packages['torch']} ({built})" if "torch" in packages else ""
    tell(_("environment: Python {version}{torch}", version=stamp["python"], torch=torch))
    if cuda and cuda["gpu"] and not cuda["usable"]:
        tell(_("this torch cannot use the GPU there: its driver is older than that, or broken; update it, or pin a "
               "torch that fits it in the task's pyproject.toml"))  # fmt: skip
    pinned = _pinned(wanted)
    other = [
        f"{name} {version} → {packages.get(name, '–')}"
        for name, version in pinned.items()
        if packages.get(name) != version
    ]
    if wanted.python and other:
        tell(_("other versions than pinned: {differences}", differences=", ".join(other)))
    if not stamp["python"].startswith(f"{wanted.minor}.") and not wanted.python:
        tell(_("Python {minor}, as here, is not there and could not be fetched", minor=wanted.minor))


def _failed(server: Server, found: dict[str, Any], wanted: Recipe, said: str) -> Unavailable:
    failure = found["failed"] or {"error": "stopped", "detail": said, "path": None}
    host, error, path = server.link.host, failure["error"], failure.get("path")
    said = "\n".join(map(_shown, (failure.get("detail") or "").splitlines()[-6:]))
    again = _("mend what it says, then run the command again: what was fetched is kept")
    words: dict[str, tuple[str, str]] = {
        "space": (
            _("no space left there: {workdir}", workdir=server.workdir),
            _("free some space there (nlp-skills remote clean shows what is ours), or set execution.workdir to a "
              "larger disk; then run the command again"),
        ),
        "network": (
            "\n".join(filter(None, [_("the package index cannot be reached from there"), said])),
            _("give the server a proxy (HTTPS_PROXY) or an index (UV_DEFAULT_INDEX, PIP_INDEX_URL), or set "
              "execution.python to an interpreter that has everything"),
        ),
        "tools": (
            _("its Python {versions} has neither pip nor venv, and uv is not there", versions=failure.get("detail")),
            _("install one of them there: sudo apt install python3-venv, or uv; or set execution.python"),
        ),
        "python": (
            "\n".join(filter(None, [_("there is no Python 3.11 or newer, and none could be fetched"), said])),
            _("install one there, or uv, which brings its own; or set execution.python"),
        ),
        "no_such_python": (said, _("set execution.python to an interpreter that is there")),
        "old_python": (
            _("it is Python {version}; 3.11 or newer is needed", version=failure.get("detail")),
            _("set execution.python to a newer one, or leave it out: an environment is made then"),
        ),
        "given_lacks": (
            said,
            _("install it there: {command}; or leave execution.python out: an environment is made then",
              command=f"{wanted.python} -m pip install {_needed(wanted, failure.get('detail') or '')}"),
        ),
        "stopped": (
            "\n".join(filter(None, [_("it was ended before it was done"), said])),
            _("run the command again: what was fetched is kept"),
        ),
    }  # fmt: skip
    cause, mend = words.get(error, (said or error, again))
    where = path if error in ("no_such_python", "old_python", "given_lacks") else found["place"]
    return Unavailable(
        _("the environment could not be made on {host}", host=host), file=f"{host}:{where}", cause=cause, mend=mend
    )


def _needed(wanted: Recipe, said: str) -> str:
    """What a given interpreter lacks, one `name: why` a line, as pip is asked for it."""
    versions = {canonicalize_name(pin.name): str(pin.specifier) for pin in _holding(wanted)}
    names = dict.fromkeys(line.partition(":")[0] for line in said.splitlines())
    return " ".join(f"'{name}{versions[name]}'" for name in map(canonicalize_name, names) if name in versions)


def recipe(folder: TaskFolder, python: str | None = None) -> Recipe:
    """What the steps of a task need, and in which versions.

    Raises:
        Invalid: the task's project file or lock cannot be used.
    """
    extras = _extras(folder)
    own, task_pins, origin, sent = _project(folder.root)
    requirements = sorted({*_required(extras), *own})
    ours = (Path(locked.__file__).with_name("pins.txt")).read_text(encoding="utf-8").splitlines()
    modules = [*_MODULES, *(["bitsandbytes"] if "qlora" in extras else []), *(["gguf"] if "demo" in extras else [])]
    return Recipe(
        origin="given" if python else origin,
        extras=sorted(extras),
        requirements=requirements,
        pins=sorted([*task_pins, *_filled(ours, task_pins)]),
        modules=modules,
        minor=f"3.{sys.version_info.minor}",
        python=python,
        project=None if python else sent,
    )


def _filled(ours: list[str], task_pins: list[str]) -> list[str]:
    """Our versions of what the task does not pin, which is what only another machine than its maker's installs."""
    named = {_name(pin) for pin in task_pins}
    torch = {pin for pin in task_pins if _name(pin) == "torch"}
    # A torch of another version wants other libraries of CUDA, each of exactly one version.
    family = _CUDA if torch and not torch <= set(ours) else ()
    return [pin for pin in ours if _name(pin) not in named and not pin.startswith(family)]


def _name(requirement: str) -> str:
    return canonicalize_name(Requirement(requirement).name)


def _extras(folder: TaskFolder) -> set[str]:
    """Those of every version: an environment that does for one of them does for all."""
    sources = folder.sources().sources if folder.sources_path.exists() else []
    task = folder.task()
    settings = [task.training.model_dump()] if task.training else []
    for name in folder.version_names():
        try:
            settings.append(folder.version(name).config().model_dump())
        except Problem:
            continue
    found = set(project.EXTRAS)
    for one in settings:
        found |= project.extras_of(str(one.get("base_model", "")), sources)
        found |= {"qlora"} if one.get("adapter") == "qlora" else set()
    return found


def _required(extras: Iterable[str]) -> list[str]:
    """What nlp-skills requires with these extras, without itself.

    Raises:
        Unavailable: this nlp-skills was not installed, so that nothing says what it requires.
    """
    try:
        lines = metadata.requires("nlp-skills") or []
    except metadata.PackageNotFoundError as error:
        raise Unavailable(
            _("nlp-skills cannot say what it requires"),
            cause=_("it runs from a folder without being installed"),
            mend=_("install it into this interpreter (pip install PATH), or run it through: nlp-skills setup"),
        ) from error
    waiting, seen, found = list(extras), set[str](), set[str]()
    found.update(line for line in lines if "extra ==" not in line)
    while waiting:
        extra = waiting.pop()
        if extra in seen:
            continue
        seen.add(extra)
        for line in lines:
            one = Requirement(line)
            if one.marker is None or f'extra == "{extra}"' not in str(one.marker):
                continue
            if canonicalize_name(one.name) == "nlp-skills":
                waiting += one.extras
            else:
                found.add(_without_extra(line, one))
    return sorted(found)


def _without_extra(line: str, one: Requirement) -> str:
    """A requirement as one that holds whatever extras are wanted; conditions on the machine stay, it judges them."""
    bare = line.partition(";")[0].strip()
    marker = re.sub(r'extra == "[^"]*"', 'python_version >= "3"', str(one.marker))
    return bare if marker == 'python_version >= "3"' else f"{bare} ; {marker}"


def _project(root: Path) -> tuple[list[str], list[str], str, dict[str, str] | None]:
    """What the task's own project file adds: requirements, pins, where the pins come from, what uv is to sync."""
    path, lock = root / "pyproject.toml", root / "uv.lock"
    if not path.is_file():
        return [], [], "release", None
    content = _toml(path)
    settings = content.get("tool", {}).get("uv", {})
    own = [str(line) for line in content.get("project", {}).get("dependencies", [])]
    requirements = [line for line in _checked(own, path) if _name(line) != "nlp-skills"]
    if lock.is_file():
        try:
            found = locked.pins(lock)
        except (tomllib.TOMLDecodeError, KeyError, TypeError, UnicodeDecodeError) as error:
            raise Invalid(
                _("not a lock of uv"), file=lock, cause=str(error), mend=_("make it anew: {command}", command="uv lock")
            ) from error
        texts = {one.name: one.read_text(encoding="utf-8") for one in (path, lock)}
        return list(_from_index(requirements, settings)), found, "lock", texts
    _refuse_other_sources(settings, path)
    return requirements, list(_checked(settings.get("constraint-dependencies", []), path)), "project", None


def _toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Invalid(_("not valid TOML"), file=path, cause=str(error)) from error


def _checked(lines: Iterable[Any], path: Path) -> Iterator[str]:
    for line in lines:
        try:
            Requirement(str(line))
        except InvalidRequirement as error:
            raise Invalid(
                _("not a requirement: {line}", line=_shown(str(line))), file=path, cause=str(error)
            ) from error
        yield str(line)


def _from_index(requirements: Iterable[str], settings: dict[str, Any]) -> Iterator[str]:
    """Those that are fetched by name; what comes from elsewhere is in the lock, which knows where."""
    elsewhere = {canonicalize_name(name) for name in settings.get("sources", {})}
    return (line for line in requirements if _name(line) not in elsewhere)


def _refuse_other_sources(settings: dict[str, Any], path: Path) -> None:
    other = sorted(name for name in settings.get("sources", {}) if canonicalize_name(name) != "nlp-skills")
    if other or settings.get("index"):
        raise Invalid(
            _("the environment is fetched from elsewhere than the package index"),
            file=path,
            cause=", ".join(f"tool.uv.sources.{name}" for name in other) or "tool.uv.index",
            mend=_("lock it, so that a server has the same: {command}", command="uv lock"),
        )
