"""From curves, data, configuration and errors to ranked findings, each with its evidence and the change it proposes.

In: a task's files and the records of a version. Out: findings as plain data. Asks no model, changes nothing.
Calls `schema`, `workspace`, `data`, `training`'s records, `learning_curve`'s file and `evaluation`.
"""
