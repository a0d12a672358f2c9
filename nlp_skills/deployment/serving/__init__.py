"""The API: a small gateway in front of engines that hold the models.

In: versions that were trained. Out: the task as HTTP calls, OpenAI's chat completions, and versions that are switched
without a request lost. An engine is a process of its own; the gateway starts it, watches it, and ends it.
"""
