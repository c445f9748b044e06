"""Every error that stockstore raises, under one root."""


class StockstoreError(Exception):
    """The root of all errors that stockstore raises."""


class UnknownKeyError(StockstoreError):
    """A look-up named a key that its class does not declare, or only a part of one."""


class NotKeyedError(StockstoreError):
    """A class declares no keys, or an object has no value for its canonical key."""


class NonUniqueKeyError(StockstoreError):
    """Two rows of the origin carry the same value of a key that was declared unique."""


class CodecError(StockstoreError):
    """A value cannot be encoded, or a payload cannot be decoded."""


class CacheUnreachable(StockstoreError):  # noqa: N818 - the published name
    """A cache server did not answer, or refused the operation."""


class OriginError(StockstoreError):
    """The database did not answer, or refused the operation; ``__cause__`` is its error."""


class ConfigurationError(StockstoreError, ValueError):
    """A store was built from settings that do not fit."""
