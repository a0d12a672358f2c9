"""`nlp-skills doctor`."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Ran

from nlp_skills.machine import device, doctor


def test_where_everything_is_installed_the_answer_is_yes(project: Path, cli: Callable[..., Ran]) -> None:
    looked = cli("doctor")
    assert looked.code == 0, looked.out
    for name in ("python", "extra train", "device", "disk", "uv", "managed environment"):
        assert name in looked.out


def test_json_has_the_device_in_figures(project: Path, cli: Callable[..., Ran]) -> None:
    looked = cli("doctor", "--json").json
    assert looked["ok"] is True
    assert looked["device"]["kind"] in ("cpu", "cuda", "mps") and looked["device"]["cores"] >= 1


def test_what_is_missing_too_old_or_not_asked_for() -> None:
    requirements = [
        "click>=8",
        "no-such-package>=1; extra == 'data'",
        "click>=99; extra == 'data'",
        "another-one; extra == 'serve'",
        "only-elsewhere; sys_platform == 'win32' and extra == 'data'",
    ]
    assert doctor.missing_packages("data", requirements) == ["no-such-package>=1", "click>=99"]


def test_a_missing_extra_of_the_main_job_is_a_no(monkeypatch: pytest.MonkeyPatch, project: Path) -> None:
    monkeypatch.setattr(doctor, "missing_packages", lambda name, _: ["torch>=2"] if name == "train" else [])
    diagnosis = doctor.diagnose()
    assert not diagnosis.ok
    missing = [check for check in diagnosis.checks if check.ok is False]
    assert [check.name for check in missing] == ["extra train"]
    assert "[train]" in (missing[0].mend or "")


def test_it_imports_nothing_heavy_and_asks_no_network(project: Path) -> None:
    probe = (
        "import socket, sys\n"
        "def refused(*a, **k): raise SystemExit('asked the network')\n"
        "socket.getaddrinfo = socket.create_connection = refused\n"
        "from nlp_skills.machine import doctor; doctor.diagnose()\n"
        "print(sorted({'torch', 'transformers', 'numpy'} & set(sys.modules)))"
    )
    ran = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=False)
    assert ran.stdout.strip() == "[]", ran.stderr


def test_gpus_are_read_from_the_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    driver = tmp_path / "nvidia-smi"
    driver.write_text("#!/bin/sh\necho 'NVIDIA A100-SXM4-80GB, 81920'\necho 'NVIDIA A100-SXM4-40GB, 40960'\n")
    driver.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    found = device.find()
    assert found.kind == "cuda" and len(found.names) == 2
    assert found.memory_gb == pytest.approx(42.9, abs=0.1), "the smallest GPU decides"
