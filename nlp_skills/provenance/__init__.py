"""Provenance: whether what made a version is still there, and whether it makes the same version again.

In: lineage.yaml, the files it names, the store. Out: findings, drawings, a version trained anew beside its original.
"""
