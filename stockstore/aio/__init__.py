"""Stores under asyncio: one implementation for both, by SQLAlchemy's greenlet bridge."""
