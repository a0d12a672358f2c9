"""How good a version is, whether it beats another, and how sure we can be; in files and in one HTML page.

In: a trained version and data/test.jsonl. Out: predictions.jsonl, results.json, report.html.
Calls `schema`, `workspace`, `data` and training's base model and device; never a terminal.
"""
