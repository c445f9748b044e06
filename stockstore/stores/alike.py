"""Batches of plain objects of one class whose keys are all numbers or all text: a few passes instead of a step per object.

What is not so alike gives ``None``, and goes the general way, which also tells what is wrong with it.
"""

from collections.abc import Sequence

from stockstore.codecs import Codec
from stockstore.entries import pack_alias, pack_value
from stockstore.keys import ClassKeys, KeyPlan
from stockstore.lifetimes import expiry, server_seconds


def only_class(objects: Sequence[object]) -> type | None:
    """Give the class of all objects, ``None`` where there are several, or no objects."""
    classes = set(map(type, objects))
    return classes.pop() if len(classes) == 1 else None


def cells_of(
    objects: Sequence[object], keys: ClassKeys, aliases: Sequence[KeyPlan], namespace: str, codec: Codec, seconds: float | None
) -> list[tuple[str, bytes, int]] | None:
    """Give the cells of plain objects and of their aliases, as a backend takes them."""
    if keys.mapped or (seconds is not None and seconds <= 0):
        return None
    records = _texts(keys.identity, objects, namespace, alias=False)
    others = [_texts(plan, objects, namespace, alias=True) for plan in aliases]
    if records is None or None in others or len(set(records)) < len(records):
        return None
    head, keep, encode = pack_value(codec.fingerprint(type(objects[0])), expiry(seconds)), server_seconds(seconds), codec.encode
    cells = [(text, head + encode(obj), keep) for text, obj in zip(records, objects, strict=True)]
    pointers = list(map(pack_alias, records)) if aliases else []
    cells.extend((text, pointer, keep) for texts in others for text, pointer in zip(texts or (), pointers, strict=True))
    return cells


def _texts(plan: KeyPlan, objects: Sequence[object], namespace: str, *, alias: bool) -> list[str] | None:
    try:
        values = list(map(plan.of_object, objects))
    except AttributeError:
        return None
    return plan.texts(namespace, values, alias=alias)
