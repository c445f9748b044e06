"""Puts on one memcached node, and clears."""

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple, cast

from pymemcache.exceptions import MemcacheUnknownError

from stockstore.backends.coherent import Item
from stockstore.backends.columns import Values, keys_of, lifetimes_of, parted
from stockstore.backends.generations import fresh_token, head_of, heads_of, stamps_of, token_key, token_keys
from stockstore.backends.memcache_connection import Connection
from stockstore.backends.memcache_exchange import Steps
from stockstore.backends.memcache_lives import Life, Lives, life_steps
from stockstore.backends.memcache_looks import RAW, known_stamps, remember
from stockstore.backends.memcache_texts import (
    MARKED,
    NEVER,
    TOO_LARGE,
    UNMARKED,
    attempts,
    complain,
    delete,
    expiry,
    get,
    glance,
    meta_set,
    meta_sets,
    put,
    refusals,
    remove,
    swap,
)
from stockstore.cells import VALUE

_ABSENT = b"EN"
_PRESENT = b"HD f%d c" % UNMARKED
_MARKER = b"HD f%d c" % MARKED
_STORED = b"HD c"
_DONE = (_STORED, b"STORED")
_OVERTAKEN = b"EX"
_CHANGED = (_OVERTAKEN, b"NS", b"NOT_STORED")
_GONE = (b"NF", b"NOT_FOUND")
_REFUSED = b"SERVER_ERROR"
_ANSWERS = (*_DONE, *_CHANGED, *_GONE, _REFUSED)
_UNKNOWN = b""
_NO_KEYS: Sequence[str] = ()
_LOOKS = (_PRESENT, _MARKER, _ABSENT)
_WANTED = "memcached 1.6.10 or later is needed"


class Ahead(NamedTuple):
    """Commands that go ahead of others, and how many lines answer them."""

    request: bytes
    lines: int


NOTHING_AHEAD = Ahead(b"", 0)


class Written(NamedTuple):
    """What became of a batch of writes.

    Attributes:
        answers: The answers to the commands that went ahead.
        refused: The keys of the others that the server would not keep, with its answers.
        stamps: The stamps, after the writes, of the heads asked for.
    """

    answers: list[bytes]
    refused: dict[str, bytes]
    stamps: dict[str, bytes]


def set_steps(connection: Connection, items: Sequence[Item], known: dict[str, bytes]) -> Steps[None]:
    """Put whole cells, whatever stands there; one round trip."""
    refused = (yield from write_steps(connection, items, known)).refused
    if refused:
        yield delete(refused)
        refusals(list(refused), connection.lines(len(refused)))
        complain(refused, TOO_LARGE)


def write_steps(
    connection: Connection,
    items: Sequence[Item],
    known: dict[str, bytes],
    ahead: Ahead = NOTHING_AHEAD,
    heads_ahead: Collection[str] = (),
) -> Steps[Written]:
    """Put whole cells, along with other commands that go ahead of them.

    What is written with known tokens is followed, in the same request, by a look at them. Where they differ, the
    cells just written are unreadable for good, since tokens are never used again, and are written anew.
    """
    if not items and heads_ahead:
        return (yield from _look_behind_steps(connection, known, ahead, heads_ahead))
    keys = keys_of(items)
    heads = heads_of(keys)
    tokens = token_keys([*heads, *heads_ahead])
    answers: list[bytes] = []
    for _ in attempts():
        stamps = yield from known_stamps(connection, heads, known)
        yield ahead.request + _sets(items, heads, stamps) + (get(tokens) if tokens else b"")
        answers += connection.lines(ahead.lines)
        refused = refusals(keys, connection.lines(len(keys)))
        found = connection.values() if tokens else {}
        remember(known, tokens, found)
        if stamps_of(heads, found, connection.life) == stamps:
            break
        ahead = NOTHING_AHEAD
    return Written(answers, refused, stamps_of(heads_ahead, found, connection.life))


def _look_behind_steps(connection: Connection, known: dict[str, bytes], ahead: Ahead, heads: Collection[str]) -> Steps[Written]:
    tokens = token_keys(heads)
    yield ahead.request + get(tokens)
    answers, found = connection.lines(ahead.lines), connection.values()
    remember(known, tokens, found)
    return Written(answers, {}, stamps_of(heads, found, connection.life))


