"""`datasets`: load the JSON file, then look at every row in batches."""

import sys
import tempfile
from collections import Counter

import datasets
from _task import LABEL, LEAST, finish, path

datasets.disable_progress_bars()
found: Counter[str] = Counter()
counts: Counter[str] = Counter()
seen: set[tuple[str, str]] = set()


def look(batch: dict[str, list[str]]) -> None:
    for text, label in zip(batch["text"], batch["label"], strict=True):
        found["missing_field"] += text is None or label is None
        found["unknown_label"] += label is not None and label not in LABEL[1]
        found["too_short"] += text is not None and len(text) < LEAST
        found["duplicate"] += (text, label) in seen
        seen.add((text, label))
        counts[label] += 1


with tempfile.TemporaryDirectory() as cache:
    try:
        rows = datasets.load_dataset("json", data_files=path(), split="train", cache_dir=cache)
    except Exception as error:  # whatever stops it is what we report
        sys.exit(f"{type(error).__name__}: {error.__cause__ or error}")
    rows.map(look, batched=True)
finish({kind: count for kind, count in found.items() if count}, {label: counts[label] for label in LABEL[1]})
