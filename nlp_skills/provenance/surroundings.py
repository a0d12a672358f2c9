"""What a version was trained in, what would train it now, and the way back: the environment from its pinned files."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, NamedTuple

import nlp_skills
from nlp_skills import i18n
from nlp_skills.errors import Invalid, Problem, Unavailable
from nlp_skills.i18n import _
from nlp_skills.machine.setup import find_uv
from nlp_skills.provenance import child
from nlp_skills.provenance.original import Original
from nlp_skills.training import artefact
from nlp_skills.workspace import store
from nlp_skills.workspace.folder import VersionFolder

Choice = Literal["auto", "pinned", "here"]
Kind = Literal["pinned", "here"]

_PROJECT = "pyproject.toml"
_LOCK = "uv.lock"
# Where a training stands in a repository, and what became of it on the way, are no part of its surroundings.
_PASSING = ("git_commit", "resumed_at", "before")


class Difference(NamedTuple):
    """Something that was otherwise when the version was trained; None: not there at all."""

    name: str
    recorded: str | None
    again: str | None

    def __str__(self) -> str:
        return f"{self.name} {_short(self.recorded)} → {_short(self.again)}"


def _short(value: str | None) -> str:
    """A value for a sentence; twelve digits of a hash tell it from any other."""
    if value is None:
        return "–"
    return f"{value[:19]}…" if value.startswith("sha256:") else value


def differences(recorded: Mapping[str, str], again: Mapping[str, str]) -> list[Difference]:
    """What of the recorded surroundings is otherwise, in the order of the record."""
    return [
        Difference(name, value, again.get(name))
        for name, value in recorded.items()
        if name not in _PASSING and again.get(name) != value
    ]


def of(version: VersionFolder) -> dict[str, str]:
    """What a training recorded of its surroundings, device and threads included."""
    record = version.lineage()
    run = record.run if record else None
    found = dict(record.environment) if record else {}
    device = {"device": run.device, "threads": run.threads} if run else {}
    return found | {name: str(value) for name, value in device.items() if value is not None}


def here(original: Original) -> list[Difference]:
    """In which versions, and in which code of ours, this interpreter is not what the version was trained with.

    The last part of Python's own version is none of them.
    """
    now = artefact.packages()
    known = {name: value for name, value in original.lineage.environment.items() if name in (*now, *artefact.PACKAGES)}
    found = differences(known, now)
    return [one for one in found if one.name != "python" or _minor(one.recorded) != _minor(one.again)]


def _minor(version: str | None) -> str:
    return ".".join((version or "").split(".")[:2])


def decide(original: Original, choice: Choice) -> tuple[Kind, list[Problem]]:
    """Which environment trains, and what is missing for it."""
    other = here(original)
    if choice == "here" or (choice == "auto" and not other):
        return "here", []
    problems = [*_pinned_files(original), *_no_uv()]
    if problems and choice == "auto":
        why = _("trained with something else than runs here: {differences}", differences=", ".join(map(str, other)))
        mend = _("--environment here trains with what runs here all the same, and lists the differences")
        problems.insert(0, Invalid(_("this environment is not the recorded one"), cause=why, mend=mend))
    return "pinned", problems


def _pinned_files(original: Original) -> list[Problem]:
    pinned, found = original.run.pinned, list[Problem]()
    if _PROJECT not in pinned:
        cause = _("the task had no pyproject.toml when the version was trained")
        mend = _("nlp-skills generate makes it, with a wheel, for the versions that are trained from then on")
        name = original.version.name
        found.append(Invalid(_("the environment of version {name} was not kept", name=name), cause=cause, mend=mend))
    for path, sha256 in pinned.items():
        try:
            store.check(original.folder, sha256)
        except Problem as problem:
            name = original.version.name
            problem.message = _("{path} of version {name}: {why}", path=path, name=name, why=problem.message)
            problem.mend = _("bring the file back, or train with what runs here: --environment here")
            found.append(problem)
    return found


def _uv() -> list[str] | None:
    path = find_uv()
    if path:
        return [path]
    module = [sys.executable, "-m", "uv"]
    done = subprocess.run([*module, "--version"], capture_output=True, check=False)
    return module if done.returncode == 0 else None


def _no_uv() -> list[Problem]:
    if _uv():
        return []
    mend = _("{command}, or train with what runs here: --environment here", command="python3 -m pip install --user uv")
    return [Unavailable(_("uv, which makes the pinned environment, is not here"), mend=mend)]


def install(original: Original, root: Path) -> Path:
    """Make the environment that is pinned in `root`, a task's folder, in its own `.venv`; its interpreter.

    Raises:
        Unavailable: uv cannot make it; what it said stands above.
        KeyboardInterrupt: stopped; the next time it goes on from what was fetched.
    """
    uv = _uv()
    assert uv is not None
    recorded = original.lineage.environment.get("python")
    command = [*uv, "sync", "--project", str(root), "--no-dev"]
    if recorded:
        same = _minor(recorded) == _minor(artefact.packages()["python"])
        command += ["--python", sys.executable if same else _minor(recorded)]
    if (root / _LOCK).is_file():
        command.append("--frozen")
    if not sys.stderr.isatty():
        command.append("--quiet")  # its bars are for a terminal, its list of a hundred packages for nobody
    ours = ("VIRTUAL_ENV", "PYTHONPATH", "UV_PROJECT_ENVIRONMENT", "UV_PROJECT")
    environ = {name: value for name, value in os.environ.items() if name not in ours}
    ended = child.run(command, cwd=root, env=environ)
    if ended.code:
        raise Unavailable(
            _("the pinned environment could not be made"),
            file=root / _PROJECT,
            cause=_("uv ended with exit code {code}", code=ended.code),
            mend=_("read its lines above; --environment here trains with what runs here"),
        )
    return root / ".venv" / "bin" / "python"


def interpreter(kind: Kind, root: Path) -> list[str]:
    """The command that runs a module in this environment; the working directory is never imported from."""
    # The pinned one is to be whole in itself: nothing of this shell's Python settings reaches it.
    return [sys.executable, "-P"] if kind == "here" else [str(root / ".venv" / "bin" / "python"), "-I"]


def variables(original: Original, kind: Kind) -> dict[str, str]:
    """The shell's variables, with those that decide how to compute as they were when the version was trained."""
    recorded = original.lineage.environment
    found = {
        name: value for name, value in os.environ.items() if name not in ("NLP_SKILLS_DETERMINISTIC", "PYTHONPATH")
    }
    package = str(Path(nlp_skills.__file__).parents[1])
    if kind == "here" and package != sysconfig.get_path("purelib"):
        # The package may not be installed but lie on this process's path.
        found["PYTHONPATH"] = os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")]))
    # Everything is here by now; a model that moved on meanwhile must not be asked for.
    found |= {"NLP_SKILLS_LANG": i18n.language(), "HF_HUB_OFFLINE": "1"}
    if recorded.get("deterministic"):
        found["NLP_SKILLS_DETERMINISTIC"] = "1"
    if original.run.threads:
        found |= {name: str(original.run.threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    if original.run.device == "cpu":
        found["CUDA_VISIBLE_DEVICES"] = ""
    return found