def put_steps(connection: Connection, items: Sequence[Item], aliases: Sequence[Item], known: dict[str, bytes], lives: Lives) -> Steps[None]:
    """Put values where no marker stands, and aliases anywhere: in one round trip what is absent, or as it was when this process saw it, else in two.

    Three take what others changed since then.
    """
    life = yield from life_steps(connection, lives)
    batch = Put(items, life)
    rejected: dict[str, bytes] = {}
    for _ in attempts():
        stamps = yield from known_stamps(connection, batch.heads, known)
        written = yield from write_steps(connection, aliases, known, batch.request(stamps), stamps)
        aliases, rejected = (), rejected | written.refused
        batch.sort(written)
        if not batch.keys:
            break
    if batch.left:
        yield b"".join([remove(key, unique) for key, unique in batch.left.items()])
        connection.lines(len(batch.left))
    complain(rejected | batch.refused, TOO_LARGE)


def clear_steps(connection: Connection, prefix: str, known: dict[str, bytes]) -> Steps[None]:
    """Make every cell under a prefix unreadable, but markers."""
    key = token_key(prefix)
    known[key] = token = fresh_token()
    yield put(b"set", key, token, NEVER)
    complain(refusals([key], connection.lines(1)), "nothing was cleared; give it more memory (-m)")


