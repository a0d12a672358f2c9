"""The programs Claude Code starts: data-validation, version-tracking, the greeting, and the watcher beside a session.

In: an event on standard input, the files of a task. Out: facts for the model and one line for the person, or silence;
of each start a line in a log. Standard library only, Python 3.9 and later; they read files and start the CLI.
"""
