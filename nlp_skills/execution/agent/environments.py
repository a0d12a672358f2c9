"""Environments: WORKDIR/envs/KEY/ with what it is made of, the packages, and a stamp once all of it is there and works.

    recipe.json   what to install, written before anything is made
    venv/         the packages; without ready.json a half-made one, which is made anew
    ready.json    what was installed, by which tool, and what it found when it was tried
    failed.json   why the last attempt came to nothing
    used          its time is that of the last use

Our own code is no part of them, since it changes more often than they do: WORKDIR/code/NAME/ is a small environment
that has nlp_skills itself and sees the packages of one of those.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import hashlib
import io
import json
import os
import platform
import re
import shutil
import ssl
import subprocess
import sys
import zipfile
import zlib
from typing import Any, Dict, List, Optional, Sequence, Tuple

Answer = Dict[str, Any]

OLDEST = (3, 11)
# What `uv pip` and `uv sync` are asked for here, older ones do not know.
_OLDEST_UV = (0, 5)
# Kept free while installing, so that a full disk leaves room to say so.
_SPARE_BYTES = 1 << 17
_FULL = ("No space left", "os error 28", "Errno 28", "Disk quota", "os error 122", "Errno 122")
_KEPT_LINES = 15
# Said by tools that cannot be reached by the network, in the words of pip and of uv.
_NO_NETWORK = (
    "dns error",
    "Connection refused",
    "Connection timed out",
    "Temporary failure in name",
    "Network is unre",
)
# Debian packs the latter apart.
_VENV = "import venv, ensurepip; ensurepip.version()"
_CHECK = """
import importlib, importlib.metadata as m, json, platform, re, subprocess, sys
recipe = json.load(sys.stdin)
found = {"python": platform.python_version(), "packages": {}, "sites": [], "missing": [], "cuda": None}
found["sites"] = [p for p in sys.path if p.endswith(("site-packages", "dist-packages"))]
for name in recipe["shown"]:
    try:
        found["packages"][name] = m.version(name)
    except m.PackageNotFoundError:
        pass
try:
    from packaging.requirements import Requirement
except ImportError:
    Requirement = None
for line in recipe["requirements"]:
    name = re.match(r"[\\w.-]+", line)[0]
    try:
        version = m.version(name)
    except m.PackageNotFoundError:
        if ";" not in line:
            found["missing"].append([name, "not installed"])
        continue
    if Requirement and not Requirement(line).specifier.contains(version, prereleases=True):
        found["missing"].append([name, version + " instead of " + line])
for name in recipe["modules"]:
    try:
        importlib.import_module(name)
    except Exception as error:
        found["missing"].append([name, (type(error).__name__ + ": " + str(error))[:300]])
torch = sys.modules.get("torch")
if torch is not None:
    found["cuda"] = {"built": torch.version.cuda, "usable": torch.cuda.is_available(), "gpu": False}
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, timeout=60).stdout
        found["cuda"]["gpu"] = b"UUID" in listed
    except (OSError, subprocess.SubprocessError):
        pass
