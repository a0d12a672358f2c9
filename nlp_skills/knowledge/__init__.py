"""What is known about base models, methods and tasks, each fact with its source and the day it was checked.

In: `models.yaml`, the user's own file of that name, and `topics/`, Markdown in two languages. Out: entries of the
catalogue, passages that answer a search, the tables of the documents. Calls `schema`; needs neither torch nor a hub.
"""
