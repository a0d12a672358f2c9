"""Answers that are objects."""
