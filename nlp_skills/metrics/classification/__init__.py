"""One label a row."""
