"""Hits in process memory: one object, a hundred, beside a bare dict and the in-process peers."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from threading import Lock
from typing import Any, Final

from cachetools import TTLCache
from dogpile.cache import make_region

from bench.context import Context, calls, expect, expect_all
from bench.measure import Clock, Way
from bench.report import OURS, Row, at_most, timed
from bench.samples import Article, Part, Product, fields
from stockstore import ChainedStore, MappingStore, ProcessMemoryStore
from stockstore.instrumentation import Hook, hooked

SUBJECT: Final = "process memory, hits on plain objects"
_DICT: Final = "inlined d[k]"
_COUNT: Final = 1000
_ASKED: Final = 500
_FORMS: Final = {
    "bare value": "store.get(cls, k)",
    "prebuilt dict": "store.get(cls, key)",
    "dict literal": 'store.get(cls, {"id": k})',
    "keyword": "store.get(cls, id=k)",
}


def rows(context: Context) -> Iterator[Row]:
    yield from _forms(context, "", None, 8)
    yield from _forms(context, ", with a lifetime", 3600, 12)
    yield from _other_keys(context)
    yield from _peers(context)
    yield from _batches(context)
    yield from _hooks(context)


def _stored(cls: Callable[..., Any], lifetime: float | None = None) -> tuple[ProcessMemoryStore, dict[int, Any]]:
    store = ProcessMemoryStore(lifetime=lifetime)
    objects = {number: cls(**fields(number)) for number in range(_COUNT)}
    store.batch_put(objects.values())
    return store, objects


def _forms(context: Context, suffix: str, lifetime: float | None, limit: float) -> Iterator[Row]:
    store, objects = _stored(Product, lifetime)
    names = {"store": store, "cls": Product, "k": _ASKED, "key": {"id": _ASKED}, "d": objects}
    for statement in _FORMS.values():
        expect(statement, eval(statement, names) is objects[_ASKED], wanted=True)
    times = context.race_unwaiting({_DICT: Way("d[k]", names)} | {form: Way(statement, names) for form, statement in _FORMS.items()})
    for form in _FORMS:
        yield timed(SUBJECT, f"get, {form}{suffix}", times, _DICT, at_most(limit), ours=form)


def _other_keys(context: Context) -> Iterator[Row]:
    articles, by_number = _stored(Article)
    parts, _ = _stored(Part)
    names = {"articles": articles, "parts": parts, "Article": Article, "Part": Part, "i": _ASKED, **fields(_ASKED)}
    found = {
        "get, another key than the canonical one": "articles.get(Article, sku=sku)",
        "get, a key of two names, tuple": "parts.get(Part, (i, sku))",
        "get, a key of two names, dict literal": 'parts.get(Part, {"sku": sku, "id": i})',
        "get, a key of two names, keywords": "parts.get(Part, id=i, sku=sku)",
        "get, another key of two names, keywords": "parts.get(Part, stock=stock, name=name)",
    }
    missed = {
        "get, a miss, bare value": "articles.get(Article, -1)",
        "get, a miss, keyword": "articles.get(Article, sku=name)",
        "get, a miss, a key of two names, tuple": "parts.get(Part, (i, name))",
    }
    for statements, wanted in ((found, fields(_ASKED)), (missed, None)):
        for statement in statements.values():
            got = eval(statement, names)
            expect(statement, got and vars(got), wanted)
    ways = {name: Way(statement, names) for name, statement in (found | missed).items()}
    times = context.race_unwaiting({_DICT: Way("d[k]", {"d": by_number, "k": _ASKED}), **ways})
    for name in ways:
        yield timed(SUBJECT, name, times, _DICT, ours=name)


def naive_key(cls: type, key: dict[str, object]) -> str:
    """What a cache without compiled keys does at each look-up."""
    return f"{cls.__module__}.{cls.__qualname__}:" + ":".join(f"{name}={key[name]!r}" for name in sorted(key))


def _peers(context: Context) -> Iterator[Row]:
    store, objects = _stored(Product, 3600)
    cache: TTLCache[int, Product] = TTLCache(_COUNT, 3600)
    cache.update(objects)
    region = make_region().configure("dogpile.cache.memory", expiration_time=3600)
    region.set_multi({str(number): product for number, product in objects.items()})
    named = {naive_key(Product, {"id": number}): product for number, product in objects.items()}
    shared = {"cls": Product, "k": _ASKED, "text": str(_ASKED), "lock": Lock()}
    names = shared | {"store": store, "cache": cache, "region": region, "d": named, "naive_key": naive_key}
    peers = {
        "cachetools TTLCache with a lock": "with lock: cache[k]",
        "dict with a naively built key": 'd[naive_key(cls, {"id": k})]',
        "dogpile.cache memory": "region.get(text)",
    }
    expect("cachetools", cache[_ASKED] is objects[_ASKED], wanted=True)
    expect("dogpile.cache", region.get(str(_ASKED)) is objects[_ASKED], wanted=True)
    expect("naive key", named[naive_key(Product, {"id": _ASKED})] is objects[_ASKED], wanted=True)
    ways = {OURS: 'store.get(cls, {"id": k})', **peers}
    times = context.race_unwaiting({name: Way(statement, names) for name, statement in ways.items()})
    for peer in peers:
        target = at_most(1) if peer.startswith("cachetools") else None
        yield timed(SUBJECT, "get, dict literal, with a lifetime", times, peer, target)


def _batches(context: Context) -> Iterator[Row]:
    store, objects = _stored(Product)
    lasting, _ = _stored(Product, 3600)
    numbers = list(range(0, _COUNT, 10))
    keys = [{"id": number} for number in numbers]
    wanted = [objects[number] for number in numbers]
    peer = "{k: d[k] for k in ks}"
    ours: dict[str, Callable[[], object]] = {
        "batch_get of 100, bare values": lambda: store.batch_get(Product, numbers),
        "batch_get of 100, dicts": lambda: store.batch_get(Product, keys),
        "batch_get of 100, bare values, with a lifetime": lambda: lasting.batch_get(Product, numbers),
    }
    expect_all(wanted, ours)
    times = context.race_unwaiting({peer: Way(peer, {"d": objects, "ks": numbers}), **calls(ours)})
    for name in ours:
        yield timed(SUBJECT, name, times, peer, at_most(3), ours=name)


class _Hooked(Way):
    """A way with a hook, or with none, that is run before it is timed: when hooks come or go stores learn anew."""

    def __init__(self, statement: str, names: Mapping[str, object], hook: Hook | None = None) -> None:
        super().__init__(statement, names)
        self._hook = hook

    def _run(self, clock: Clock) -> float:
        with nullcontext() if self._hook is None else hooked(self._hook):
            super()._run(clock)
            return super()._run(clock)


def _hooks(context: Context) -> Iterator[Row]:
    store, objects = _stored(Product)
    ways: dict[str, Way] = {}
    for name, get in {"get": store.get, "get in a chain": ChainedStore([store, MappingStore({})]).get}.items():
        expect(name, get(Product, _ASKED) is objects[_ASKED], wanted=True)
        names = {"get": get, "cls": Product, "k": _ASKED}
        ways[name] = _Hooked("get(cls, k)", names)
        ways[f"{name}, with a hook"] = _Hooked("get(cls, k)", names, lambda _: None)
    times = context.race_unwaiting(ways)
    for without, hooked_ in zip(list(ways)[::2], list(ways)[1::2], strict=True):
        yield timed(SUBJECT, hooked_, times, without, ours=hooked_)
