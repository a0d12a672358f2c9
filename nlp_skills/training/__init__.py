"""Fine-tuning one version of a task: checked first, interruptible at any step, recorded as it goes.

In: data/*.jsonl, versions/vN/config.yaml and a base model. Out: models/adapter/vN (or models/merged/vN),
run/*, model_info.json and the lineage's sections. Calls `schema`, `workspace` and `data`.
"""
