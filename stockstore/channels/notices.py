"""Key texts as payloads of NOTIFY: a line with the writer's ticket, and the texts, one a line."""

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

PAYLOAD_LIMIT: Final = 7900
"""Bytes of one payload; PostgreSQL takes less than 8000."""
TEXTS_LIMIT: Final = 1000
"""The texts of one commit above which its classes are named instead."""


class Notice(NamedTuple):
    """What one payload says.

    Attributes:
        ticket: Of the writer; empty where none is known, as of a trigger.
        texts: The keys.
    """

    ticket: bytes
    texts: list[str]


def payloads_of(texts: Sequence[str], ticket: bytes) -> list[str]:
    """Give as few payloads as hold these texts, each of them once.

    >>> for payload in payloads_of(["shop:User:id:i1", "shop:User:id:i2", "shop:User:id:i1"], b"ticket"):
    ...     print(payload)
    ticket
    shop:User:id:i1
    shop:User:id:i2
    """
    found = list(dict.fromkeys(texts))
    if len(found) > TEXTS_LIMIT:
        found = list(dict.fromkeys(map(class_of, found)))
    head = ticket.decode("ascii")
    return ["\n".join((head, *part)) for part in _parts(found, PAYLOAD_LIMIT - len(head))]


def _parts(texts: Sequence[str], room: int) -> Iterator[list[str]]:
    part: list[str] = []
    left = room
    for text in texts:
        if part and len(text) >= left:
            yield part
            part, left = [], room
        part.append(text)
        left -= len(text) + 1
    if part:
        yield part


def class_of(text: str) -> str:
    """Give what the keys of a text's class begin with.

    >>> class_of("shop:User:id:i1"), class_of("shop:User:"), class_of("shop:")
    ('shop:User:', 'shop:User:', 'shop:')
    """
    return text[: text.find(":", text.find(":") + 1) + 1] or text


def read_payload(payload: bytes) -> Notice | None:
    """Give what a payload says; ``None`` where nobody here has sent it.

    >>> read_payload(payloads_of(["shop:User:id:i1"], b"ticket")[0].encode()), read_payload(b"hello")
    (Notice(ticket=b'ticket', texts=['shop:User:id:i1']), None)
    """
    ticket, _, texts = payload.partition(b"\n")
    return Notice(ticket, texts.decode("ascii").split("\n")) if texts and payload.isascii() else None
