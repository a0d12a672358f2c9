"""How long Claude Code waits for a hook, beside the start of a bare interpreter in the same run.

    python benchmarks/hooks.py [--rounds 20]

Each hook is started as hooks.json starts it, by the launcher, on an event like Claude Code's. Rounds are
interleaved, so that a busy moment hits all of them. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LABELS = ("positive", "neutral", "negative")


def make_task(root: Path, rows: int) -> Path:
    """A task with `rows` training rows, one of them bad, so that the hook always has something to say."""
    task = root / f"rows{rows}" / "sentiment"
    (task / "data").mkdir(parents=True)
    (task / ".nlp-skills").mkdir()
    (task / "task.yaml").write_text("task_name: sentiment\n", encoding="utf-8")
    stat = (task / "task.yaml").stat()
    output = {"label": {"type": "string", "enum": list(LABELS)}}
    digest = {"documents": {"task.yaml": [stat.st_size, stat.st_mtime_ns]}, "fields": ["text"], "output": output}
    (task / ".nlp-skills" / "digest.json").write_text(json.dumps(digest), encoding="utf-8")
    lines = [json.dumps({"text": f"review {n} " + "word " * 30, "label": LABELS[n % 3]}) for n in range(rows - 1)]
    (task / "data" / "train.jsonl").write_text("\n".join([*lines, '{"text": ""}']) + "\n", encoding="utf-8")
    return task


def write_event(task: Path) -> tuple[list[str], dict[str, object], Path]:
    path = task / "data" / "train.jsonl"
    event = {"hook_event_name": "PostToolUse", "tool_name": "Write", "tool_input": {"file_path": str(path)}}
    return ["data_validation"], event, task.parent


def stop_event(program: str, project: Path) -> tuple[list[str], dict[str, object], Path]:
    return [program], {"hook_event_name": "Stop", "stop_hook_active": False}, project


def make_many(root: Path, tasks: int, versions: int) -> Path:
    """A project of many tasks with many measured versions, all told of already."""
    project = root / "many"
    for number in range(tasks):
        task = project / f"task{number}"
        for version in range(1, versions + 1):
            run = task / "versions" / f"v{version}" / "run"
            run.mkdir(parents=True)
            status = {"kind": "train", "state": "completed", "pid": 1, "started": "s", "step": 9, "total_steps": 9}
            (run / "status.json").write_text(json.dumps(status), encoding="utf-8")
            classes = {f"label{n}": {"precision": 0.5, "recall": 0.5, "f1": 0.5, "support": 40} for n in range(30)}
            results = {"created": "c", "metrics": {"macro_f1": 0.5}, "test_rows": 60, "by_class": classes}
            (run.parent / "results.json").write_text(json.dumps(results), encoding="utf-8")
        (task / "task.yaml").write_text(f"task_name: task{number}\nversion: v{versions}\n", encoding="utf-8")
        stat = (task / "task.yaml").stat()
        digest = {"documents": {"task.yaml": [stat.st_size, stat.st_mtime_ns]}, "version": f"v{versions}"}
        (task / ".nlp-skills").mkdir()
        (task / ".nlp-skills" / "digest.json").write_text(json.dumps(digest), encoding="utf-8")
    return project


def start_event(project: Path) -> tuple[list[str], dict[str, object], Path]:
    return ["greeting"], {"hook_event_name": "SessionStart", "source": "startup"}, project


def fire(words: list[str], event: dict[str, object], project: Path) -> tuple[float, bool]:
    """Seconds until the launcher ended, and whether it said something."""
    env = {**os.environ, "CLAUDE_PROJECT_DIR": str(project), "NLP_SKILLS_PYTHON": sys.executable,
           "NLP_SKILLS_HOME": str(project / ".home")}  # fmt: skip
    command = ["sh", "-c", 'sh "$0" "$@"; exit 0', str(ROOT / "hooks" / "run"), *words]
    started = time.perf_counter()
    done = subprocess.run(command, input=json.dumps(event).encode(), env=env, stdout=subprocess.PIPE, check=True)
    return time.perf_counter() - started, bool(done.stdout)


def bare() -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, "-I", "-c", "pass"], check=True)
    return time.perf_counter() - started


def measure(root: Path, rounds: int) -> dict[str, float]:
    """Median milliseconds by case."""
    empty = root / "empty"
    empty.mkdir()
    many = make_many(root, 50, 20)
    small, large = make_task(root, 1_000), make_task(root, 10_000)
    cases = {
        "no task": (stop_event("data_validation", empty), False),
        "no-op, data-validation": (stop_event("data_validation", small.parent), False),
        "no-op, version-tracking": (stop_event("version_tracking", small.parent), False),
        "no task, greeting": (start_event(empty), False),
        "greeting, 50 tasks x 20": (start_event(many), True),
        "1,000 rows": (write_event(small), True),
        "10,000 rows": (write_event(large), True),
    }
    fire(*start_event(many))  # what there is to tell is told once
    fire(*write_event(small))  # the first check is remembered, so that a stop finds nothing new
    times: dict[str, list[float]] = {"python -I -c pass": [], **{name: [] for name in cases}}
    for _round in range(rounds):
        times["python -I -c pass"].append(bare())
        for name, (event, speaks) in cases.items():
            seconds, spoke = fire(*event)
            if spoke != speaks:
                raise SystemExit(f"{name}: the hook {'spoke' if spoke else 'was silent'}; this measures nothing")
            times[name].append(seconds)
    return {name: statistics.median(values) * 1000 for name, values in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder:
        medians = measure(Path(folder), rounds)
    base = medians["python -I -c pass"]
    print(f"median of {rounds}, {sys.executable}")
    for name, value in medians.items():
        print(f"{name:<26}{value:8.1f} ms {value / base:6.2f} x")
    keys = {
        "noop": "no-op, data-validation",
        "1k": "1,000 rows",
        "10k": "10,000 rows",
        "greeting": "greeting, 50 tasks x 20",
    }
    figures = {f"hook_{key}_x_python": round(medians[name] / base, 2) for key, name in keys.items()}
    figures |= {f"hook_{key}_ms": round(medians[name], 1) for key, name in keys.items()}
    print(json.dumps(figures | {"python_ms": round(base, 1)}))


if __name__ == "__main__":
    main()
