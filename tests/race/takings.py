"""How each defence of the protocol is taken away from the process that calls one of these.

Its scripts and methods are patched in the process, never in files. A patch that does not fit any more is an error.
"""

import math
import time
from collections.abc import Sequence
from typing import Any


def _in_script(name: str, *changes: tuple[str, str]) -> None:
    """Change the text of a step's script, wherever it is used."""
    from stockstore.backends import redis, redis_scripts

    step = getattr(redis_scripts, name)
    text = step.text
    for old, new in changes:
        if text.count(old) != 1:
            raise LookupError(f"the script {name} does not have {old!r} once, so that this defence cannot be taken away")
        text = text.replace(old, new)
    changed = redis_scripts._script(text)
    for module in (redis, redis_scripts):
        for known in [known for known, value in vars(module).items() if value is step]:
            setattr(module, known, changed)


def fill_unleased() -> None:
    """A fill puts its value whatever stands in the cell."""
    _in_script("FILL", ("elseif cells[i] == lease then", "else"))


def lease_over_markers() -> None:
    """A lease replaces a writer's marker."""
    _in_script("LEASE", ("local free = not cell or", "local free = not cell or tag == 87 or"))


def always_value() -> None:
    """A release leaves its value whatever markers of others stand there."""
    _in_script("RELEASE", ("if old == mine then", "if is_marker(old) then"))


def no_mark() -> None:
    """A writer commits without a mark."""
    from stockstore.backends.redis import RedisBackend

    def mark_many(
        self: RedisBackend, keys: Sequence[str], ticket: bytes, shared: Sequence[str] = (), generations: Sequence[str] = ()
    ) -> Any:
        return {}

    RedisBackend.mark_many = mark_many  # type: ignore[method-assign]


def blind_mark() -> None:
    """A mark replaces the marks of others."""
    _in_script("MARK", ("cell and byte(cell) == 87 and joined(cell, ticket) or mine", "mine"))


def delete_for_invalidate() -> None:
    """The janitor deletes a cell with the markers in it."""
    _in_script("INVALIDATE", ("if is_marker(cell) then", "if false then"))


def keep_where_marker_was_lost() -> None:
    """A release leaves what stands where its marker was lost."""
    _in_script(
        "RELEASE",
        ("elseif cell and committed then\n        gone[#gone + 1] = key", ""),
        ("call('SET', key, old) else call('DEL', key) end", "call('SET', key, old) elseif old then call('SET', key, old) end"),
    )


def no_server_id() -> None:
    """Values, leases and generations count that a server wrote before it was restarted."""
    from stockstore.backends import redis_cluster, redis_exchange

    _in_script(
        "FOLLOW",
        ("elseif (tag == 86 or tag == 76)", "elseif false and (tag == 86 or tag == 76)"),
        ("sub(cell, 1, 9) == value", "byte(cell) == 86"),
    )
    for name in ("LEASE", "MARK", "INVALIDATE"):
        _in_script(
            name,
            ("return (tag == 86 or tag == 76)", "return false and (tag == 86 or tag == 76)"),
            (" and string.byte(cell) == 86 and string.sub(cell, 2, 9) == id", " and string.byte(cell) == 86"),
        )

    def usable_cells(keys: Sequence[str], cells: Sequence[bytes | None], life: bytes) -> dict[str, bytes]:
        return {key: cell for key, cell in zip(keys, cells, strict=True) if cell is not None}

    redis_exchange.usable_cells = redis_cluster.usable_cells = usable_cells  # type: ignore[attr-defined]


def generation_of_the_release() -> None:
    """A release puts the generation of its own moment into its value."""
    from stockstore.backends.redis import RedisBackend
    from stockstore.cells import generation_of

    release = RedisBackend.release_many

    def release_many(self: RedisBackend, keys: Sequence[str], ticket: bytes, *, values: Sequence[Any] = (), **options: Any) -> int:
        changed = []
        for key, body, lasts in values:
            name = ":".join(key.split(":")[:2]) + ":"
            token = generation_of(self.get_many([name]).get(name))
            changed += [(key, body[:9] + token + body[17:], lasts)] if token else []
        return release(self, keys, ticket, values=changed, **options)

    RedisBackend.release_many = release_many  # type: ignore[method-assign]


def no_resolver() -> None:
    """Nobody asks the database how a dead writer's transaction ended."""
    from stockstore.coherence.resolver import Resolver

    Resolver.met = lambda *_: 0  # type: ignore[method-assign]


def mark_unpublished() -> None:
    """A mark tells no other process's memory."""
    _in_script("MARK", ("publish(ticket, marked)\nlocal generations", "local generations"))


def loss_unpublished() -> None:
    """A release that has lost its marker tells no other process's memory."""
    _in_script("RELEASE", ("if committed and held < marked then publish(ticket, marked) end", ""))


def invalidation_unpublished() -> None:
    """The janitor tells no process's memory."""
    _in_script("INVALIDATE", ("publish(ARGV[#ARGV - 1], #KEYS)", ""))


def no_flush_of_subscribers() -> None:
    """Memory keeps over a new subscription what it had before."""
    from stockstore.channels.receiver import Receiver

    def flush_new(self: Receiver, reason: str) -> bool:
        new = [contact for contact in list(self._contacts) if contact.flushed_at == math.inf]
        for contact in new:
            contact.flushed_at = time.monotonic()
        return bool(new)

    Receiver.flush_new = flush_new  # type: ignore[method-assign]


def no_gap() -> None:
    """Memory keeps what it had when the numbers of messages show that one is missing."""
    from stockstore.channels.receiver import Receiver

    Receiver.flush = lambda *_: None  # type: ignore[method-assign]


def leases_spared() -> None:
    """A message takes no lease from a reader who is to fill memory."""
    from stockstore.coherence.claims import Claims

    Claims.invalidate = lambda *_: None  # type: ignore[method-assign]
    Claims.invalidate_all = lambda *_: None  # type: ignore[method-assign]


def counted_from_the_answer() -> None:
    """Memory is believed for max_staleness from the answer to a beat on, not from the beat."""
    from stockstore.channels.receiver import Receiver

    confirm = Receiver.confirm
    Receiver.confirm = lambda self, moment: confirm(self, max(moment, time.monotonic()))  # type: ignore[method-assign]


def no_limit() -> None:
    """Memory without a channel is believed for ever."""
    from stockstore.stores.tiers.local import LocalTier

    LocalTier.limit = property(lambda _: None)  # type: ignore[method-assign, assignment]
