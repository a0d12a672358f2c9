"""What the coach computes: from an agreed goal, the data as they are and a machine to a proposal with its reasons.

In: task_summary.yaml, files of labelled rows, `rules.yaml`, the catalogue of models, the estimate of memory and
hours, this user's earlier tasks. Out: a `Recommendation`, or what is wrong with the answers and what to do; a task
where asked.
"""
