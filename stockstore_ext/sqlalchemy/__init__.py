"""The SQLAlchemy session hook: keeps caches true while the application simply uses its sessions."""
