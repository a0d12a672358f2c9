"""The script that one would write to list the tasks: PyYAML and json over the same files, no checks.

python benchmarks/peers/listing.py safe|c
"""

import datetime as dt
import json
import sys
from pathlib import Path

import yaml

loader = {"safe": yaml.SafeLoader, "c": getattr(yaml, "CSafeLoader", None)}[sys.argv[1]]
rows = []
for path in Path.cwd().glob("*/task.yaml"):
    task = yaml.load(path.read_text(encoding="utf-8"), Loader=loader)
    metric = task["success_criteria"]["primary_metric"]
    results = path.parent / "versions" / task["version"] / "results.json"
    value = json.loads(results.read_text(encoding="utf-8"))["metrics"][metric] if results.exists() else None
    rows.append((task["updated"], task["task_name"], task["status"], task["version"], value))
for updated, name, status, version, value in sorted(rows, reverse=True):
    day = dt.datetime.fromisoformat(str(updated)).astimezone().date()
    print(f"{name:<20} {status:<12} {version:<6} {'-' if value is None else f'{value:.1%}':>7} {day}")
