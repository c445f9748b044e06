"""Instances as the result of a statement, the same to whoever reads it as SQLAlchemy's own."""

from collections.abc import Iterator, Sequence
from inspect import signature
from itertools import islice
from typing import Any, Final

from sqlalchemy.engine import ChunkedIteratorResult, Result
from sqlalchemy.engine.result import SimpleResultMetaData
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.util import immutabledict

from stockstore_ext.sqlalchemy.read_through.entities import Entity

_MADE_LATE: Final = "_create_unique_filters" in signature(SimpleResultMetaData).parameters
"""Whether SQLAlchemy asks for the filters of ``unique()`` when they are needed, as it does since 2.1."""
_ALONE: Final = immutabledict({"filtered": True, "is_single_entity": True})
_PAIRED: Final = immutabledict({"filtered": True, "is_single_entity": False})


def entity_result(entity: Entity, instances: Sequence[object]) -> Result[Any]:
    """Give the result of a SELECT of one class."""
    metadata = entity.metadata
    if metadata is None:
        metadata = entity.metadata = _metadata([entity.cls.__name__], [(entity.cls,)], [id])
    return _result(metadata, instances, alone=True)


def paired_result(entity: Entity, pairs: Sequence[tuple[tuple[Any, ...], object]], listed: Sequence[str] = ()) -> Result[Any]:
    """Give the result of a statement of SQLAlchemy's loader of relationships: the primary key, or the values of an index, and the instance."""
    if _MADE_LATE:
        names: list[Any] = list(listed) or [column.key for column in entity.mapper.primary_key]
        metadata = _metadata([*names, entity.cls.__name__], [(), (entity.cls,)], [*[None] * len(names), id], len(names))
        return _result(metadata, [(*key, instance) for key, instance in pairs], alone=False)
    metadata = _metadata(["pk", entity.cls.__name__], [(), (entity.cls,)], [None, id])
    return _result(metadata, pairs, alone=False)


def _metadata(names: Sequence[Any], extra: list[Any], filters: list[Any], keys: int = 1) -> Any:
    extra = [*extra[:-1] * keys, extra[-1]]
    made: Any = SimpleResultMetaData
    if not _MADE_LATE:
        return made(names, extra, _unique_filters=filters)

    def create(result: Any) -> list[Any]:
        if result._yield_per:  # noqa: SLF001 - as SQLAlchemy's own
            raise InvalidRequestError("Can't use the ORM yield_per feature in conjunction with unique()")
        return filters

    return made(names, extra, _create_unique_filters=create)


def _result(metadata: Any, rows: Sequence[Any], *, alone: bool) -> Result[Any]:
    rest = iter(rows)

    def chunks(size: int | None) -> Iterator[list[Any]]:
        if size is None:
            yield list(rest)
        else:
            while chunk := list(islice(rest, size)):
                yield chunk

    result: Any = ChunkedIteratorResult(metadata, chunks, source_supports_scalars=alone)
    # By these Query tells that its rows are instances, each to be given once.
    result._attributes = _ALONE if alone else _PAIRED  # noqa: SLF001
    return result  # type: ignore[no-any-return]
