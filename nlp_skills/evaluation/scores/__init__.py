"""Scores: from right answers and given ones to figures with 95 % intervals, one module a kind of answer.

In: `gold` and `predicted` of each row. Out: a `Sheet`, which has every metric of all rows or of any resample of them.
"""
