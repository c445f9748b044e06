"""The generation of a class on a cluster: one that counts, in a slot of its own, and a replica in each of the class's other slots.

Rows and lists are read with the replica beside them, by the same command, and believed by that. Who finds none leases it, or has seen another's lease
there, then asks the generation, and then puts what he was told where that lease still stands: so no writer of the whole class, who marks all of
them before he commits, has come between. ``tests/model/replicas.py`` goes through what may happen.
"""

import secrets
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final, TypeAlias

from stockstore.backends.coherent import LEASE_SECONDS, Item
from stockstore.backends.redis_arguments import GENERATION_SECONDS, NEW, REPLICA, fresh_tokens
from stockstore.backends.redis_errands import Errand
from stockstore.backends.redis_exchange import Arguments, Call
from stockstore.backends.redis_scripts import FILL, INVALIDATE, LEASE, Script
from stockstore.backends.redis_shards import Shard, by_shard, is_generation, shards_of
from stockstore.cells import GENERATION_SIZE, MARKER, TOKEN_SIZE, UNCOMPARED, VALUE, generation_of, is_marker
from stockstore.cells import LEASE as LEASE_TAG

States: TypeAlias = dict[Shard, bytes | None]
"""What stands for one generation in slots: its cell, a marker, or a lease; ``None`` where there is nothing."""
_LEASE_SECONDS: Final = b"%d" % LEASE_SECONDS


def home_of(generation: str) -> Shard:
    """Give where the generation is that counts."""
    (shard,) = by_shard([generation], [generation])
    return shard


def counts(keys: Sequence[str], shard: Shard) -> bool:
    """Whether keys are one generation alone, in the shard where it is the one that counts."""
    return len(keys) == 1 and is_generation(keys[0]) and shard == home_of(keys[0])


def usable_cell(cell: bytes | None, life: bytes) -> bytes | None:
    """Give what stands for a generation; ``None`` for what is of another life."""
    return cell if cell is not None and (is_marker(cell) or cell.startswith(life, 1)) else None


def placed_items(batches: Sequence[Sequence[Item]]) -> "list[tuple[Shard, list[list[Item]]]]":
    """Part the items of batches by shards.

    Generations that are but to be looked at stand beside the keys of their classes, and where there are none in their own shard; all others,
    by themselves, in each shard of their class.
    """
    slots: dict[Shard, list[list[Item]]] = {}
    wide: list[tuple[Shard, list[list[Item]]]] = []
    beside: list[tuple[int, Item]] = []
    for at, batch in enumerate(map(list, batches)):
        generations = [item for item in batch if is_generation(item[0])]
        rows = [item for item in batch if not is_generation(item[0])] if generations else batch
        for shard, items in by_shard([item[0] for item in rows], rows).items():
            slots.setdefault(shard, [[] for _ in batches])[at].extend(items)
        beside += [(at, item) for item in generations if item[1] == NEW]
        for item in generations:
            wide += [
                (shard, [[item] if at == place else [] for place in range(len(batches))]) for shard in shards_of(item[0]) if not item[1]
            ]
    for at, (key, what, lasts) in beside:
        home = home_of(key)
        for shard in [shard for shard in shards_of(key) if shard in slots] or [home]:
            slots.setdefault(shard, [[] for _ in batches])[at].append((key, what if shard == home else REPLICA, lasts))
    return [*slots.items(), *wide]


class Renewal:
    """A generation that a writer of the whole class leaves where his marker is the only one: so nobody has to ask for another one.

    It is as good as one that is made afterwards. Whoever has marked before him has been released before, and whoever marks after him takes it away.

    Attributes:
        items: To be put, by the keys of the generations; the token is given when they are sent.
    """

    def __init__(self, keys: Sequence[str]) -> None:
        """Renew those of some keys that are generations."""
        self.items = {key: (key, b"", int(GENERATION_SECONDS)) for key in keys if is_generation(key)}
        self._token = secrets.token_bytes(GENERATION_SIZE) if self.items else b""
        self._sent: set[int] = set()

    def of(self, part: Sequence[Sequence[Item]]) -> Sequence[Item]:
        """Give the values of a part. One that is sent once more has another token: a mark of the writer's may have come late, after others."""
        if not self.items or not part[0] or part[0][0][0] not in self.items:
            return part[0]
        token = secrets.token_bytes(GENERATION_SIZE) if id(part) in self._sent else self._token
        self._sent.add(id(part))
        return [(key, token, lasts) for key, _, lasts in part[0]]


