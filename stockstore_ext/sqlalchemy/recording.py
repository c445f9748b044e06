"""From what sessions and engines tell to what a commit does to the caches."""

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Literal, TypeAlias
from weakref import WeakKeyDictionary, WeakSet, ref

from sqlalchemy import Connection, Engine
from sqlalchemy.engine import ExecutionContext
from sqlalchemy.orm import Mapper, Session

from stockstore.coherence.commit import Commit, OnUnreachable, Prepared
from stockstore.coherence.protocol import Outcome, Writes
from stockstore.coherence.resolver import Resolver
from stockstore.coherence.writer import WriteThrough
from stockstore.errors import StockstoreError
from stockstore.evidence import AnyEvidence, Outbox
from stockstore.evidence.aside import aside, asking, is_private
from stockstore.evidence.choice import evidence_on
from stockstore.mapped.hydrate import is_flushing, open_connection
from stockstore.mapped.sessions import is_clean, note
from stockstore.mapped.shown import first_line, shown
from stockstore.stores.snapshots import Snapshot
from stockstore.stores.tiers.backed import BackendTier
from stockstore_ext.sqlalchemy.collect import Collecting, WritesOf, is_idle, statement
from stockstore_ext.sqlalchemy.drivers import commits_at_once, is_aborted, may_commit
from stockstore_ext.sqlalchemy.engine_events import base_engine
from stockstore_ext.sqlalchemy.exact import exact_rows
from stockstore_ext.sqlalchemy.frames import FOREIGN, Finish, Frame, Scope, frame_on, open_frame
from stockstore_ext.sqlalchemy.refusals import as_statements
from stockstore_ext.sqlalchemy.scope import Scopes
from stockstore_ext.sqlalchemy.shards import is_sharded
from stockstore_ext.sqlalchemy.turns import turns_foreign

Consistency: TypeAlias = Literal["strict", "fast"]
Write: TypeAlias = Literal["through", "invalidate"]
_MEANS: Final = "_stockstore_means"
"""The attribute of an engine."""
_log: Final = logging.getLogger(__name__)


@dataclass(frozen=True)
class Settings:
    """What the user chose."""

    consistency: Consistency
    write: Write
    on_unreachable: OnUnreachable | None
    outbox: bool


@dataclass(frozen=True)
class Means:
    """What an engine's database offers: its evidence, its outbox, and the commit that uses them."""

    evidence: AnyEvidence | None
    outbox: Outbox | None
    on_unreachable: OnUnreachable
    commit: "Commit[Any, Snapshot]"


