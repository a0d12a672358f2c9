"""The files that run a gateway elsewhere: what they start answers, with nothing beside it but what they take along.

No container runs here: what the Dockerfile copies is copied, and its entry point is started there.
"""

from __future__ import annotations

import fnmatch
import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx2
import pytest
import yaml
from conftest import Ran

from nlp_skills.deployment.serving.emit import contents, emit, images
from nlp_skills.deployment.serving.settings import Settings
from nlp_skills.errors import Invalid, Usage
from nlp_skills.workspace.folder import TaskFolder

_NOBODY = 65534
_KEY = "nlps_of-this-test"


def _free() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@contextmanager
def _answering(command: list[str], port: int, **started: Any) -> Iterator[subprocess.Popen[str]]:
    """A command that was started, once the gateway is ready."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **started)
    try:
        for _try in range(600):
            assert process.poll() is None, process.communicate()
            with suppress(httpx2.TransportError):
                if httpx2.get(f"http://127.0.0.1:{port}/readyz").status_code == 200:
                    break
            time.sleep(0.1)
        yield process
    finally:
        process.terminate()
        try:
            process.wait(30)
        finally:
            process.kill()


def _recorded(folder: TaskFolder, version: str) -> list[tuple[dict[str, Any], Any]]:
    """Rows of the test and what the version said to them when it was evaluated."""
    said = [json.loads(line) for line in folder.version(version).predictions_path.read_text().splitlines()]
    return [(one["input"], one["predicted"]) for one in said[:6]]


def _said(port: int, rows: list[dict[str, Any]], key: str | None = None) -> list[Any]:
    headers = {"authorization": f"Bearer {key}"} if key else {}
    found = httpx2.post(f"http://127.0.0.1:{port}/api/v1/predict", json=rows, headers=headers, timeout=60)
    assert found.status_code == 200, found.text
    return [one["answer"]["label"] for one in found.json()["predictions"]]


def _instructions(place: Path) -> list[tuple[str, str]]:
    lines = [line for line in (place / "Dockerfile").read_text().splitlines() if line]
    return [(word, rest) for word, _space, rest in (line.partition(" ") for line in lines)]


def _let_in(root: Path, place: Path) -> set[str]:
    """What the builder is sent: the last pattern that fits a path decides."""
    lines = [line for line in (place / images.IGNORED).read_text().splitlines() if line and not line.startswith("#")]
    assert lines[0] == "**"
    allowed = [line.removeprefix("!") for line in lines[1:]]
    assert all(line.startswith("!") for line in lines[1:])
    paths = {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}
    found = {path for path in paths if any(fnmatch.fnmatchcase(path, one) for one in allowed)}
    assert found == set(allowed)
    return found


def _built(root: Path, place: Path, image: Path) -> list[str]:
    """Copy what the Dockerfile copies, out of what the builder is sent; the entry point comes back."""
    sent, entry = _let_in(root, place), []
    for word, rest in _instructions(place):
        if word == "COPY":
            *sources, target = json.loads(re.sub(r"^--chown=\S+ ", "", rest))
            assert set(sources) <= sent
            for source in sources:
                to = image / target.lstrip("/") / (Path(source).name if target.endswith("/") else "")
                to.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(root / source, to)
        if word == "ENTRYPOINT":
            entry = json.loads(rest)
    assert entry[0] == "python"
    return [sys.executable, *entry[1:]]


def _environment(**more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("NLP_SKILLS")}
    return {**kept, "NLP_SKILLS_DETERMINISTIC": "1", "OMP_NUM_THREADS": "1", "HOME": "/tmp", **more}


def _other_user(image: Path) -> list[str] | None:
    """What runs a command as somebody who may write nowhere in the folder; None where nobody else can be had."""
    for path in (image, *image.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    if os.geteuid():
        return []
    other = ["setpriv", f"--reuid={_NOBODY}", f"--regid={_NOBODY}", "--clear-groups"]
    # Root's own interpreter may be where others cannot look: then they may look everywhere, and still write nowhere.
    looks = ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
    twice = "import subprocess, sys, os; os.stat(sys.argv[1]); subprocess.run([sys.executable, '-c', ''], check=True)"
    for found in (other, [*other, *looks]):
        with suppress(OSError):
            if not subprocess.run([*found, sys.executable, "-c", twice, str(image)], capture_output=True).returncode:
                return found
    return None


@pytest.fixture
def emitted(servable: TaskFolder, tmp_path: Path) -> tuple[int, Path, list[str]]:
    """A port, the folder that stands for an image's, and the entry point."""
    (servable.root / ".env").write_text("SECRET=1")
    port = _free()
    done = emit(servable, Settings(port=port), "docker")
    assert done.versions == ("v2", "v1")
    return port, tmp_path / "image", _built(servable.root, done.place, tmp_path / "image")


