"""Generated texts."""