print("\\n" + json.dumps(found))
"""


class Failure(Exception):
    """An attempt that came to nothing: a word for it, and what was said."""

    def __init__(self, error: str, detail: str = "", path: Optional[str] = None) -> None:
        super().__init__(error)
        self.error, self.detail, self.path = error, detail, path


def environment(workdir: str, recipe: str, code: str, use: bool = False, look: bool = False) -> Answer:
    """Whether an environment of that recipe, and that code for it, are there; `look` names the tools there are too.

    `recipe` and `code` are hashes. `state` is ready, failed or none; `entry` is the interpreter that runs the code.
    """
    place = _place(workdir, recipe)
    answer: Answer = {"place": place, "key": os.path.basename(place), "state": "none", "stamp": None, "failed": None}
    stamp = ready(place)
    if stamp is not None:
        answer.update(state="ready", stamp=stamp)
        if use:
            _touch(os.path.join(place, "used"))
    elif os.path.exists(os.path.join(place, "failed.json")):
        with contextlib.suppress(ValueError):
            answer.update(state="failed", failed=_read(os.path.join(place, "failed.json")))
    entry = os.path.join(_code(workdir, code, place), "bin", "python")
    answer["entry"] = entry if stamp is not None and os.path.exists(entry) else None
    if use and answer["entry"]:
        _touch(os.path.join(_code(workdir, code, place), "used"))
    if look:
        answer["tools"] = {"uv": find_uv(_home(workdir)), "python": [version for _path, version in _pythons()]}
    return answer


def prepare(workdir: str, recipe: str, content: Answer) -> Answer:
    """Write down what an environment is to be made of; answers the job that makes it, and its program."""
    place = _place(workdir, recipe)
    os.makedirs(place, mode=0o700, exist_ok=True)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(os.path.join(place, "failed.json"))
    _write(os.path.join(place, "recipe.json"), content)
    argv = [sys.executable, "-I", os.path.abspath(sys.argv[0]), "make", place]
    return {"place": place, "job": "environment-" + os.path.basename(place), "argv": argv}


def unpack(workdir: str, recipe: str, code: str, content: str) -> Answer:
    """Put our own code beside the packages of a ready environment, whole; `content` is the wheel, zlib, base64."""
    place = _place(workdir, recipe)
    stamp = ready(place)
    if stamp is None:
        return {"ok": False, "error": "no_environment", "path": place}
    target = _code(workdir, code, place)
    fresh = os.path.join(os.path.dirname(target), ".new-" + str(os.getpid()))
    os.makedirs(os.path.dirname(target), mode=0o700, exist_ok=True)
    try:
        _lay_out(fresh, stamp, zlib.decompress(base64.b64decode(content)))
        with contextlib.suppress(OSError):
            os.rename(fresh, target)
    except Failure as failure:
        return {"ok": False, "error": failure.error, "detail": failure.detail, "path": failure.path}
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return {"entry": os.path.join(target, "bin", "python")}


def _lay_out(fresh: str, stamp: Answer, wheel: bytes) -> None:
    shutil.rmtree(fresh, ignore_errors=True)
    _said([stamp["interpreter"], "-I", "-m", "venv", "--without-pip", fresh])
    site = _said([os.path.join(fresh, "bin", "python"), "-I", "-c", "import site; print(site.getsitepackages()[0])"])
    with zipfile.ZipFile(io.BytesIO(wheel)) as archive:
        archive.extractall(site)
    lines = ["import site; site.addsitedir(" + json.dumps(path) + ")\n" for path in stamp["sites"]]
    with open(os.path.join(site, "packages.pth"), "w", encoding="utf-8") as stream:
        stream.writelines(lines)
    _said([os.path.join(fresh, "bin", "python"), "-I", "-c", "import nlp_skills.cli.main"])


def _said(argv: Sequence[str]) -> str:
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip()
        raise Failure(_kind(said, "code"), said.split("\n")[-1][:300], argv[0])
    return done.stdout.decode("utf-8", "replace").strip()


def make(place: str) -> int:
    """Make the environment of a recipe, unless somebody else just did. The program of a job; its lines are for people.

    Its exit code is 0 where the environment is there and works.
    """
    with open(os.path.join(place, "lock"), "w", encoding="utf-8") as lock:
        # Handed on to whatever installs: where this one is killed, the next waits for that to end.
        os.set_inheritable(lock.fileno(), True)
        # A shared home may know no locks; the job's name keeps all but a killed one's successor apart.
        with contextlib.suppress(OSError):
            fcntl.flock(lock, fcntl.LOCK_EX)
        if ready(place) is not None:
            return 0
        return _attempt(place, lock.fileno())


def _attempt(place: str, lock: int) -> int:
    spare, venv = os.path.join(place, "spare"), os.path.join(place, "venv")
    try:
        with open(spare, "wb") as stream:
            stream.write(b"\0" * _SPARE_BYTES)
        recipe = _read(os.path.join(place, "recipe.json"))
        _discard(venv)
        stamp = _Making(place, recipe, lock).made()
        os.unlink(spare)
        _write(os.path.join(place, "ready.json"), stamp)
        _touch(os.path.join(place, "used"))
        return 0
    except (Failure, OSError) as error:
        failure = error if isinstance(error, Failure) else Failure(_kind(str(error), "broken"), str(error))
        if failure.error == "broken":
            failure.path = place
        _discard(venv)
        _discard(os.path.join(_home(os.path.join(place, "..", "..")), "cache", "tmp"))
        with contextlib.suppress(OSError):
            os.unlink(spare)
        print("failed: " + failure.error, flush=True)
        with contextlib.suppress(OSError):
            _write(
                os.path.join(place, "failed.json"),
                {"error": failure.error, "detail": failure.detail, "path": failure.path},
            )
        return 1


def _discard(path: str) -> None:
    shutil.rmtree(path, ignore_errors=True)


class _Making:
    """One attempt, in a place of its own."""

    def __init__(self, place: str, recipe: Answer, lock: int) -> None:
        self.place, self.recipe, self.lock = place, recipe, lock
        self.workdir = os.path.dirname(os.path.dirname(place))
        self.venv = os.path.join(place, "venv")
        self.temporary = os.path.join(self.workdir, "cache", "tmp")
        os.makedirs(self.temporary, mode=0o700, exist_ok=True)

    def made(self) -> Answer:
        given = self.recipe["python"]
        if given:
            return self._tried(os.path.expanduser(given), "given")
        for name, lines in (("requirements.txt", self.recipe["requirements"]), ("pins.txt", self.recipe["pins"])):
            with open(os.path.join(self.place, name), "w", encoding="utf-8") as stream:
                stream.writelines(line + "\n" for line in lines)
        uv = find_uv(self.workdir) or self._bootstrapped()
        if uv:
            self._by_uv(uv)
        else:
            self._by_pip()
        return self._tried(os.path.join(self.venv, "bin", "python"), "uv" if uv else "pip")

    def _bootstrapped(self) -> Optional[str]:
        """A uv of our own, from the package index."""
        into = os.path.join(self.workdir, "uv")
        fresh = os.path.join(into, ".new-" + str(os.getpid()))
        wanted = ["install", "--quiet", "--disable-pip-version-check", "--no-deps", "uv"]
        os.makedirs(into, mode=0o700, exist_ok=True)
        try:
            if _runs([sys.executable, "-m", "pip", "--version"]):
                argv = [sys.executable, "-m", "pip", *wanted, "--target", fresh]
            elif _runs([sys.executable, "-I", "-c", _VENV]):
                self._run([sys.executable, "-I", "-m", "venv", fresh], "installer")
                argv = [os.path.join(fresh, "bin", "python"), "-m", "pip", *wanted]
            else:
                return None
            print("pip install uv", flush=True)
            self._run(argv, "install")
            os.replace(os.path.join(fresh, "bin", "uv"), os.path.join(into, "uv"))
        except Failure as failure:
            if failure.error in ("space", "network"):
                raise
            return None
        finally:
            _discard(fresh)
        return find_uv(self.workdir)

    def _by_uv(self, uv: str) -> None:
        minor = self.recipe["minor"]
        begin = [uv, "venv", "--quiet", "--no-project", "--python"]
        try:
            self._run([*begin, minor, self.venv], "python")
        except Failure as failure:
            if failure.error == "space":
                raise
            # Another one that will do: what is pinned holds for it too.
            _discard(self.venv)
            self._run([*begin, ">=" + ".".join(map(str, OLDEST)), self.venv], "python")
        project = self.recipe["project"]
        if project:
            self._run([*self._project(project, uv), "--python", os.path.join(self.venv, "bin", "python")], "install")
        lists = ["-r", os.path.join(self.place, "requirements.txt"), "-c", os.path.join(self.place, "pins.txt")]
        python = os.path.join(self.venv, "bin", "python")
        self._run([uv, "pip", "install", "--python", python, *lists], "install")

    def _project(self, project: Dict[str, str], uv: str) -> List[str]:
        folder = os.path.join(self.place, "project")
        os.makedirs(folder, exist_ok=True)
        for name in ("pyproject.toml", "uv.lock"):
            with open(os.path.join(folder, name), "w", encoding="utf-8") as stream:
                stream.write(project[name])
        ours = ["--no-install-project", "--no-install-package", "nlp-skills"]
        return [uv, "sync", "--project", folder, "--frozen", "--no-dev", "--inexact", *ours]

    def _by_pip(self) -> None:
        minor = self.recipe["minor"]
        found = _pythons()
        # The one that is of the same minor as at home, else the newest.
        suited = [path for path, version in found if version.startswith(minor + ".")] + [path for path, _v in found]
        with_pip = [path for path in suited if _runs([path, "-I", "-c", _VENV])]
        if not with_pip:
            raise Failure("tools" if found else "python", ", ".join(version for _path, version in found))
        self._run([with_pip[0], "-I", "-m", "venv", self.venv], "install")
        python = os.path.join(self.venv, "bin", "python")
        lists = ["-r", os.path.join(self.place, "requirements.txt"), "-c", os.path.join(self.place, "pins.txt")]
        self._run([python, "-m", "pip", "install", "--disable-pip-version-check", *lists], "install")

    def _tried(self, python: str, tool: str) -> Answer:
        """What the interpreter says of itself, once all that is needed could be imported."""
        print("import " + " ".join(self.recipe["modules"]), flush=True)
        try:
            done = subprocess.run(
                [python, "-I", "-c", _CHECK],
                input=json.dumps(self.recipe).encode(),
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=self._variables(),
            )
        except OSError as error:
            raise Failure("no_such_python", error.strerror or "", python) from error
        said = done.stderr.decode("utf-8", "replace").strip()
        try:
            found: Answer = json.loads(done.stdout.decode("utf-8", "replace").strip().split("\n")[-1])
        except ValueError as error:
            raise Failure(_kind(said, "broken"), said[-600:], python) from error
        if tuple(map(int, found["python"].split(".")[:2])) < OLDEST:
            raise Failure("old_python", found["python"], python)
        if found["missing"]:
            said = "\n".join(name + ": " + why for name, why in found["missing"])
            raise Failure(_kind(said, "given_lacks" if tool == "given" else "import"), said, python)
        found.update(interpreter=python, tool=tool, system=platform.system(), machine=platform.machine())
        return found

    def _variables(self) -> Dict[str, str]:
        """Ours beside the server's own, so that nothing is written outside our folder."""
        cache = os.path.join(self.workdir, "cache")
        found = {name: value for name, value in os.environ.items() if name not in ("VIRTUAL_ENV", "PYTHONPATH")}
        found.update(
            XDG_CACHE_HOME=cache,
            XDG_DATA_HOME=os.path.join(cache, "data"),
            TORCHINDUCTOR_CACHE_DIR=os.path.join(cache, "inductor"),
            TRITON_CACHE_DIR=os.path.join(cache, "triton"),
            UV_CACHE_DIR=os.path.join(cache, "uv"),
            PIP_CACHE_DIR=os.path.join(cache, "pip"),
            PIP_USER="0",
            UV_PYTHON_INSTALL_DIR=os.path.join(self.workdir, "uv", "python"),
            UV_PYTHON_INSTALL_BIN="0",
            UV_PROJECT_ENVIRONMENT=self.venv,
            TMPDIR=self.temporary,
        )
        if self.recipe["python"]:
            found["PYTHONDONTWRITEBYTECODE"] = "1"  # nothing is written into what is not ours
        if os.path.exists(ssl.get_default_verify_paths().cafile or ssl.get_default_verify_paths().openssl_cafile):
            # Where a company's proxy has a certificate of its own, the system knows it.
            found.setdefault("UV_SYSTEM_CERTS", "1")
            found.setdefault("UV_NATIVE_TLS", "1")
        return found

    def _run(self, argv: List[str], stage: str) -> None:
        """Run a tool, its lines on our standard output."""
        with subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=self._variables(),
            cwd=self.place,
            pass_fds=(self.lock,),
        ) as tool:
            assert tool.stdout is not None
            kept: List[str] = []
            for raw in tool.stdout:
                line = raw.decode("utf-8", "replace").rstrip()
                kept = [*kept, line][-_KEPT_LINES:]
                print(line, flush=True)
        if tool.returncode:
            said = "\n".join(kept)
            if _nearly_full(self.workdir):
                raise Failure("space", said, self.workdir)
            raise Failure(_kind(said, stage), said, self.workdir)


