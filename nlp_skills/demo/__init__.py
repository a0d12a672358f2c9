"""The whole way once, on real weights and real reviews: what a newcomer watches first.

In: an empty folder and a package index. Out: a task with two trained, measured, compared versions.
Runs the same commands a user would type; each is skipped when what it makes is there.
"""
