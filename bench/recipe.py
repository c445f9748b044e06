"""The caching queries of SQLAlchemy's documentation: whole results of statements in a dogpile.cache region."""

from typing import Any, Final

from dogpile.cache.region import CacheRegion
from sqlalchemy import Select, event
from sqlalchemy.orm import ORMExecuteState, Session, loading, sessionmaker
from sqlalchemy.orm.interfaces import UserDefinedOption


class FromCache(UserDefinedOption):
    """Asks that a statement be answered from the region."""

    propagate_to_loaders = False


FROM_CACHE: Final = FromCache()


class CachedQueries:
    """Answers the statements of a maker's sessions that ask for it; what was written the application has to tell itself."""

    def __init__(self, region: CacheRegion, maker: sessionmaker[Session]) -> None:
        self._region = region
        self._texts: dict[Any, str] = {}
        event.listen(maker, "do_orm_execute", self._answer)

    def forget(self, statement: Select[Any]) -> None:
        """Drop the result of a statement, after a commit that changed it."""
        self._region.delete(self._key(statement, {}))

    def _answer(self, state: ORMExecuteState) -> Any:
        if FROM_CACHE not in state.user_defined_options:
            return None
        key = self._key(state.statement, state.parameters or {})
        frozen = self._region.get_or_create(key, lambda: state.invoke_statement().freeze())
        return loading.merge_frozen_result(state.session, state.statement, frozen, load=False)()  # type: ignore[no-untyped-call]

    def _key(self, statement: Any, parameters: Any) -> str:
        return str(statement._generate_cache_key().to_offline_string(self._texts, statement, parameters))  # noqa: SLF001 - as the recipe does
