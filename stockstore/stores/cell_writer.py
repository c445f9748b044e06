"""Objects on their way into a backend, as cells."""

from collections.abc import Mapping
from typing import NamedTuple

from stockstore.backends.coherent import Item
from stockstore.cells import NO_GENERATION, pack_alias, pack_body
from stockstore.codecs import Codec
from stockstore.keys import KeyPlan, keys_of
from stockstore.lifetimes import expiry, server_seconds
from stockstore.stores.cache import Entry


class _Record(NamedTuple):
    plan: KeyPlan
    mapped: bool
    payload: bytes
    seconds: float | None


class CellBatch:
    """Entries as cells, of which the last for a key counts.

    Attributes:
        namespace: In which the keys stand.
        records: The values by their keys.
        gone: The keys of what is not to be stored.
    """

    def __init__(self, namespace: str, codec: Codec, tag: bytes) -> None:
        """Start empty; each value will stand after the tag."""
        self.namespace = namespace
        self.records: dict[str, _Record] = {}
        self._gone: dict[str, None] = {}
        self._aliases: dict[str, tuple[bytes, int]] = {}
        self._codec = codec
        self._tag = tag

    @property
    def gone(self) -> list[str]:
        """The keys of what is not to be stored."""
        return list(self._gone)

    def add(self, entry: Entry) -> None:
        """Add an object with its aliases."""
        text = entry.plan.record_text(self.namespace, entry.native)
        if not entry.stored:
            self.records.pop(text, None)
            self._gone[text] = None
            return
        self._gone.pop(text, None)
        mapped = keys_of(entry.snapshot.cls).mapped
        self.records[text] = _Record(entry.plan, mapped, entry.snapshot.payload(self._codec), entry.seconds)
        pointer, keep = pack_alias(text), server_seconds(entry.seconds)
        for plan, native in entry.aliases:
            self._aliases[plan.alias_text(self.namespace, native)] = (pointer, keep)

    def mapped_records(self) -> dict[KeyPlan, str]:
        """Give one key of each mapped hierarchy."""
        return {record.plan: text for text, record in self.records.items() if record.mapped}

    def items(self, generations: Mapping[KeyPlan, bytes | None]) -> list[Item]:
        """Give the values, each with the generation of its hierarchy; where that is not known it will not be read."""
        return [
            (text, self._tag + pack_body(payload, expiry(seconds), generations.get(plan) or NO_GENERATION), server_seconds(seconds))
            for text, (plan, _, payload, seconds) in self.records.items()
        ]

    def aliases(self) -> list[Item]:
        """Give the pointers to the values."""
        return [(text, *cell) for text, cell in self._aliases.items()]
