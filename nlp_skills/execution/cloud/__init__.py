"""Machines rented for one run, by SkyPilot: what to launch, what runs on each node, what it costs, its end.

In: a task whose `execution` names a provider. Out: configs/sky/vN.yaml, which `sky launch` takes by hand too, and a
cluster that `ssh` speaks to as to any server. SkyPilot is a program of its own (`sky`), not a library of ours.
"""
