"""The task folder's own tools: scripts 01-06, its pyproject.toml and the wheel it was made with.

In: a task folder with task.yaml. Out: a folder that runs its steps anywhere, with nothing else installed.
Calls `schema` and `workspace`; never overwrites what a user changed.
"""
