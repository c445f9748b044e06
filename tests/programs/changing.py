"""Steps that change objects, and sessions."""

import gc
from typing import Any

from sqlalchemy import inspect
from sqlalchemy.orm import make_transient, make_transient_to_detached
from sqlalchemy.orm.attributes import flag_modified

from tests.programs.models import Sheet
from tests.programs.reading import identity, primary, relationships, value_of
from tests.programs.rows import POOLS
from tests.programs.running import Run, Step, step
from tests.programs.ways import SESSIONS, is_autocommit


def made(cls: Any, number: int, more: int) -> Any:
    """Give a new object."""
    keyed = primary(cls)
    names = list(POOLS[cls]) if more % 3 else [name for name in POOLS[cls] if name not in ("status", "bio", "title")]
    values = {name: value_of(cls, name, number if name in keyed else more + at) for at, name in enumerate(names)}
    if cls is Sheet:
        values.pop("state", None)
    return cls(**{name: value for name, value in values.items() if value is not None})


def has_kinds(cls: type) -> bool:
    """Whether a row of it is of one of several classes, which nothing but an INSERT is to say."""
    mapper: Any = inspect(cls)
    return mapper.polymorphic_on is not None


@step(6)
def _add(run: Run, each: Step) -> Any:
    obj = made(run.cls(each), each.a, each.v)
    run.on(each).add(obj)
    return run.hold(each, obj)


@step(1)
def _add_all(run: Run, each: Step) -> Any:
    objects = [made(run.cls(each), each.a + n, each.v + n) for n in range(2)]
    run.on(each).add_all(objects)
    return run.hold(each, *objects)


@step(2)
def _add_again(run: Run, each: Step) -> Any:
    obj = run.pick(each, each.a)
    return obj is not None and run.on(each).add(obj)


@step(3)
def _delete(run: Run, each: Step) -> Any:
    obj = run.pick(each, each.a)
    return obj is not None and run.on(each).delete(obj)


@step(8)
def _set(run: Run, each: Step) -> Any:
    obj = run.pick(each, each.a)
    if obj is None:
        return None
    names = list(POOLS[type(obj)])
    name = names[each.b % len(names)]
    setattr(obj, name, value_of(type(obj), name, each.v))
    return name


@step(1)
def _set_key(run: Run, each: Step) -> Any:
    obj = run.pick(each, each.a)
    if obj is None:
        return None
    for name in primary(type(obj)):
        setattr(obj, name, value_of(type(obj), name, each.v))
    return None


@step(4)
def _relate(run: Run, each: Step) -> Any:
    obj = run.pick(each, each.a)
    related = [rel for rel in relationships(type(obj)) if not rel.uselist] if obj is not None else []
    if not related:
        return None
    rel = related[each.b % len(related)]
    setattr(obj, rel.key, None if each.v == 0 else run.pick(each, each.v, rel.mapper.class_))
    return rel.key


@step(4)
def _collect(run: Run, each: Step) -> Any:
    obj = run.pick(each, each.a)
    mapper: Any = obj is not None and inspect(obj).mapper
    related = [rel for rel in mapper.relationships if rel.uselist] if mapper else []
    if not related:
        return None
    rel = related[each.b % len(related)]
    other = run.pick(each, each.v, rel.mapper.class_)
    collection = getattr(obj, rel.key)
    if rel.lazy in ("write_only", "dynamic"):
        return other is not None and (collection.add(other) if each.v % 2 else collection.remove(other))
    if each.v == 0:
        collection.clear()
    elif each.v == 1:
        setattr(obj, rel.key, [other] if other is not None else [])
    elif other is not None and other in collection:
        collection.remove(other)
    elif other is not None:
        collection.append(other)
    return rel.key


@step(1)
def _mutate(run: Run, each: Step) -> Any:
    obj = run.pick(each, each.a)
    if obj is None or "prefs" not in POOLS[type(obj)]:
        return None
    if obj.prefs is not None:
        obj.prefs["k"] = each.v
    else:
        flag_modified(obj, "title")
    return None


@step(2, reads=True)
def _expire(run: Run, each: Step) -> Any:
    obj = run.pick(each, each.a)
    names = [prop.key for prop in inspect(obj).mapper.attrs] if obj is not None else []
    return obj is not None and run.on(each).expire(obj, None if each.v % 2 else [names[each.b % len(names)], names[each.v % len(names)]])


@step(2)
def _refresh(run: Run, each: Step) -> Any:
    obj = run.pick(each, each.a)
    if obj is None:
        return None
    names = [prop.key for prop in inspect(obj).mapper.column_attrs] + [rel.key for rel in relationships(type(obj))]
    options: dict[str, Any] = {} if each.v % 3 else {"with_for_update": True}
    return run.on(each).refresh(obj, None if each.v % 2 else [names[each.b % len(names)]], **options)


@step(1, reads=True)
def _expunge(run: Run, each: Step) -> Any:
    obj = run.pick(each, each.a)
    return obj is not None and run.on(each).expunge(obj)


@step(3)
def _merge(run: Run, each: Step) -> Any:
    given = run.held[(each.session + each.b) % SESSIONS]
    if not given:
        return None
    obj = given[each.a % len(given)]
    return run.hold(each, run.on(each).merge(obj, load=each.v != 0))


@step(1)
def _merge_new(run: Run, each: Step) -> Any:
    cls = run.cls(each)
    return None if has_kinds(cls) else run.hold(each, run.on(each).merge(made(cls, each.a, each.v)))


@step(1)
def _make_transient(run: Run, each: Step) -> Any:
    obj = run.pick(each, each.a)
    if obj is not None:
        make_transient(obj)


@step(1)
def _make_detached(run: Run, each: Step) -> Any:
    cls = run.cls(each)
    names = primary(cls)
    key = identity(cls, each.a)
    obj = cls(**dict(zip(names, key if len(names) > 1 else (key,), strict=True)))
    make_transient_to_detached(obj)
    run.on(each).add(obj)
    return run.hold(each, obj)


@step(3, reads=True)
def _forget(run: Run, each: Step) -> Any:
    held = run.held[each.session]
    del held[each.a % 3 :]
    gc.collect()


@step(3)
def _flush(run: Run, each: Step) -> Any:
    return run.on(each).flush()


@step(8)
def _commit(run: Run, each: Step) -> Any:
    return run.on(each).commit()


@step(3, reads=True)
def _rollback(run: Run, each: Step) -> Any:
    return run.on(each).rollback()


@step(2)
def _begin_nested(run: Run, each: Step) -> Any:
    session = run.on(each)
    if is_autocommit(session) and session.get_bind().dialect.name != "sqlite":  # where only its first statement would be refused
        return
    run.nested.add(each.session)
    session.begin_nested()


@step(2)
def _end_nested(run: Run, each: Step) -> Any:
    nested = run.on(each).get_nested_transaction()
    return nested and (nested.commit() if each.v % 2 else nested.rollback())


@step(1, reads=True)
def _expire_all(run: Run, each: Step) -> Any:
    return run.on(each).expire_all()


@step(1, reads=True)
def _close(run: Run, each: Step) -> Any:
    return run.on(each).close() if each.v % 2 else run.on(each).reset()


@step(1, reads=True)
def _expunge_all(run: Run, each: Step) -> Any:
    return run.on(each).expunge_all()


@step(1, reads=True)
def _autoflush(run: Run, each: Step) -> Any:
    run.on(each).autoflush = bool(each.v % 2)
