"""The code that finds a batch of hits, as text for one class and its canonical key.

Measured by scripts/bench against a bare dictionary.
"""

import keyword
from typing import Final

from stockstore.backends.local_nodes import MAX_FREQUENCY

# A batch gives the hits up to the first that is none: to count only once all are known would take another pass. What eviction is to
# know of each is little, and how many there were is added at once, by a step in which Python turns to no other thread.
_BATCH: Final = """
def batch_bare(keys, found):
    {now}
    for key in keys:
        if type(key) is int or type(key) is str:
            node = records[key]
            if {goes_on}:
                obj = node.value
                if obj.{name} == key:
                    if node.batched < {most}:
                        node.batched += 1
                    found.append(obj)
                    continue
        raise KeyError(key)

def batch_named(keys, found):
    {now}
    for key in keys:
        if type(key) is dict and len(key) == 1:
            value = key[{name!r}]
            if type(value) is int or type(value) is str:
                node = records[value]
                if {goes_on}:
                    obj = node.value
                    if obj.{name} == value:
                        if node.batched < {most}:
                            node.batched += 1
                        found.append(obj)
                        continue
        raise KeyError(key)

def batch(keys, found):{fresh}
    try:
        (batch_named if type(keys[0]) is dict else batch_bare)(keys, found)
    finally:
        count = len(found)
        tally.hits += count
"""
_NO_BATCH: Final = """
def batch(keys, found):
    raise KeyError(keys)
"""

_FRESH: Final = """
    if contact.fresh_until <= _now():
        raise KeyError"""

# Of what is constant the compiler leaves nothing.
_LASTING: Final = {"now": "", "goes_on": "True"}
_EXPIRING: Final = {"now": "now = _now()", "goes_on": "node.expires > now"}


def batch_code(name: str | None, *, expiring: bool, fresh: bool) -> str:
    """Give the function ``batch`` for a canonical key of one name, or, for ``None``, one that finds nothing."""
    if name is None or not name.isidentifier() or keyword.iskeyword(name):
        return _NO_BATCH
    parts = _EXPIRING if expiring else _LASTING
    return _BATCH.format(fresh=_FRESH if fresh else "", most=MAX_FREQUENCY, name=name, **parts)