class Recording:
    """One hook's part between the events and the caches; what is pending is in the frames."""

    def __init__(self, tiers: Iterable[Any], settings: Settings, collecting: Collecting, scopes: Scopes, outbox: Outbox) -> None:
        """Serve the cache tiers of one store."""
        self.tiers = tuple(tiers)
        self.through: WriteThrough[Snapshot] = WriteThrough(self.tiers)
        self.settings = settings
        self.collecting = collecting
        self.scopes = scopes
        self._outbox = outbox
        self._resolved: set[str] = set()
        self._frames: WeakSet[Frame] = WeakSet()
        self._careless: WeakSet[Engine] = WeakSet()
        self.silent: WeakKeyDictionary[Engine, str] = WeakKeyDictionary()
        """Why databases could not be asked when they were last."""
        self._leave: Callable[[], None] | None = None
        self.has_left = False
        # As a WeakKeyDictionary, which takes longer.
        self._using: dict[ref[Session], list[Frame]] = {}
        self._forget = partial(_forget, self._using)

    # -- sessions --------------------------------------------------------------------------------

    def begin(self, session: Session, connection: Connection) -> None:
        """Tie a session to the frame of a connection that it uses from now on."""
        frame = frame_on(connection.info, self)
        # Nearly all transactions begin on a connection that is known, in the only scope that there is.
        if frame is None or self.scopes.names_differ or is_sharded(session):
            frame = self._named(session, connection, frame)
        frame.joined = True
        if frame.touched:
            frame.resume()
        if ref(session) not in frame.users:  # else it is a savepoint that begins
            self._tie(session, frame)

    def _named(self, session: Session, connection: Connection, frame: Frame | None) -> Frame:
        """Give the frame of a connection, with the names of those who use it."""
        if frame is None:
            frame = open_frame(connection.info, self)
            self._frames.add(frame)
        if not frame.joined:
            frame.names = self.scopes.names_on(connection, frame.sessions)
        frame.names |= self.scopes.names_on(connection, [session])
        frame.scopes = self.scopes.scopes_on(connection, frame)
        frame.shard = self.scopes.shard_on(connection.engine)
        return frame

    def _tie(self, session: Session, frame: Frame) -> None:
        frames = self._using.get(ref(session))
        if frames is None:
            user = ref(session, self._forget)
            self._using[user] = [frame]
        else:
            user = next(user for user in frames[0].users if user() is session)
            frames.append(frame)
        frame.users[user] = None
        if frame.written:  # by another session of the caller's transaction
            note(session, {root for writes in frame.all_writes().values() for root in writes.roots.values()})

    def end(self, session: Session) -> None:
        """Untie a session whose transaction has ended; what it wrote stays with the connection until that commits."""
        _forget(self._using, ref(session))

    def frames_of(self, session: Session) -> list[Frame]:
        """Give the frames of the connections that a session uses."""
        return list(self._using.get(ref(session), ()))

    def end_part(self, session: Session) -> None:
        """Take what is left of a flush, which has told its rows, or of a bulk method, which tells none, as certain."""
        for frame in self.frames_of(session):
            if frame.touched:
                note(session, frame.keep_tentative())

    def hides(self, session: Session, root: type) -> str:
        """Tell why a session has to read a class from its own connection, and must fill nothing from it; ``""``: it need not."""
        return self.scopes.hides(session, root, self.frames_of(session))

    def sees(self, connection: Connection, session: "ref[Session]") -> bool:
        """Whether a session certainly reads on a connection what the caches hold; asked for each hit."""
        frames = self._using.get(session)
        return frames is not None and self.scopes.sees(connection, frames)

    def may_fill(self, session: Session, connection: Connection) -> bool:
        """Whether the caches may be given what a session reads on a connection now."""
        return is_clean(session) and self.scopes.may_fill(connection, self.frames_of(session))

    def attach(self) -> None:
        """Stay on the engines."""
        self._leave, self.has_left = None, False

    def detach(self, leave: Callable[[], None]) -> None:
        """Leave the engines as soon as no transaction has written anything that is yet to be told."""
        self._leave = leave
        self._leave_if_idle()

    def _leave_if_idle(self) -> None:
        if self._leave is not None and not any(frame.written or frame.is_prepared for frame in self._frames):
            self._leave()
            self._leave, self.has_left = None, True

    def writes_of(self, session: Session) -> WritesOf:
        """Give what tells where a mapper's writes are noted."""
        known: dict[Mapper[Any], Writes] = {}

        def of(mapper: Mapper[Any]) -> Writes:
            if mapper not in known:
                connection = session.connection(bind_arguments={"mapper": mapper})
                frame = open_frame(connection.info, self)
                known[mapper] = frame.writes(self.scopes.of(session, connection, frame))
            return known[mapper]

        return of

    def hides_shard(self, session: Session, engine: Engine) -> str:
        """Tell why a sharded session has to read a shard from its own connection; ``""``: it need not."""
        connection = open_connection(session, engine)
        return self.scopes.hides_shard(engine, connection, None if connection is None else frame_on(connection.info, self))

    def may_fill_shard(self, session: Session, connection: Connection) -> bool:
        """Whether the caches may be given what a sharded session reads on a connection now."""
        frame = frame_on(connection.info, self)
        return frame is not None and is_clean(session) and self.scopes.may_fill(connection, [frame])

    # -- statements ------------------------------------------------------------------------------

    def statement(self, connection: Connection, frame: Frame, sql: str, context: ExecutionContext) -> None:
        """Note what a statement writes that may; one that commits by itself is marked now."""
        frame.touched = True
        turns_foreign(connection, frame, sql)
        idle = is_idle(context, self.collecting)
        if idle and not frame.written:
            return
        if not idle:
            self._note(connection, frame, sql, context)
        if commits_at_once(connection, sql):
            # What has written nothing may begin a transaction, as a SAVEPOINT does: what a flush writes then is not committed with it.
            frame.autocommitted = frame.noted
            # Whether sqlite3 begins a transaction after a comment depends on its version.
            frame.doubtful = connection.dialect.name == "sqlite"
            self._mark_statement(connection, frame, context)
        elif frame.written and may_commit(connection, sql, context):
            frame.doubtful = True
            self._mark_statement(connection, frame, context)

    def _note(self, connection: Connection, frame: Frame, sql: str, context: ExecutionContext | None) -> None:
        for scope in self.scopes.of_statement(connection, frame, context):
            writes = frame.writes(scope)
            statement(context, sql, writes, self.collecting)
            for session in frame.sessions:
                # The rows of a flush are noted one by one when it is done, and while it is at work all is read from the database.
                note(session, writes.wide_roots(tentative=not is_flushing(session)))

    def _mark_statement(self, connection: Connection, frame: Frame, context: ExecutionContext) -> None:
        with frame.silence(), as_statements(connection, context):
            for scope, writes in frame.all_writes().items():
                frame.statement.append(self._prepared_statement(connection, scope, writes))
                frame.statement += self._untold(writes)

    def _prepared_statement(self, connection: Connection, scope: Scope, writes: Writes) -> Finish:
        means = self._means_for(connection, scope)
        if means is None:
            return self._afterwards(writes)
        prepared = means.commit.prepare_statement(connection, writes)
        return partial(self._finish, means.commit, prepared)

    # -- commits ---------------------------------------------------------------------------------

    def prepare(self, connection: Connection, writes: dict[Scope, Writes], pending: list[Finish]) -> None:
        """Do what comes before a COMMIT; what is to follow it is added to ``pending``, also where it raises."""
        if is_aborted(connection):
            return
        for scope, part in writes.items():
            pending.append(self._prepared(connection, scope, part))
            pending += self._untold(part)

    def _prepared(self, connection: Connection, scope: Scope, writes: Writes) -> Finish:
        means = self._means_for(connection, scope)
        transactions = set[str]()
        frame = frame_on(connection.info, self)
        locks = frame is None or self.scopes.may_lock(connection, frame)
        wanted = means is not None and self.settings.write == "through"
        # Of a tenant's rows none is read, as names may have meant other tables when they were written.
        rows = exact_rows(connection, writes, wanted=wanted, locks=locks, transactions=transactions) if scope is None else []
        if means is None:
            return self._afterwards(writes)
        prepared = means.commit.prepare(connection, writes, rows, transaction=next(iter(transactions), None))
        return partial(self._finish, means.commit, prepared)

    def _means_for(self, connection: Connection, scope: Scope) -> Means | None:
        strict = self.settings.consistency == "strict" and scope is not FOREIGN
        return self.means_of(base_engine(connection)) if strict else None

    def _finish(self, commit: "Commit[Any, Snapshot]", prepared: "Prepared[Any, Snapshot] | None", outcome: Outcome) -> None:
        if prepared is not None:
            commit.finish(prepared, outcome)
        self._leave_if_idle()

    def afterwards(self, writes: dict[Scope, Writes]) -> list[Finish]:
        """Give what is to follow a COMMIT for which nothing was prepared."""
        return [finish for part in writes.values() for finish in (self._afterwards(part), *self._untold(part))]

    def _untold(self, writes: Writes) -> list[Finish]:
        """Give what is to follow a COMMIT of a tenant's for those who have no tenant, and may see its rows too."""
        if writes.tenant is None:
            return []
        seen = Writes()
        seen.update(writes)
        return [self._afterwards(seen)]

    def _afterwards(self, writes: Writes) -> Finish:
        def finish(outcome: Outcome) -> None:
            if outcome is not Outcome.ROLLED_BACK:
                self.through.invalidate(writes)
            self._leave_if_idle()

        return finish

    # -- means -----------------------------------------------------------------------------------

    def learn(self, engine: Engine) -> None:
        """Find out what a database offers, if that is going to be of use."""
        if self.settings.consistency == "strict":
            self.means_of(engine)

    def means_of(self, engine: Engine) -> Means | None:
        """Give what a database offers, found out once; ``None`` as long as it cannot be asked."""
        # The means know their engine, so that it would never go if they were kept elsewhere.
        known: WeakKeyDictionary[Recording, Means] = vars(engine).setdefault(_MEANS, WeakKeyDictionary())
        means = known.get(self)
        if means is None:
            try:
                means = known[self] = asking(engine, lambda: self._find_means(engine))
            except StockstoreError as error:  # no commit fails for it
                asked = "%s could not be asked for what the strict protocol needs; until then its commits are fast: %s"
                self.silent[engine] = first_line(error)
                _log.warning(asked, shown(engine.url), self.silent[engine])
        return means

    def forget_means(self, engine: Engine) -> None:
        """Find out anew what a database offers."""
        vars(engine).get(_MEANS, {}).pop(self, None)
        self._note_untold(engine, untold=False)

    def _find_means(self, engine: Engine) -> Means:
        outbox, evidence = (None, None) if is_private(engine) else self._asked(engine)
        on_unreachable = self.settings.on_unreachable or ("commit" if outbox is None else "outbox")
        commit: Commit[Any, Snapshot] = Commit(
            self.through, evidence, outbox, on_unreachable=on_unreachable, always=self.settings.outbox and outbox is not None
        )
        if evidence is not None:
            self._resolve_by(evidence)
        self._note_untold(engine, untold=on_unreachable == "commit")
        return Means(evidence, outbox, on_unreachable, commit)

    def _note_untold(self, engine: Engine, *, untold: bool) -> None:
        """Have shared caches keep nothing for long that a commit may have to go on without telling them."""
        (self._careless.add if untold else self._careless.discard)(engine)
        for tier in (getattr(each, "inner", each) for each in self.tiers):
            if isinstance(tier, BackendTier):
                (tier.untold_by.add if len(self._careless) else tier.untold_by.discard)(self)

    def _asked(self, engine: Engine) -> tuple[Outbox | None, AnyEvidence | None]:
        with aside(engine) as connection:
            outbox = self._outbox if self._outbox.exists(connection) else None
            # The markers of process memory end with their process, and nobody asks about them.
            return outbox, evidence_on(connection, engine, outbox) if any(tier.remote for tier in self.tiers) else None

    def _resolve_by(self, evidence: AnyEvidence) -> None:
        if repr(evidence) in self._resolved:  # by another engine of the same database
            return
        self._resolved.add(repr(evidence))
        resolver = Resolver(evidence)
        for tier in self.tiers:
            if tier.remote:
                tier.resolvers.append(resolver)


def _forget(using: dict[ref[Session], list[Frame]], session: ref[Session]) -> None:
    for frame in using.pop(session, ()):
        frame.users.pop(session, None)
