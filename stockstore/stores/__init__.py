"""Stores: what users call."""
