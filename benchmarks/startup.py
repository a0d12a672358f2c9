"""How fast the command line starts and how large its core is: `python benchmarks/startup.py`.

Every figure is the median of 20 runs, taken in turn in one go, beside an empty Python of the same
interpreter. The size is a fresh virtual environment with the core only, without byte code.
Prints a table, and one JSON object as the last line.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RUNS = 20
# Byte code may be written, as for any user: the warm-up run compiles, the measured ones load.
ENVIRON = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
LIMITS = {"import_ms": 50, "help_ms": 150, "core_mb": 25}
COMMANDS = {
    "python -c pass": ["-c", "pass"],
    "import nlp_skills": ["-c", "import nlp_skills"],
    "nlp-skills --help": ["-m", "nlp_skills.cli.main", "--help"],
}


def milliseconds(arguments: list[str]) -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, *arguments], cwd=ROOT, env=ENVIRON, stdout=subprocess.DEVNULL, check=True)
    return (time.perf_counter() - started) * 1000


def medians() -> dict[str, float]:
    """One warm-up each, then all commands in turn, so that a busy moment hits all alike."""
    taken: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for turn in range(RUNS + 1):
        for name, arguments in COMMANDS.items():
            spent = milliseconds(arguments)
            if turn:
                taken[name].append(spent)
    return {name: statistics.median(values) for name, values in taken.items()}


def core_megabytes() -> float | None:
    """The size of site-packages after installing the core alone; None without uv."""
    uv = os.environ.get("UV") or shutil.which("uv")
    if not uv:
        return None
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "venv"
        subprocess.run([uv, "venv", "-q", str(place), "--python", sys.executable], check=True)
        installing = [uv, "pip", "install", "-q", "--python", str(place / "bin" / "python"), str(ROOT)]
        subprocess.run(installing, check=True)
        files = (path for path in next(place.glob("lib/python*/site-packages")).rglob("*") if path.is_file())
        return sum(path.stat().st_size for path in files if "__pycache__" not in path.parts) / 1e6


def main() -> None:
    taken, size = medians(), core_megabytes()
    python, imported, helped = taken.values()
    for name, value in taken.items():
        print(f"{name:<20} {value:7.1f} ms {value / python:6.2f} x python")
    print(f"{'core install':<20} {size:7.1f} MB" if size is not None else "core install: not measured, no uv")
    figures = {
        "import_ms": round(imported, 1),
        "help_ms": round(helped, 1),
        "import_x_python": round(imported / python, 2),
        "help_x_python": round(helped / python, 2),
        "core_mb": None if size is None else round(size, 1),
        "runs": RUNS,
        "load": round(os.getloadavg()[0], 2),
        "limits": LIMITS,
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
