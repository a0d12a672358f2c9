"""Asking models: one interface, one module a backend, and answers that survive an interruption.

In: a `Scorer` and questions. Out: an `Answer` a row, as it is written into predictions.jsonl.
"""
