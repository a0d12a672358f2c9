"""Making the managed environment from the plugin's lock: by uv where there is one, else by venv and pip.

Standard library only and Python 3.9: this runs before anything is installed. What is being made is noted
first and marked ready last, so that an interrupted set-up is seen and done again.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from nlp_skills import files, i18n
from nlp_skills.errors import Problem, Unavailable, Usage
from nlp_skills.extras import install_command
from nlp_skills.i18n import _
from nlp_skills.machine import environment

DEFAULT_EXTRAS = ("data", "quality", "train")
OLDEST = (3, 11)


@dataclass(frozen=True)
class Made:
    """What `make` leaves behind."""

    environment: str
    extras: list[str]
    tool: str
    seconds: float


def plugin_root() -> Path:
    """The folder with uv.lock that this package belongs to, or that the environment was made from.

    Raises:
        Unavailable: there is none; the package was installed by hand.
    """
    beside = Path(__file__).resolve().parent.parent.parent
    recorded = Path(environment.stamp().get("root") or beside)
    for root in (beside, recorded):
        if (root / "uv.lock").is_file() and (root / "nlp_skills").is_dir():
            return root
    raise Unavailable(
        _("there is no plugin folder to set up from"),
        cause=_("this nlp-skills was installed as a package, without the plugin's uv.lock"),
        mend=install_command(*DEFAULT_EXTRAS),
    )


def known_extras(root: Path) -> list[str]:
    """The extras that pyproject.toml offers; read by eye, since Python 3.9 has no TOML parser."""
    text = (root / "pyproject.toml").read_text(encoding="utf-8")
    section = text.partition("[project.optional-dependencies]\n")[2].partition("\n[")[0]
    return sorted(re.findall(r"^([a-z][\w-]*) *= *\[", section, flags=re.MULTILINE))


def wanted(root: Path, extras: Sequence[str], *, core: bool) -> list[str]:
    """The extras to install: what is there plus what is asked for; the main job's when nothing is said.

    Raises:
        Usage: an extra that does not exist.
    """
    known = known_extras(root)
    unknown = [name for name in extras if name not in known]
    if unknown:
        raise Usage(
            _("there is no extra called {name}", name=unknown[0]),
            mend=_("choose from: {known}", known=", ".join(known)),
        )
    if core:
        return sorted(set(extras))
    there = environment.stamp().get("extras")
    kept = there if isinstance(there, list) else []
    return sorted({*kept, *extras}) or list(DEFAULT_EXTRAS)


def make(root: Path, extras: Sequence[str], *, core: bool = False, quiet: bool = False) -> Made:
    """Make the environment, or bring it up to date; a second call with the same lock takes a second.

    Raises:
        Usage: an unknown extra. Unavailable: no suitable Python, no network, no space.
    """
    chosen = wanted(root, extras, core=core)
    started = time.monotonic()
    with _alone():
        note = {"root": str(root), "extras": chosen, "fingerprint": environment.fingerprint(root)}
        files.write_json(environment.stamp_path(), {**note, "state": "running"})
        uv = find_uv()
        if uv:
            _sync_with_uv(uv, root, chosen, quiet=quiet)
        else:
            _sync_with_pip(root, chosen, quiet=quiet)
        files.write_json(environment.stamp_path(), {**note, "state": "ready"})
    seconds = round(time.monotonic() - started, 1)
    return Made(str(environment.folder()), chosen, "uv" if uv else "pip", seconds)


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """One set-up at a time; the system frees the lock when the process dies."""
    path = environment.home() / "lock"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        stream = open(path, "w", encoding="utf-8")  # noqa: SIM115
    except OSError as error:
        raise files.storage_problem(error, path) from error
    with stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(_("waiting for another set-up to end"), file=sys.stderr, flush=True)
            fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def find_uv() -> str | None:
    """A uv that runs, from `UV`, PATH or where its installers put it."""
    places = [os.environ.get("UV"), shutil.which("uv")]
    places += [str(Path.home() / folder / "bin" / "uv") for folder in (".local", ".cargo")]
    return next((place for place in places if place and _answers([place, "--version"])), None)


def find_python() -> str:
    """An interpreter new enough, with venv and pip.

    Raises:
        Unavailable: there is none.
    """
    check = f"import sys, venv, ensurepip; sys.exit(sys.version_info < {OLDEST})"
    names = [sys.executable, "python3", *(f"python3.{minor}" for minor in range(14, OLDEST[1] - 1, -1))]
    found = next((name for name in names if _answers([name, "-I", "-c", check])), None)
    if found is None:
        raise Unavailable(
            _("no Python {oldest} or newer with venv was found", oldest=".".join(map(str, OLDEST))),
            cause=_("uv is not here either, which would bring its own"),
            mend="python3 -m pip install --user uv, apt install python3-venv, brew install uv",
        )
    return found


def _answers(command: list[str]) -> bool:
    try:
        return subprocess.run(command, capture_output=True, timeout=60, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def _sync_with_uv(uv: str, root: Path, extras: list[str], *, quiet: bool) -> None:
    # uv keeps a built wheel while pyproject.toml is unchanged; the sources may have changed all the same.
    command = [uv, "sync", "--project", str(root), "--frozen", "--no-dev", "--no-editable"]
    command += ["--reinstall-package", "nlp-skills", *(["--quiet"] if quiet else [])]
    for name in extras:
        command += ["--extra", name]
    _run(command, UV_PROJECT_ENVIRONMENT=str(environment.folder()))


def _sync_with_pip(root: Path, extras: list[str], *, quiet: bool) -> None:
    base, constraints = find_python(), environment.home() / "constraints.txt"
    there = _answers([str(environment.python()), "-m", "pip", "--version"])
    if not there:
        _run([base, "-m", "venv", "--clear", str(environment.folder())])
    python = str(environment.python())
    pins = subprocess.run(
        [python, str(Path(__file__).with_name("pins.py")), str(root / "uv.lock")], capture_output=True, check=True
    )
    files.write_bytes(constraints, pins.stdout)
    package, pip = f" @ {root.as_uri()}", [python, "-m", "pip", "install", *(["-q"] if quiet else [])]
    if there:  # pip takes a package of the same version for the same package
        _run([*pip, "--force-reinstall", "--no-deps", f"nlp-skills{package}"])
    wanted_parts = f"[{','.join(extras)}]" if extras else ""
    _run([*pip, "--constraint", str(constraints), f"nlp-skills{wanted_parts}{package}"])


def _run(command: list[str], **variables: str) -> None:
    """Run an installer, its words on our standard error.

    Raises:
        Unavailable: it failed; what it printed stands above.
    """
    inherited = {name: value for name, value in os.environ.items() if name not in ("VIRTUAL_ENV", "PYTHONPATH")}
    done = subprocess.run(command, stdout=sys.stderr, env={**inherited, **variables}, check=False)
    if done.returncode:
        free = shutil.disk_usage(environment.home()).free / 1e9
        raise Unavailable(
            _("the environment could not be set up"),
            file=environment.folder(),
            cause=_(
                "{tool} ended with exit code {code}; free disk space: {free} GB",
                tool=Path(command[0]).name,
                code=done.returncode,
                free=f"{free:.1f}",
            ),
            mend=_("read its lines above, then run the command again: it goes on where it stopped"),
        )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="nlp-skills setup", description=_("Make the environment that nlp-skills runs in.")
    )
    parser.add_argument(
        "--extra", action="append", default=[], metavar="NAME", help=_("An extra to install; repeatable.")
    )
    parser.add_argument("--core", action="store_true", help=_("Only the core: no training, no databases."))
    parser.add_argument("--json", action="store_true", dest="as_json", help=_("Print one JSON object instead of text."))
    parser.add_argument("--lang", choices=i18n.LANGUAGES, help=_("Language of messages."))
    return parser


def describe(made: Made) -> str:
    """The result in one line for a person."""
    parts = ", ".join(made.extras) or _("core only")
    return _("ready in {seconds} s: {path} ({parts})", seconds=made.seconds, path=made.environment, parts=parts)


def _language(arguments: list[str]) -> None:
    words = [word for argument in arguments for word in argument.split("=", 1)]
    if "--lang" in words[:-1]:
        i18n.set_language(words[words.index("--lang") + 1])


def _emit(content: dict[str, object]) -> None:
    print(json.dumps(content, ensure_ascii=False, indent=2))


def _fail(problem: Problem, arguments: list[str]) -> int:
    """A problem as the command line shows it, without its packages."""
    if "--json" in arguments:
        _emit({"ok": False, "error": problem.as_dict(), "exit_code": problem.exit_code})
        return problem.exit_code
    print(_("error:"), problem, file=sys.stderr)
    if problem.cause:
        print(" ", _("cause:"), problem.cause, file=sys.stderr)
    if problem.mend:
        print(" ", _("mend:"), problem.mend, file=sys.stderr)
    return problem.exit_code


def main(root: Path, arguments: list[str]) -> int:
    """`nlp-skills setup …` before there is anything to run it with."""
    _language(arguments)
    options = _parser().parse_args([word for word in arguments if word != "setup"])
    try:
        made = make(root, options.extra, core=options.core)
    except Problem as problem:
        return _fail(problem, arguments)
    except KeyboardInterrupt:
        print(_("stopped"), file=sys.stderr)
        return 130
    if options.as_json:
        _emit({"ok": True, **asdict(made)})
    else:
        print(describe(made))
    return 0


def say_missing(arguments: list[str]) -> int:
    """The first command of a fresh plugin: nothing is installed unasked."""
    _language(arguments)
    problem = Unavailable(
        _("nlp-skills is not set up on this machine yet"),
        cause=_("its packages go into one environment of their own: {path}", path=str(environment.folder())),
        mend=_("nlp-skills setup (downloads a few GB: PyTorch and what goes with it), then run this again"),
    )
    return _fail(problem, arguments)


def renew(root: Path, arguments: list[str]) -> int:
    """Bring the environment up to date after the plugin was updated, or a set-up was cut short."""
    _language(arguments)
    cut_short = environment.stamp().get("state") != "ready"
    why = _("the last set-up was cut short") if cut_short else _("the plugin has changed")
    print(_("nlp-skills: {why}; bringing its environment up to date", why=why), file=sys.stderr, flush=True)
    try:
        core = environment.stamp().get("extras") == []
        make(root, [], core=core, quiet=not sys.stderr.isatty())
    except Problem as problem:
        return _fail(problem, arguments)
    except KeyboardInterrupt:
        print(_("stopped"), file=sys.stderr)
        return 130
    return 0
