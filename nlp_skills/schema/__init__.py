"""The task's documents: what may stand in each file, read with line numbers, written with comments kept.

In: YAML and JSON files. Out: validated pydantic models, or one problem that names every wrong line.
Knows no other room; a document is defined here once and nowhere else.
"""
