"""Where a step runs, and the runs that outlive whoever started them.

In: a task and a command of ours. Out: a process of its own whose run folder says everything about it. Calls
`schema` and `workspace`; what runs is started as a program.
"""
