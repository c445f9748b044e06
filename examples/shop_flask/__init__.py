"""A small shop's API on Flask."""