class Replicas:
    """Sees to it that replicas say what the generation says."""

    def __init__(self, do: Callable[[list[Errand]], list[Errand]]) -> None:
        """Send errands by a function, which gives them back when they are done."""
        self._do = do

    def agreed(self, generation: str, states: States, *, make: bool) -> bytes | None:
        """Give the one cell of what stands in some slots; a marker where there is one, ``None`` where there is nothing.

        Args:
            generation: The key.
            states: What was found there.
            make: Whether a generation is to be made where there is none.
        """
        found = set(states.values())
        marker = next((cell for cell in found if is_marker(cell)), None)
        if marker is not None:
            return marker
        tokens = {generation_of(cell) for cell in found}
        if len(tokens) == 1 and None not in tokens:
            return found.pop()
        token = self._settled(generation, states, make=make)
        return None if token is None else UNCOMPARED + token

    def _settled(self, generation: str, states: States, *, make: bool) -> bytes | None:
        """Have all of these slots say what the generation says, and give its token; ``None`` where there is none, or a marker."""
        home = home_of(generation)
        if home in states and states[home] is None and not make:
            return None
        absent = [shard for shard, cell in states.items() if cell is None and shard != home]
        states = states | dict(zip(absent, map(cell_of, self._lease(absent, generation, REPLICA)), strict=True))
        # Not before the replicas are leased: what it says has to be younger than all that was marked there before.
        token = generation_of(cell_of(self._lease([home], generation, NEW)[0]) if make else self._at_home(home, generation))
        if token is not None:
            self._put(generation, {shard: cell for shard, cell in states.items() if shard != home}, token)
        return token

    def _put(self, generation: str, states: States, token: bytes) -> None:
        """Put a token where leases still stand, and take away others."""
        errands = []
        for shard, cell in states.items():
            if cell is not None and cell.startswith(LEASE_TAG):
                errands.append(_errand(FILL, shard, generation, partial(_filling, cell, token)))
            elif generation_of(cell) not in (None, token):
                errands.append(_errand(INVALIDATE, shard, generation, lambda _, life: [life, b"", b""]))
        self._do(errands)

    def _at_home(self, home: Shard, generation: str) -> bytes | None:
        (errand,) = self._do([Errand(home, [generation])])
        return usable_cell(errand.answer[0], errand.life)

    def _lease(self, shards: Sequence[Shard], generation: str, what: bytes) -> list[Any]:
        token = secrets.token_bytes(TOKEN_SIZE)

        def arguments(_: object, life: bytes) -> list[bytes]:
            return [life, LEASE_TAG + life + token, *fresh_tokens([(generation, what, 0)]), GENERATION_SECONDS, _LEASE_SECONDS]

        return [errand.answer[0] for errand in self._do([_errand(LEASE, shard, generation, arguments) for shard in shards])]


def cell_of(told: object) -> bytes | None:
    """Give what stands for a generation by what a lease tells of it: its token, a lease, or nothing where a marker stands."""
    if told is None:
        return MARKER
    token = told if type(told) is bytes else b""
    return UNCOMPARED + token if len(token) == GENERATION_SIZE else token or None


def _filling(lease: bytes, token: bytes, _: object, life: bytes) -> list[bytes]:
    return [lease, b"=" + GENERATION_SECONDS, b"1", VALUE + life + token]


def _errand(step: Script, shard: Shard, generation: str, make: Arguments) -> Errand:
    return Errand(shard, [generation], Call(step, [generation], (), make, shard))