class Put:
    """A batch of values for where no marker stands.

    The server knows no conditions but those of ``add`` and ``cas``.

    Attributes:
        keys: Of what is to be put yet.
        refused: The keys that the server would not keep, with its answers.
        left: What stands there all the same under some of these, with what a ``cas`` has to name.
    """

    def __init__(self, items: Sequence[Item], life: Life) -> None:
        self._take(items)
        if len(set(self.keys)) < len(items):
            self._take(list({item[0]: item for item in items}.values()))
        self._by_meta = len(self._begin) + max(map(len, self._rests)) <= life.room
        self._life = life
        # What a cas of each has to name: None for what is taken to be absent, _UNKNOWN for what is to be looked at first.
        self._uniques: list[bytes | None] = list(map(life.uniques.get, self.keys))
        self.refused: dict[str, bytes] = {}
        self.left: dict[str, bytes] = {}
        self._overtaken: set[str] = set()

    def _take(self, items: Sequence[Item]) -> None:
        self._items, self.keys = items, keys_of(items)
        self._begin, self._rests = parted(items)

    @property
    def heads(self) -> list[str]:
        """The heads of these keys, each once."""
        return [head_of(self.keys[0])] if isinstance(self._items, Values) else list(dict.fromkeys(heads_of(self.keys)))

    def request(self, stamps: Mapping[str, bytes]) -> Ahead:
        """Store what is known or taken to be absent, and look at all of which the answers to that tell too little."""
        self._stamps = stamps
        self._stored, self._looked = self.keys, _NO_KEYS
        if self._by_meta and all(self._uniques):
            return Ahead(self._stores(cast("Sequence[bytes]", self._uniques)), len(self.keys))
        pairs = [(item, unique or b"") for item, unique in zip(self._items, self._uniques, strict=True) if unique != _UNKNOWN]
        self._stored = [item[0] for item, _ in pairs]
        self._looked = [key for key, unique in zip(self.keys, self._uniques, strict=True) if not (unique and self._by_meta)]
        stores = self._stores_one_by_one([item for item, _ in pairs], [unique for _, unique in pairs])
        return Ahead(stores + glance(self._looked), len(self._stored) + len(self._looked))

    def _stores(self, uniques: Sequence[bytes]) -> bytes:
        lifetimes = lifetimes_of(self._items)
        if len(self._stamps) == len(lifetimes) == 1:
            (stamp,), (lasts,) = self._stamps.values(), lifetimes
            return meta_sets(self.keys, uniques, VALUE + stamp + self._begin, self._rests, expiry(lasts))
        return self._stores_one_by_one(self._items, uniques)

    def _stores_one_by_one(self, items: Sequence[Item], uniques: Sequence[bytes]) -> bytes:
        begins = {head: VALUE + stamp for head, stamp in self._stamps.items()}
        store = meta_set if self._by_meta else swap
        cells = zip(items, uniques, heads_of(self._stored), strict=True)
        return b"".join([store(key, unique, begins[head] + body, expiry(lifetime)) for (key, body, lifetime), unique, head in cells])

    def sort(self, written: Written) -> None:
        """Tell what was put, and what is to be put yet."""
        done: Collection[str] = self._all_stored(written.answers)
        left_open: dict[str, bytes | None] = {}
        if not done:
            done, left_open = self._sort_stores(written.answers[: len(self._stored)])
            self._sort_looks(written.answers[len(self._stored) :], left_open)
        if written.stamps != self._stamps:  # nobody reads what was put: there was a clear since they were learnt
            cleared = {head for head, stamp in self._stamps.items() if written.stamps.get(head) != stamp}
            left_open |= {key: _UNKNOWN for key, head in zip(done, heads_of(done), strict=True) if head in cleared}
        self._take([item for item in self._items if item[0] in left_open] if left_open else ())
        self._uniques = [left_open[key] for key in self.keys]

    def _all_stored(self, answers: Sequence[bytes]) -> Sequence[str]:
        """Give the keys where all were stored by meta sets at once."""
        uniques = b"\n".join([b"", *answers]).split(b"\n" + _STORED)
        if self._looked or self._overtaken or len(uniques) <= len(answers):
            return []
        self._life.note(zip(self._stored, uniques[1:], strict=True))
        return self._stored

    def _sort_stores(self, answers: Sequence[bytes]) -> tuple[set[str], dict[str, bytes | None]]:
        """Give the keys that were stored, and what is known now of the others but of refused ones."""
        lines = dict(zip(self._stored, answers, strict=True))
        if strange := next((line for line in answers if not line.startswith(_ANSWERS)), None):
            raise MemcacheUnknownError(f"it answered {strange[:80]!r} to a store; {_WANTED}")
        done = {key for key, line in lines.items() if line.startswith(_DONE)}
        self._overtaken |= {key for key, line in lines.items() if line.startswith(_OVERTAKEN)}
        self._note({key: lines[key][len(_STORED) :] for key in done if lines[key].startswith(_STORED)})
        self.refused |= {key: line for key, line in lines.items() if line.startswith(_REFUSED)}
        if self.refused:  # a server that runs out of memory while it reads a value leaves alone what a meta set was to replace
            self.left |= {key: unique for key, unique in zip(self.keys, self._uniques, strict=True) if unique and key in self.refused}
        gone: dict[str, bytes | None] = {key: None for key, line in lines.items() if line.startswith(_GONE)}
        return done, {key: gone.get(key, _UNKNOWN) for key in self.keys if key not in done and key not in self.refused}

    def _note(self, uniques: Mapping[str, bytes]) -> None:
        """Keep what a ``cas`` has to name for the next put, but not of what others put too: to be overtaken costs more than to look."""
        for key in self._overtaken:
            self._life.uniques.pop(key, None)
        self._life.note({key: unique for key, unique in uniques.items() if key not in self._overtaken})

    def _sort_looks(self, lines: Sequence[bytes], left_open: dict[str, bytes | None]) -> None:
        looks = dict(zip(self._looked, lines, strict=True))
        if strange := next((line for line in lines if not line.startswith(_LOOKS)), None):
            raise MemcacheUnknownError(f"it answered {strange[:80]!r} to a meta get; {_WANTED}")
        found = {key: line[len(_PRESENT) :] for key, line in looks.items() if line.startswith(_PRESENT)}
        self._note(found)
        self.left |= {key: unique for key, unique in found.items() if key in self.refused}
        for key, line in looks.items():
            if line.startswith(_MARKER):
                left_open.pop(key, None)
                self.refused.pop(key, None)
            elif key in left_open:
                left_open[key] = found.get(key)


def _sets(items: Sequence[Item], heads: Sequence[str], stamps: Mapping[str, bytes]) -> bytes:
    expiries = {lifetime: expiry(lifetime) for lifetime in lifetimes_of(items)}
    begins = {head: RAW + stamp for head, stamp in stamps.items()}
    sets = [put(b"set", key, begins[head] + cell, expiries[lifetime]) for (key, cell, lifetime), head in zip(items, heads, strict=True)]
    return b"".join(sets)
