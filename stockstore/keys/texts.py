"""Key texts read back: what they name."""

from collections.abc import Sequence
from typing import NamedTuple
from urllib.parse import unquote

from stockstore.keys.encoding import Canonical
from stockstore.keys.plans import KeyPlan, Native
from stockstore.keys.prefixes import KEY_LIMIT, NAMESPACE_LIMIT


class KeyText(NamedTuple):
    """What a key text says.

    Attributes:
        namespace: As keys show it.
        label: Of a class; empty where all of a namespace is meant.
        space: The names of a key, or an index as lists show it; empty where all of a class is meant.
        values: In their canonical forms; ``None`` where they are not told, as by a digest.
    """

    namespace: str
    label: str
    space: str
    values: tuple[Canonical, ...] | None

    def native(self, plan: KeyPlan) -> Native | None:
        """Give the place beside the records of an identity; ``None`` where it is not told, and may be any."""
        if self.values is None or self.label != plan.label:
            return None
        if self.space.startswith("*"):
            return ((self.space,), *self.values)
        if plan.record_space != f"{self.label}:{self.space}" or len(self.values) != len(plan.names):
            return None
        return self.values[0] if len(plan.names) == 1 else self.values


def read_text(text: str) -> KeyText | None:
    """Give what a key text says; ``None`` where it is none.

    >>> read_text("shop:app.User:tenant,username:i1:sann%20lee")
    KeyText(namespace='shop', label='app.User', space='tenant,username', values=(1, 'ann lee'))
    >>> read_text("shop:app.User:").space, read_text("shop:").label, read_text("shop")
    ('', '', None)
    """
    if ":" not in text:
        return None
    namespace, label, space, values = [*text.split(":", 3), "", ""][:4]
    return KeyText(namespace, label, space, _values(values) if values and len(text) < KEY_LIMIT else None)


def read_texts(texts: Sequence[str]) -> list[KeyText | None]:
    """Give what key texts say, as :func:`read_text` does; most follow others of the same key of the same class.

    >>> [found and found.values for found in read_texts(["shop:User:id:i1", "shop:User:id:i2", "shop"])]
    [(1,), (2,), None]
    """
    found: list[KeyText | None] = []
    head, namespace, label, space = "", "", "", ""
    for text in texts:
        at = len(head)
        digits = text[at:]
        if at and text.startswith(head) and digits.isdecimal() and len(text) < KEY_LIMIT:
            found.append(KeyText(namespace, label, space, (int(digits),)))
            continue
        said = read_text(text)
        found.append(said)
        head, _, digits = text.rpartition(":i")
        if said is not None and said.values is not None and len(said.values) == 1 and digits.isdecimal():
            head, (namespace, label, space) = f"{head}:i", said[:3]
        else:
            head = ""
    return found


def _values(text: str) -> tuple[Canonical, ...] | None:
    try:
        # One number, as most keys are.
        return (int(text[1:]),) if text[0] == "i" and ":" not in text else tuple(map(_value, text.split(":")))
    except ValueError:
        return None


def _value(text: str) -> Canonical:
    kind, rest = text[:1], text[1:]
    if kind == "i":
        return int(rest)
    if kind == "x":
        return int(rest, 16)
    return unquote(rest, errors="surrogatepass") if kind == "s" else (text,)


def namespace_in(text: str) -> str | None:
    """Give the namespace that keys show so; ``None`` where it is shortened.

    >>> namespace_in("a%20b")
    'a b'
    """
    return unquote(text, errors="surrogatepass") if len(text) < NAMESPACE_LIMIT else None
