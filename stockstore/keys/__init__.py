"""Keys: what a class declares, and the canonical form and text of its values."""

from stockstore.keys.declared import class_name, key_bases, mapper_of
from stockstore.keys.encoding import Canonical, canonical
from stockstore.keys.plans import ClassKeys, Key, KeyPlan, Lookup, Native, key_text, keys_of, label_of, namespace_text

__all__ = [
    "Canonical",
    "ClassKeys",
    "Key",
    "KeyPlan",
    "Lookup",
    "Native",
    "canonical",
    "class_name",
    "key_bases",
    "key_text",
    "keys_of",
    "label_of",
    "mapper_of",
    "namespace_text",
]
