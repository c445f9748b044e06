"""What a session must not be given from a cache: what it has written itself, and where it sees other rows than others do."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from stockstore.keys import Lookup, keys_of, other_identities_below
from stockstore.stores.tenants import TenantOf

if TYPE_CHECKING:
    from sqlalchemy.orm import Session


def written_by(session: "Session", cls: type, lookup: Lookup | None) -> str:
    """Tell why a session must not be given what a lookup of a mapped class finds in a cache, or any row of it; ``""``: it may be."""
    from stockstore.mapped import OWN_WRITE, bypasses, plan_of

    return bypasses(session, plan_of(cls).root, identity_in(cls, lookup)) or (OWN_WRITE if _has_written_below(session, cls) else "")


def _has_written_below(session: "Session", cls: type) -> bool:
    """Whether it may have changed an object of a concrete subclass, of which nobody can tell here by which look-ups of the class it is found."""
    from stockstore.mapped import has_written, is_clean

    return not is_clean(session) and any(has_written(session, root, None) for root in other_identities_below(cls))


def hidden_from(session: "Session | None", cls: type, lookups: Sequence[Lookup], tenant_of: "TenantOf | None" = None) -> list[str]:
    """Tell of each lookup why a session must not be given what a cache has; ``""``: it may be.

    Args:
        session: Who asks.
        cls: For objects of which class.
        lookups: For which of them.
        tenant_of: How the cache names the tenant of a session, whose rows it keeps apart.
    """
    if session is None or not keys_of(cls).mapped:
        return [""] * len(lookups)
    from stockstore.mapped import OWN_WRITE, has_written, plan_of

    root = plan_of(cls).root
    any_written = has_written(session, root, None)
    if _has_written_below(session, cls):
        return [OWN_WRITE] * len(lookups)
    if not any_written:
        return [_hidden_root(session, root, tenant_of)] * len(lookups)
    written = [has_written(session, root, identity_in(cls, lookup)) for lookup in lookups]
    hidden = "" if all(written) else _hidden_root(session, root, tenant_of)
    return [OWN_WRITE if own else hidden for own in written]


def _hidden_root(session: "Session", root: type, tenant_of: "TenantOf | None") -> str:
    from stockstore.mapped import TENANT, hides

    hidden = hides(session, root)
    apart = hidden == TENANT and tenant_of is not None and tenant_of(session) is not None
    return "" if apart else hidden


def identity_in(cls: type, lookup: Lookup | None) -> tuple[object, ...] | None:
    """Give the primary key that a lookup names; ``None`` where it may be any."""
    identity = keys_of(cls).identity
    if lookup is None or lookup.plan is not identity:
        return None
    given = dict(zip(identity.names, lookup.values, strict=True))
    return tuple(given[name] for name in identity.declared)
