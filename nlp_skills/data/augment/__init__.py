"""Training rows made from training rows: repeated, with other entities, or in other words.

In: train.jsonl as the split left it, and `augmentation:` of data_source.yaml. Out: further rows, marked with
`_augmented`, for train alone. Nothing is made from valid or test rows, and nothing made resembles one of them.
"""

from nlp_skills.data.augment.steps import apply, summary

__all__ = ["apply", "summary"]
