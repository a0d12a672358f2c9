"""A server over SSH: the link to it, what is there, our files and environment on it.

In: a task whose `execution` names a host. Out: a mirror of the task there, jobs that outlive the link, and what they
made, fetched and verified. Calls `agent`, which it sends there, and Fabric.
"""
