"""Keys: what a class declares, and the canonical form and text of its values."""

from stockstore.keys.classes import ClassKeys, Key, alias_plans, forget_keys, keys_of, may_be_pointed_at
from stockstore.keys.declared import class_name, has_other_identities_below, mapper_of, other_identities_below
from stockstore.keys.encoding import Canonical, canonical
from stockstore.keys.plans import IndexPlan, KeyPlan, ListLookup, Lookup, Native
from stockstore.keys.prefixes import key_text, label_of, namespace_text

__all__ = [
    "Canonical",
    "ClassKeys",
    "IndexPlan",
    "Key",
    "KeyPlan",
    "ListLookup",
    "Lookup",
    "Native",
    "alias_plans",
    "canonical",
    "class_name",
    "forget_keys",
    "has_other_identities_below",
    "key_text",
    "keys_of",
    "label_of",
    "mapper_of",
    "may_be_pointed_at",
    "namespace_text",
    "other_identities_below",
]
