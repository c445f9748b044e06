"""What a process keeps in mind of the cells on one memcached, so that a put needs no look ahead of it."""

from collections.abc import Iterable, Mapping
from operator import methodcaller

from pymemcache.exceptions import MemcacheServerError

from stockstore.backends.memcache_connection import WITHOUT_COMPARISON, Connection
from stockstore.backends.memcache_exchange import Steps
from stockstore.cells import MARKER

_SETTINGS = b"stats settings\r\n"
_BESIDE_A_VALUE = 512  # its header, its key, and the tag and stamp before its body
_MANY_CELLS = 10_000


class Life:
    """What is known of one life of a server: of the process that answers, until it ends.

    memcached numbers its stores by one counter, which neither a flush nor an eviction turns back while it lives. So a cell that has the number
    with which it was seen is what it was, byte for byte: where no marker stood then, none stands now, and a ``cas`` that names the number
    replaces none. The next life may give the same number to a marker.

    Attributes:
        room: The bytes of the longest body that a meta set may carry. Where memcached refuses one it deletes what stands there, a marker too,
            which it does for want of memory as well; but where it evicts, it may take a marker for that in any case.
        uniques: What a ``cas`` has to name, of cells that were seen, none of them a marker.
    """

    def __init__(self, settings: Mapping[bytes, bytes]) -> None:
        largest = settings.get(b"item_size_max", b"")
        self.room = int(largest) - _BESIDE_A_VALUE if settings.get(b"evictions") == b"on" and largest.isdigit() else 0
        self.uniques: dict[str, bytes] = {}
        # A proxy tells no settings, and nothing of the lives of the servers behind it.
        self._is_told = bool(settings)

    def note(self, uniques: Mapping[str, bytes] | Iterable[tuple[str, bytes]]) -> None:
        """Keep in mind what a ``cas`` has to name, of cells that are no markers."""
        if len(self.uniques) > _MANY_CELLS:
            self.uniques.clear()  # to look again costs a put one round trip
        if self._is_told:
            self.uniques.update(uniques)

    def note_all(self, wires: Mapping[str, bytes], uniques: Mapping[str, bytes]) -> None:
        """Keep in mind what a ``cas`` has to name of those cells that are no markers."""
        is_marker = methodcaller("startswith", MARKER)
        if any(map(is_marker, wires.values())):
            uniques = {key: unique for key, unique in uniques.items() if not is_marker(wires[key])}
        self.note(uniques)


Lives = dict[bytes, Life]
"""The life of a server that was last put to, by what tells it from others."""


def life_steps(connection: Connection, lives: Lives) -> Steps[Life]:
    """Give the life of the server that answers; one round trip where it was not put to before.

    Raises:
        MemcacheServerError: It could not tell what has changed since.
    """
    known = lives.get(connection.life)
    if known is not None:
        return known
    yield _SETTINGS
    settings = connection.facts()
    if settings.get(b"cas_enabled") == b"no":
        raise MemcacheServerError(WITHOUT_COMPARISON)
    life = Life(settings)
    lives.clear()
    lives[connection.life] = life
    return life
