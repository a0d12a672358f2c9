"""How good a version gets with how many of its rows, and what more of them would give: should more be labelled?

In: data/{train,valid}.jsonl and versions/vN/config.yaml. Out: versions/vN/learning_curve.json and learning_curve.svg;
nothing else of the task is touched. Calls `schema`, `workspace`, `data`, `training` and `evaluation`.
"""
