"""Entities and relations in texts."""