def _nearly_full(path: str) -> bool:
    return shutil.disk_usage(path).free < 2 * _SPARE_BYTES


def _kind(said: str, otherwise: str) -> str:
    if any(words in said for words in _FULL):
        return "space"
    return "network" if any(words in said for words in _NO_NETWORK) else otherwise


def ready(place: str) -> Optional[Answer]:
    """The stamp of an environment that is whole; None where there is none."""
    with contextlib.suppress(OSError, ValueError, KeyError):
        stamp = _read(os.path.join(place, "ready.json"))
        if os.path.exists(stamp["interpreter"]):
            return stamp
    return None


def find_uv(workdir: str) -> Optional[str]:
    """A uv that runs and is new enough: on PATH, where its installers put it, or ours."""
    home = os.path.expanduser("~")
    places = [shutil.which("uv"), home + "/.local/bin/uv", home + "/.cargo/bin/uv", os.path.join(workdir, "uv", "uv")]
    for place in places:
        if place and os.path.exists(place):
            with contextlib.suppress(OSError, subprocess.SubprocessError):
                said = subprocess.run([place, "--version"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=30)
                found = re.search(rb"(\d+)\.(\d+)", said.stdout)
                if said.returncode == 0 and found and (int(found[1]), int(found[2])) >= _OLDEST_UV:
                    return place
    return None


def _pythons() -> List[Tuple[str, str]]:
    """Every interpreter that is new enough, (path, version): the one that runs this first, then the newest."""
    names = [sys.executable, "python3"] + ["python3." + str(minor) for minor in range(20, OLDEST[1] - 1, -1)]
    found: Dict[str, str] = {}
    for name in names:
        path = shutil.which(name)
        if path and os.path.realpath(path) not in map(os.path.realpath, found):
            version = _version(path)
            if version and tuple(map(int, version.split(".")[:2])) >= OLDEST:
                found[path] = version
    return list(found.items())


def _version(python: str) -> Optional[str]:
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        argv = [python, "-I", "-c", "import platform; print(platform.python_version())"]
        done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=30)
        found = re.match(rb"\d+\.\d+\.\d+", done.stdout)
        return found[0].decode() if found else None
    return None


def _runs(argv: List[str]) -> bool:
    try:
        done = subprocess.run(
            argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60
        )
    except (OSError, subprocess.SubprocessError):
        return False
    return done.returncode == 0


def _place(workdir: str, recipe: str) -> str:
    """Its folder. Homes are shared between machines, packages of one kind of machine are not good for another."""
    told = "\n".join([recipe, platform.system(), platform.machine(), *platform.libc_ver()[:1]])
    return os.path.join(_home(workdir), "envs", hashlib.sha256(told.encode()).hexdigest()[:16])


def _code(workdir: str, code: str, place: str) -> str:
    return os.path.join(_home(workdir), "code", code + "-" + os.path.basename(place))


def _home(workdir: str) -> str:
    return os.path.abspath(os.path.expanduser(workdir))


def _touch(path: str) -> None:
    with contextlib.suppress(OSError), open(path, "ab"):
        os.utime(path)


def _write(path: str, content: Answer) -> None:
    fresh = path + "." + str(os.getpid()) + ".tmp"
    with open(fresh, "w", encoding="utf-8") as stream:
        json.dump(content, stream)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(fresh, path)


def _read(path: str) -> Answer:
    with open(path, encoding="utf-8") as stream:
        found: Answer = json.load(stream)
    return found
