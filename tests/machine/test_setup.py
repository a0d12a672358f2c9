"""The managed environment: made, kept up to date, made again after an interruption; with uv and without."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import ROOT, Ran
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from nlp_skills.machine import pins, setup


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home" / ".local" / "share" / "nlp-skills"


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_set_up_then_updated_then_cut_short(launch: Callable[..., Ran], plugin: Path, home: Path) -> None:
    before = snapshot(plugin)
    made = launch("setup", "--core", "--json")
    assert made.code == 0, made.err
    assert made.json["tool"] == "uv" and made.json["extras"] == []
    assert snapshot(plugin) == before, "the plugin's own folder is not written to"

    looked = launch("doctor", "--json")
    assert looked.code == 1, "the core alone does not train"
    train = next(check for check in looked.json["checks"] if check["name"] == "extra train")
    assert train["mend"] == "nlp-skills setup --extra train"
    managed = next(check for check in looked.json["checks"] if check["name"] == "managed environment")
    assert managed["ok"] is True

    module = plugin / "nlp_skills" / "__init__.py"
    module.write_text(module.read_text().replace('__version__ = "', '__version__ = "99.'))
    updated = launch("--version")
    assert "99." in updated.out and len(updated.err.splitlines()) == 1, updated.err
    assert launch("--version").err == ""

    stamp = json.loads((home / "env.json").read_text())
    (home / "env.json").write_text(json.dumps({**stamp, "state": "running"}))
    shutil.rmtree(home / "env" / "lib")
    again = launch("--version")
    assert again.code == 0 and "99." in again.out and "cut short" in again.err


def test_without_uv_it_is_venv_and_pip_with_the_locks_versions(
    launch: Callable[..., Ran], environ: dict[str, str], home: Path, tmp_path: Path
) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("sh", "readlink"):
        (tools / name).symlink_to(shutil.which(name) or "")
    base = getattr(sys, "_base_executable", sys.executable)
    (tools / "python3").write_text(f'#!/bin/sh\nexec "{base}" "$@"\n')
    (tools / "python3").chmod(0o755)
    made = launch("setup", "--core", "--json", PATH=str(tools), UV="")
    assert made.code == 0, made.err
    assert made.json["tool"] == "pip"
    listed = subprocess.run(
        [str(home / "env" / "bin" / "python"), "-m", "pip", "freeze"], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    third_party = {
        canonicalize_name(line.split("==")[0]) + "==" + line.split("==")[1] for line in listed if "==" in line
    }
    assert third_party and third_party <= set(pins.pins(ROOT / "uv.lock"))
    assert launch("--version", PATH=str(tools), UV="").code == 0


def test_two_at_once_take_turns(plugin: Path, environ: dict[str, str]) -> None:
    command = [str(plugin / "bin" / "nlp-skills"), "setup", "--core", "--json"]
    both = [subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(2)]
    ended = [(one.communicate(), one.returncode) for one in both]
    assert [code for _, code in ended] == [0, 0], ended
    assert all(json.loads(out)["ok"] for (out, _), _ in ended)


def test_an_unknown_extra_names_the_known_ones(launch: Callable[..., Ran], home: Path) -> None:
    asked = launch("setup", "--extra", "trian")
    assert asked.code == 2
    assert "trian" in asked.err and "train" in asked.err
    assert not (home / "env.json").exists()


def test_a_set_up_that_fails_names_the_cause_and_is_tried_again(launch: Callable[..., Ran], plugin: Path) -> None:
    lock = plugin / "uv.lock"
    whole = lock.read_bytes()
    lock.write_bytes(whole[:2000])
    failed = launch("setup", "--core")
    assert failed.code == 3 and "mend:" in failed.err and "Traceback" not in failed.err
    lock.write_bytes(whole)
    assert launch("--version").code == 0


def test_extras_add_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NLP_SKILLS_HOME", str(tmp_path))
    assert setup.wanted(ROOT, [], core=False) == ["data", "quality", "train"]
    (tmp_path / "env.json").write_text(json.dumps({"state": "ready", "extras": ["data"]}))
    assert setup.wanted(ROOT, ["serve"], core=False) == ["data", "serve"]
    assert setup.wanted(ROOT, [], core=True) == []


def test_both_front_doors_take_the_same_options() -> None:
    from nlp_skills.cli.machine import setup as command

    early = {name for action in setup._parser()._actions for name in action.option_strings} - {"-h"}
    late = {name for parameter in command.params for name in parameter.opts} | {"--help"}
    assert early == late


def test_the_known_extras_are_pyprojects() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert setup.known_extras(ROOT) == sorted(project["optional-dependencies"])


def test_pins_keep_the_markers_that_choose_between_versions() -> None:
    parsed = [Requirement(line) for line in pins.pins(ROOT / "uv.lock")]
    chosen = [one.name for one in parsed if one.marker is None or one.marker.evaluate()]
    assert len(chosen) == len(set(chosen)), "one version of each package is in force on this machine"
    assert "nlp-skills" not in chosen and {"torch", "numpy"} <= set(chosen)