def test_an_image_answers_as_measured_where_it_may_write_nothing(
    servable: TaskFolder, emitted: tuple[int, Path, list[str]]
) -> None:
    port, image, command = emitted
    task = image / "srv/task"
    assert not list(image.rglob(".env"))
    assert not (task / "data").exists()
    # Without keys it would be open to all; it says how to make one.
    done = subprocess.run(command, cwd=task, env=_environment(), capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "NLP_SKILLS_API_KEYS" in done.stderr
    as_other = _other_user(image)
    known = _environment(NLP_SKILLS_API_KEYS=_KEY)
    asked = _recorded(servable, "v2")
    rows = [row for row, _said_then in asked]
    before = sorted(image.rglob("*"))
    with _answering([*(as_other or []), *command], port, cwd=task, env=known) as process:
        assert httpx2.post(f"http://127.0.0.1:{port}/api/v1/predict", json=rows[0]).status_code == 401
        assert _said(port, rows, _KEY) == [said for _row, said in asked]
        process.terminate()
        _out, err = process.communicate(timeout=30)
        assert process.returncode == 0
    assert "Traceback" not in err
    if as_other is not None:
        assert "not noted in the task" in err
        assert sorted(image.rglob("*")) == before
    # The other version is inside, so that one can go back to it.
    asked = _recorded(servable, "v1")
    with _answering([*(as_other or []), *command, "--version", "v1"], port, cwd=task, env=known):
        assert _said(port, [row for row, _said_then in asked], _KEY) == [said for _row, said in asked]


def test_an_image_of_transformers_takes_the_base_model_along(
    servable: TaskFolder, tuned_base: Path, tmp_path: Path
) -> None:
    shutil.copytree(tuned_base, servable.root / "models/base")
    path = servable.version("v2").model_info_path
    path.write_text(path.read_text().replace(json.dumps(str(tuned_base)), '"models/base"'))
    port, image = _free(), tmp_path / "image"
    done = emit(servable, Settings(port=port, engine="transformers", version="v2"), "docker")
    command = _built(servable.root, done.place, image)
    assert not list(image.rglob("*.gguf"))
    asked = _recorded(servable, "v2")
    known = _environment(NLP_SKILLS_API_KEYS=_KEY)
    with _answering([*(_other_user(image) or []), *command], port, cwd=image / "srv/task", env=known):
        assert _said(port, [row for row, _said_then in asked], _KEY) == [said for _row, said in asked]


def test_what_a_builder_reads_is_safe_and_pinned(servable: TaskFolder, cli: Callable[..., Ran]) -> None:
    done = cli("serve", str(servable.root), "--emit", "docker", "--json")
    assert done.code == 0, done.err
    assert set(done.json["files"].values()) == {"written"}
    place = Path(done.json["folder"])
    assert place == servable.root / "deploy/docker"
    told = dict(_instructions(place))
    assert told["FROM"] == f"python:{sys.version_info.major}.{sys.version_info.minor}-slim"
    assert told["USER"].split(":")[0] not in ("0", "root")
    assert told["EXPOSE"] == "8000"
    for word, rest in _instructions(place):
        if word in ("RUN", "ENTRYPOINT", "COPY", "HEALTHCHECK"):
            assert isinstance(json.loads(rest[rest.index("[") :]), list), "a shell would read it"
    check = json.loads(told["HEALTHCHECK"].partition("CMD ")[2])
    assert subprocess.run([sys.executable, *check[1:]], capture_output=True).returncode == 1
    first, *pins = (place / "requirements.txt").read_text().split()
    (packed,) = place.glob("*.whl")
    assert first == f"./{packed.name}[llamacpp,serve]"
    assert zipfile.ZipFile(packed).testzip() is None
    assert all(re.fullmatch(r"[\w.-]+==[\w.!]+", pin) for pin in pins)
    assert {"fastapi", "uvicorn", "xllamacpp"} <= {pin.partition("==")[0] for pin in pins}
    api = yaml.safe_load((place / "compose.yaml").read_text())["services"]["api"]
    assert api["ports"] == ["127.0.0.1:8000:8000"]
    assert (place / api["build"]["context"]).resolve() == servable.root
    assert (servable.root / api["build"]["dockerfile"]).samefile(place / "Dockerfile")
    assert (api["read_only"], api["restart"]) == (True, "unless-stopped")
    assert "docker compose up" in (place / "README.md").read_text()


def test_what_a_person_changed_stays(servable: TaskFolder, cli: Callable[..., Ran]) -> None:
    command = ("serve", str(servable.root), "--emit", "docker")
    assert cli(*command).code == 0
    again = cli(*command, "--json")
    assert set(again.json["files"].values()) == {"unchanged"}
    compose = servable.root / "deploy/docker/compose.yaml"
    compose.write_text("# mine\n")
    third = cli(*command, "--port", "8001")
    assert third.code == 0
    assert compose.read_text() == "# mine\n"
    assert "127.0.0.1:8001:8001" in compose.with_name("compose.yaml.new").read_text()
    assert "compose.yaml.new" in third.err


def test_what_cannot_go_into_an_image_is_said(servable: TaskFolder, tmp_path: Path, cli: Callable[..., Ran]) -> None:
    with pytest.raises(Invalid, match="outside of the task folder"):
        emit(servable, Settings(engine="transformers"), "docker")
    with pytest.raises(Invalid, match="no GGUF file") as refused:
        emit(servable, Settings(quantization="q4_k_m"), "docker")
    assert "nlp-skills export" in (refused.value.mend or "")
    with pytest.raises(Usage, match="leaves the task folder"):
        emit(servable, Settings(), "docker", tmp_path / "elsewhere")
    with pytest.raises(Usage, match="folder of their own"):
        emit(servable, Settings(), "docker", servable.root)
    with pytest.raises(Invalid, match="cannot name"):
        emit(servable, Settings(), "docker", servable.root / "a[b]")
    with pytest.raises(Usage, match="no keys go into an image"):
        emit(servable, Settings(keys_file=tmp_path / "keys.json"), "docker")
    assert cli("serve", str(servable.root), "--emit", "docker", "--port", "0").code == 2
    assert cli("serve", str(servable.root), "--out", "x").code == 2
    assert not (servable.root / "deploy").exists()


def test_lists_of_labels_go_along_without_the_texts() -> None:
    class Several:
        """Stands in for a version whose answers are lists of labels."""

        kind = "labels"
        info = SimpleNamespace(output_format=SimpleNamespace(schema_={"topics": None}))

        def learnt(self) -> Iterator[dict[str, Any]]:
            for topics in (["food"], ["food", "price"], ["food"]):
                yield {"text": "of a person", "topics": topics}

    found = contents.labels(Several())  # type: ignore[arg-type]
    assert [json.loads(line) for line in found.splitlines()] == [{"topics": ["food"]}, {"topics": ["food", "price"]}]


def _words(line: str) -> list[str]:
    """A command line as systemd reads one whose first word begins with a colon: quotes, backslashes, per cent."""
    words = re.findall(r'"((?:[^"\\]|\\.)*)"', line)
    assert " ".join(f'"{word}"' for word in words) == line
    plain = [re.sub(r"\\(.)", r"\1", word) for word in words]
    assert not any(re.search("%(?!%)", word.replace("%%", "")) for word in plain)
    assert plain[0].startswith(":/")
    return [word.replace("%%", "%") for word in [plain[0][1:], *plain[1:]]]


def _unit(place: Path) -> tuple[Path, dict[str, str]]:
    (path,) = place.glob("*.service")
    lines = path.read_text().splitlines()
    return path, dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))


