"""A small shop on a chain of stores: what ./scripts/demo runs. Start reading at job.py."""
