"""The benchmark of GPUs refuses to measure without one, and all its code runs on a tiny shape."""

from __future__ import annotations

import json
import os
import subprocess
import sys

from conftest import ROOT

PROGRAM = ROOT / "benchmarks" / "gpu.py"


def ran(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run([sys.executable, str(PROGRAM), *arguments], capture_output=True, text=True, env=environment)


def test_without_a_gpu_it_says_so_and_ends() -> None:
    done = ran()
    assert done.returncode == 3
    assert done.stdout == "" and "there is none here" in done.stderr and "--cpu-smoke" in done.stderr


def test_every_line_runs_on_a_tiny_shape() -> None:
    done = ran("--cpu-smoke")
    assert done.returncode == 0, done.stderr
    *table, last = done.stdout.splitlines()
    lines = json.loads(last)["lines"]
    measured = [line for line in lines if "tokens_s" in line]
    assert all(line["tokens_s"] > 0 and line["mfu"] is None for line in measured)
    assert {line["who"] for line in measured} >= {"ours", "trl"}
    assert {line["adapter"] for line in measured} == {"lora", "full"}
    assert all("not installed" in line["note"] for line in lines if "tokens_s" not in line), lines
    assert len(table) == 1 + len(lines)
