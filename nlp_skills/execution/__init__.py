"""Where a step runs, here or on another machine, and the runs that outlive whoever started them.

In: a task and a command of ours. Out: a process of its own whose run folder says everything about it, brought home
where it ran elsewhere. Calls `schema` and `workspace`, and `scaffold` and `machine.pins` for what is installed on a
server; what runs is started as a program.
"""