def test_a_unit_starts_what_answers_whatever_the_folder_is_called(servable: TaskFolder) -> None:
    folder = TaskFolder.at(servable.root.rename(servable.root.with_name("größe 100% \"a'b\\c $HOME")))
    port = _free()
    done = emit(folder, Settings(port=port, grace_s=50, engine="llama.cpp"), "systemd")
    path, unit = _unit(done.place)
    assert int(unit["TimeoutStopSec"]) > 50
    assert (unit["NoNewPrivileges"], unit["ProtectSystem"], unit["PrivateTmp"]) == ("yes", "strict", "yes")
    assert unit["EnvironmentFile"].startswith("-/")
    assert path.name in (done.place / "README.md").read_text()
    asked = _recorded(folder, "v2")
    with _answering(_words(unit["ExecStart"]), port, cwd="/", env=_environment()) as process:
        assert _said(port, [row for row, _said_then in asked]) == [said for _row, said in asked]
        process.terminate()
        # systemd takes any other code for a failure.
        assert process.wait(30) == 0


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd here")
@pytest.mark.parametrize("name", ["reviews", "größe 100% $HOME", "a\"b\\c'"])
def test_systemd_finds_nothing_wrong_with_it(released: TaskFolder, name: str) -> None:
    folder = TaskFolder.at(released.root.rename(released.root.with_name(name)))
    path, _settings = _unit(emit(folder, Settings(), "systemd").place)
    done = subprocess.run(["systemd-analyze", "verify", str(path)], capture_output=True, text=True, timeout=30)
    assert path.name not in done.stderr + done.stdout
    assert done.returncode == 0, done.stderr


