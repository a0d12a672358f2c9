"""What runs on a server that has nothing of ours yet: one file, made of this package, under its own Python.

The standard library only, in the syntax of Python 3.8; nothing in here imports the rest of nlp_skills. A command
takes a JSON object on standard input and answers with one on standard output; words for people are made at home.
"""
