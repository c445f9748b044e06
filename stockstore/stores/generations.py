"""The generations of mapped hierarchies, which writes too wide for keys replace."""

import secrets
from collections.abc import Mapping

from stockstore.backends.coherent import CoherentBackend
from stockstore.cells import TOKEN_SIZE, generation_of, is_marker
from stockstore.keys import KeyPlan, keys_of, namespace_text
from stockstore.stores.cache import subclasses_of


def generation_text(namespace: str, plan: KeyPlan) -> str:
    """Give the key of a hierarchy's generation: what the keys of its records begin with."""
    return f"{namespace_text(namespace)}:{plan.label}:"


def generation_texts(namespace: str, cls: type, *, below: bool) -> dict[KeyPlan, str]:
    """Give the keys of the generations that rows found by a class carry, with those of concrete subclasses where asked."""
    kinds = (cls, *subclasses_of(cls)) if below else (cls,)
    return {plan: generation_text(namespace, plan) for plan in (keys_of(kind).identity for kind in kinds)}


def tokens_in(texts: Mapping[KeyPlan, str], cells: Mapping[str, bytes]) -> dict[KeyPlan, bytes | None]:
    """Give the tokens that stand in an answer, ``None`` where there is none or a writer is at work."""
    return {plan: generation_of(cells.get(text)) for plan, text in texts.items()}


def current_generations(backend: CoherentBackend, namespace: str, records: Mapping[KeyPlan, str]) -> dict[KeyPlan, bytes | None]:
    """Give the tokens of hierarchies, made where they are absent.

    Args:
        backend: Where they stand.
        namespace: In which the records stand.
        records: The hierarchies, each with the key of a record that is about to be put.
    """
    texts = {plan: generation_text(namespace, plan) for plan in records}
    cells = backend.get_many(list(texts.values()))
    tokens = tokens_in(texts, cells)
    for plan, text in texts.items():
        if tokens[plan] is None and not is_marker(cells.get(text)):
            tokens[plan] = backend.lease_many({records[plan]: None}, secrets.token_bytes(TOKEN_SIZE), text).generation
    return tokens
