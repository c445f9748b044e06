"""SQLAlchemy's own tests of its ORM, run without and with the hook on every session."""
