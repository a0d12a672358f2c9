"""Rows: fetched from sources, merged, freed of duplicates, split, checked and rendered for a model.

In: data_source.yaml and what it points at. Out: data/{train,valid,test}.jsonl, a report on them, a
snapshot for the lineage, and prompts. Calls `schema` and `workspace`; knows nothing of training.
"""