_SYSTEMD = Path("/lib/systemd/systemd")


@pytest.mark.skipif(not _SYSTEMD.is_file(), reason="there is no systemd here")
def test_systemd_itself_reads_what_was_meant(released: TaskFolder) -> None:
    folder = TaskFolder.at(released.root.rename(released.root.with_name("größe 100% \"a'b\\c $HOME")))
    path, unit = _unit(emit(folder, Settings(), "systemd").place)
    with tempfile.TemporaryDirectory(dir="/tmp") as place:
        Path(place).chmod(0o755)
        shutil.copy(path, place)
        # It tells what it would do, to anybody but root.
        command = [str(_SYSTEMD), "--test", "--system", "--no-pager", f"--unit={path.name}"]
        if not os.geteuid():
            command = ["setpriv", f"--reuid={_NOBODY}", f"--regid={_NOBODY}", "--clear-groups", *command]
        known = {**os.environ, "SYSTEMD_UNIT_PATH": f"{place}:", "XDG_RUNTIME_DIR": place, "HOME": place}
        done = subprocess.run(command, env=known, capture_output=True, text=True, timeout=60)
    _before, found, told = done.stdout.partition(f"-> Unit {path.name}:")
    if not found:
        pytest.skip("this systemd does not tell")
    told = told.partition("-> Unit ")[0]
    (writable, *_more) = re.findall(r"ReadWritePaths: (/.*)", told)
    # And where base models are fetched to.
    assert writable.startswith(f"{folder.root} -/")
    (line,) = re.findall(r"Command Line: (.*)", told)
    # Told as a shell would take it, where a dollar sign has a backslash too.
    words = shlex.split(line.replace("\\$", "$"))
    assert words == _words(unit["ExecStart"])
    assert str(folder.root) in words


def test_a_name_that_would_write_settings_of_its_own_is_refused(released: TaskFolder) -> None:
    folder = TaskFolder.at(released.root.rename(released.root.with_name("a\nExecStartPre=x")))
    with pytest.raises(Invalid, match="cannot name"):
        emit(folder, Settings(), "systemd")
