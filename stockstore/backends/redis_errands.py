"""Commands to a cluster, each for one slot, until they are answered."""

from collections.abc import Sequence
from typing import Any

from redis.exceptions import NoPermissionError

from stockstore.backends.redis_exchange import ONCE, Call, rest_of, unanswered
from stockstore.backends.redis_shards import Shard
from stockstore.backends.redis_telling import Message
from stockstore.cells import NO_ID


class Errand:
    """A command for one slot: the step of a call, or without one a read."""

    __slots__ = ("answer", "asking", "call", "keys", "life", "rounds", "shard", "to", "whole")

    def __init__(self, shard: Shard, keys: Sequence[str], call: Call | None = None) -> None:
        self.shard, self.keys, self.call = shard, keys, call
        self.answer: Any = None
        self.life = NO_ID
        self.to: tuple[str, int] | None = None
        self.asking = self.whole = False
        self.rounds = 0

    @property
    def has_failed(self) -> bool:
        """Whether it is to be done again, if that is possible."""
        return isinstance(self.answer, Exception)

    @property
    def is_sent_once(self) -> bool:
        """Whether it is not sent again where its connection is lost."""
        return self.call is not None and self.call.step in ONCE

    def lose(self, error: Exception, *, sent: bool) -> None:
        """Note that the connection was lost before there was an answer."""
        self.answer = error if self.call is None or not sent else unanswered(self.call.step, error)

    @property
    def is_done_at_once(self) -> bool:
        """Whether the first node that was thought of has done it as a whole."""
        return self.rounds == 1 and not self.has_failed

    def command(self, life: bytes) -> list[str | bytes]:
        """Give the command to a node, by the id of its life."""
        self.life = life
        placed = [self.shard.tag + key for key in self.keys]
        if self.call is None:
            return ["MGET", *placed]
        count, *rest = rest_of(self.call, life)
        script = ["EVAL", self.call.step.text] if self.whole else ["EVALSHA", self.call.step.digest]
        return [*script, count, *placed, *rest[len(placed) :]]

    def pieces(self) -> "list[Errand]":
        """Give an errand for each key."""
        if self.call is None:
            return [Errand(self.shard, [key]) for key in self.keys]
        return [Errand(self.shard, call.keys, call) for call in self.call.singles()]


class Telling(Errand):
    """A message, to be published by the node that has a slot."""

    __slots__ = ("message",)

    def __init__(self, shard: Shard, message: Message) -> None:
        super().__init__(shard, ())
        self.message = message

    @property
    def has_failed(self) -> bool:
        """As for others, but who may not publish is not to try again."""
        return super().has_failed and not isinstance(self.answer, NoPermissionError)

    def command(self, life: bytes) -> list[str | bytes]:
        """Give the command; any node would do it."""
        self.life = life
        return self.message.command()
