"""A small shop's API on FastAPI."""
