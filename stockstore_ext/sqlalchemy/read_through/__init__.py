"""Reads of sessions, answered from the caches."""

from typing import Any

from sqlalchemy.orm import Session

from stockstore.stores.base import Store
from stockstore_ext.sqlalchemy.caches import origin_engine
from stockstore_ext.sqlalchemy.read_through.classes import Classes, named_classes
from stockstore_ext.sqlalchemy.read_through.database import OwnDatabase, ShardDatabase
from stockstore_ext.sqlalchemy.read_through.glance import Glance
from stockstore_ext.sqlalchemy.read_through.identity import Identities, identity_methods
from stockstore_ext.sqlalchemy.read_through.list_kinds import ListKinds
from stockstore_ext.sqlalchemy.read_through.remote import RemoteRows
from stockstore_ext.sqlalchemy.read_through.seams import add_hook, remove_hook
from stockstore_ext.sqlalchemy.read_through.serving import Serving
from stockstore_ext.sqlalchemy.read_through.sharded import Shards
from stockstore_ext.sqlalchemy.read_through.short_ways import ShortWays
from stockstore_ext.sqlalchemy.read_through.shortcut import Shortcut
from stockstore_ext.sqlalchemy.read_through.statements import Statements, statement_methods
from stockstore_ext.sqlalchemy.read_through.strictly import Servings, Strictly
from stockstore_ext.sqlalchemy.recording import Recording

__all__ = ["ReadThrough"]


class ReadThrough:
    """What a hook puts on the sessions that it is attached to, so that they read through the caches of its store.

    Args:
        store: The store.
        recording: What the hook knows of transactions.
        read_through: The user's option: True, or a list of mapped classes.

    Raises:
        ConfigurationError: The option is neither.
    """

    def __init__(self, store: Store, recording: Recording, read_through: object) -> None:
        """Serve nobody yet."""
        classes = Classes(recording.tiers, named_classes(read_through))
        tiers, invalidate = recording.tiers, recording.through.invalidate

        def servings(kept: tuple[Any, ...]) -> Servings:
            own = OwnDatabase(tiers, recording, origin_engine(store))
            shards = Shards(lambda token: Serving(store, kept, classes, ShardDatabase(token, tiers, recording), invalidate))
            return Servings(Serving(store, kept, classes, own, invalidate), shards)

        strictly = Strictly(tiers, servings)
        self.serving = strictly.servings(strict=False).plain
        glance = Glance(recording)
        kinds = ListKinds(origin_engine(store))
        remote = RemoteRows(tiers, classes, glance, kinds)
        self._identities = Identities(strictly, glance, remote)
        self._statements = Statements(strictly, glance, ShortWays(Shortcut(tiers, classes, glance, kinds), remote))

    def attach(self, cls: type[Session]) -> None:
        """Serve the sessions of a class."""
        add_hook(cls, self._identities, identity_methods)
        add_hook(cls, self._statements, statement_methods)
        self._statements.hear(cls)

    def detach(self, cls: type[Session]) -> None:
        """Serve them no more; never raises, whatever others have done to the class meanwhile."""
        remove_hook(cls, self._identities, identity_methods)
        remove_hook(cls, self._statements, statement_methods)
        self._statements.leave(cls)
