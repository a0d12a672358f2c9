"""What a training will need, before it starts: memory by part, time and cost, and whether it fits.

In: a configuration, a base model's config.json, the task's rows, this machine or a GPU by name. Out: an `Estimate`, a
refusal with the cheapest changes that make it fit, and after a run a line that the next estimate learns from.
"""
