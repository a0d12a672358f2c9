"""How fast tasks and versions are listed, beside the short script that a user would write instead.

    python benchmarks/workspace.py [--tasks 1000] [--versions 20] [--rounds 5]

The workspace is made in a temporary folder, with the files our commands leave. Every figure is the median over the
rounds; in a round all commands take their turn, so that a busy moment hits all alike. Seconds are of the whole
process, from its start until its output is written; CPU seconds are its own, whatever else the machine does. Cold is
the same listing without `.nlp-skills/digest.json`, as after a clone, where every task.yaml has to be parsed and
checked. The files are in the page cache in either case. Prints a table, and one JSON object as the last line.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from nlp_skills.schema import yaml
from nlp_skills.schema.training import Config
from nlp_skills.schema.version import Lineage, Results
from nlp_skills.workspace import create, digest, lineage
from nlp_skills.workspace.folder import TaskFolder

PEER = Path(__file__).resolve().parent / "peers" / "listing.py"
LIMITS = {"list_1000x20_s": 1.0}
SLOW = "script, safe_load"
SLOW_ROUNDS = 2
LABELS = ("正面", "負面", "中立")
START = dt.datetime(2026, 1, 5, 10, tzinfo=dt.timezone(dt.timedelta(hours=8)))
HASH = "sha256:" + "c0ffee" * 10 + "beef"


class Spent(NamedTuple):
    """What one process took, in seconds."""

    wall: float
    cpu: float


def results(task: int, version: int) -> Results:
    """Figures that differ from task to task; nobody measured them."""
    value = 0.5 + (task * 37 + version * 11) % 400 / 1000
    figures = {"precision": value, "recall": value, "f1": value, "support": 53}
    names = ("macro_f1", "accuracy", "micro_f1", "weighted_f1", "balanced_accuracy", "mcc", "valid_answer_probability")
    return Results.model_validate(
        {
            "version": f"v{version}", "created": START, "fingerprint": HASH, "test_sha256": HASH, "test_rows": 160,
            "metrics": dict.fromkeys(names, value),
            "intervals": {name: [value - 0.06, value + 0.06] for name in names[:6]},
            "per_class": dict.fromkeys(LABELS, figures),
            "confusion_matrix": {"labels": LABELS, "counts": [[40, 8, 5], [6, 41, 6], [7, 7, 40]]},
            "baselines": {name: dict.fromkeys(names[:6], 0.4) for name in ("majority", "tfidf_logreg")},
            "success": {"primary_metric": "macro_f1", "value": value, "threshold": 0.8, "met": value >= 0.8},
            "seconds": 44.2, "device": "cpu",
        }
    )  # fmt: skip


def lineage_text(version: int, config: Config, figures: Results) -> str:
    made = Lineage.model_validate(
        {
            "version": f"v{version}", "created": START + dt.timedelta(days=version),
            "parent": f"v{version - 1}" if version > 1 else None,
            "data": {"source_hash": HASH, "train_count": 700, "valid_count": 140, "test_count": 160,
                     "class_distribution": dict.fromkeys(LABELS, 233),
                     "hashes": dict.fromkeys(("train", "valid", "test"), HASH)},
            "config": config.dump(),
            "run": {"state": "completed", "seconds": 161.4, "steps": 60, "peak_memory_gb": 2.1, "device": "cpu",
                    "seed": 42, "threads": 2, "final_loss": 0.212, "by": "lin@bench", "config_hash": HASH},
            "results": lineage.results_section(figures),
            "model": {"adapter_path": f"models/adapter/v{version}",
                      "hashes": {f"models/adapter/v{version}/adapter_model.safetensors": HASH}},
            "environment": {"python": "3.11.7", "torch": "2.15.0", "trl": "1.16.0", "transformers": "5.20.0"},
            "changes": ["LoRA rank 32 → 64", "新增中立樣本 200 筆"],
        }
    )  # fmt: skip
    return yaml.dumps(made.dump())


def history_text(versions: int) -> str:
    """What the steps note in task.yaml: three moves a version."""
    entries, state = [], "created"
    for number in range(1, versions + 1):
        for hour, following in enumerate(("configuring", "training", "evaluating")):
            time_ = (START + dt.timedelta(days=number, hours=hour)).isoformat()
            reason = f"{following} v{number}"
            entries.append({"time": time_, "from": state, "to": following, "version": f"v{number}", "reason": reason})
            state = following
    return yaml.dumps({"history": entries})


def build(root: Path, tasks: int, versions: int) -> None:
    """`tasks` evaluated tasks of `versions` versions each: documents, records and the digest of each."""
    with tempfile.TemporaryDirectory() as folder:
        wish = create.Wish("task-0000", labels=LABELS, fields=("text",), language="zh-TW", domain="finance")
        first = create.new_task(Path(folder), wish)
        text, sources = (path.read_text(encoding="utf-8") for path in (first.task_path, first.sources_path))
    text = text.replace("version: v1", f"version: v{versions}", 1).replace("status: created", "status: evaluating", 1)
    text += history_text(versions)
    config = Config(base_model="Qwen/Qwen3-4B")
    config_text = yaml.dumps(config.dump())
    lineages = [lineage_text(number, config, results(0, number)) for number in range(1, versions + 1)]
    for task in range(tasks):
        name = f"task-{task:04d}"
        place = root / name
        for number in range(1, versions + 1):
            version = place / "versions" / f"v{number}"
            version.mkdir(parents=True)
            (version / "config.yaml").write_text(config_text, encoding="utf-8")
            (version / "lineage.yaml").write_text(lineages[number - 1], encoding="utf-8")
            figures = json.dumps(results(task, number).dump(), ensure_ascii=False, indent=2)
            (version / "results.json").write_text(figures, encoding="utf-8")
        (place / "task.yaml").write_text(text.replace("task-0000", name), encoding="utf-8")
        (place / "data_source.yaml").write_text(sources, encoding="utf-8")
        digest.write(TaskFolder.at(place))


def run(command: list[str], root: Path) -> Spent:
    """Start a command in the workspace and wait for it; it must succeed and print something."""
    env = {**os.environ, "NLP_SKILLS_LANG": "en"}
    with tempfile.TemporaryFile() as out:
        started = time.perf_counter()
        process = subprocess.Popen([sys.executable, *command], cwd=root, env=env, stdout=out)
        _pid, status, usage = os.wait4(process.pid, 0)
        spent = Spent(time.perf_counter() - started, usage.ru_utime + usage.ru_stime)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode or not out.tell():
            raise SystemExit(f"{command} ended with {process.returncode}; this measures nothing")
    return spent


def medians(commands: dict[str, list[str]], root: Path, rounds: int) -> dict[str, Spent]:
    """One warm-up each, then all commands in turn; the slow one, of some twenty seconds, only in the first turns."""
    taken: dict[str, list[Spent]] = {name: [] for name in commands}
    for turn in range(rounds + 1):
        for name, command in commands.items():
            if name == SLOW and not 0 < turn <= SLOW_ROUNDS:
                continue
            spent = run(command, root)
            if turn:
                taken[name].append(spent)
    return {
        name: Spent(statistics.median(one.wall for one in spent), statistics.median(one.cpu for one in spent))
        for name, spent in taken.items()
    }


def measure(root: Path, tasks: int, rounds: int) -> dict[str, Spent]:
    """Seconds by command: with the digests, then without."""
    ours = ["-m", "nlp_skills.cli.main"]
    fast = ["-c", "import yaml; yaml.CSafeLoader"]
    if subprocess.run([sys.executable, *fast], check=False, capture_output=True).returncode:
        raise SystemExit("PyYAML has no C parser here; the comparison would be too kind to us")
    with_digests = {
        "tasks": [*ours, "tasks"],
        "tasks --json": [*ours, "tasks", "--json"],
        "script, CSafeLoader": [str(PEER), "c"],
        SLOW: [str(PEER), "safe"],
        "history": [*ours, "history", "task-0000"],
        "use": [*ours, "use", f"task-{tasks - 1:04d}"],
        "python -c print()": ["-c", "print()"],
    }
    found = medians(with_digests, root, rounds)
    for path in root.glob("*/.nlp-skills/digest.json"):
        path.unlink()
    without = {"tasks, cold": with_digests["tasks"], "script, beside cold": with_digests["script, CSafeLoader"]}
    return found | medians(without, root, rounds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", type=int, default=1000)
    parser.add_argument("--versions", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=5)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        build(Path(folder), chosen.tasks, chosen.versions)
        load = os.getloadavg()[0]
        taken = measure(Path(folder), chosen.tasks, chosen.rounds)
    print(f"{chosen.tasks} tasks x {chosen.versions} versions, load {load:.2f}")
    print(f"median of {chosen.rounds}; of {SLOW_ROUNDS} for {SLOW}")
    for name, spent in taken.items():
        print(f"{name:<22}{spent.wall:8.3f} s {spent.cpu:8.3f} CPU s")
    listed, cold = taken["tasks"], taken["tasks, cold"]
    figures = {
        f"list_{chosen.tasks}x{chosen.versions}_s": round(listed.wall, 3),
        "list_cpu_s": round(listed.cpu, 3),
        "list_json_s": round(taken["tasks --json"].wall, 3),
        "list_cold_s": round(cold.wall, 3),
        "list_cold_cpu_s": round(cold.cpu, 3),
        "script_csafe_x_list": round(taken["script, CSafeLoader"].cpu / listed.cpu, 1),
        "script_safe_load_x_list": round(taken[SLOW].cpu / listed.cpu, 1),
        "script_csafe_x_cold": round(taken["script, beside cold"].cpu / cold.cpu, 2),
        "history_s": round(taken["history"].wall, 3),
        "use_s": round(taken["use"].wall, 3),
        "python_s": round(taken["python -c print()"].wall, 3),
        "rounds": chosen.rounds,
        "load": [round(load, 2), round(os.getloadavg()[0], 2)],
        "limits": LIMITS,
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
