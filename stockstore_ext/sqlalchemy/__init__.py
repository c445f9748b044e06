"""The SQLAlchemy session hook: keeps caches true while the application simply uses its sessions."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stockstore_ext.sqlalchemy.guarantee import Guarantee, TierGuarantee
    from stockstore_ext.sqlalchemy.sync import SessionSync

__all__ = ["Guarantee", "SessionSync", "TierGuarantee"]

_MODULES = {"Guarantee": "guarantee", "SessionSync": "sync", "TierGuarantee": "guarantee"}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
