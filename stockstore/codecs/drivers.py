"""Values of classes that a database driver has of its own."""

import uuid


def is_uuid_of_driver(cls: type) -> bool:
    """Whether that is asyncpg's own class for what equals a UUID, of which programs hardly know; it comes back as a plain one."""
    return issubclass(cls, uuid.UUID) and cls.__module__ == "asyncpg.pgproto.pgproto"
