"""The two programs Claude Code starts: data-validation and version-tracking.

In: an event on standard input, the files of a task. Out: facts for the model and one line for the
person, or silence. Standard library only, Python 3.9 and later; they read files and start the CLI.
"""
