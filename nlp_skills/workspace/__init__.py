"""Many tasks, many versions: where they are, what state they are in, what made them, how they differ.

In: a task folder. Out: its paths, its documents, its legal moves and its lineage.
Calls `schema` only; knows nothing of models, data rows or terminals.
"""
