"""The source of the code by which :mod:`stockstore.mapped.hydrate` makes instances of one class."""

from collections.abc import Sequence
from textwrap import indent
from typing import Final

# What a new instance needs, with InstanceState.__init__ written out: a call less for each object of a batch.
_MAKE: Final = """
obj = NEW(CLS)
st = NEW_STATE(STATE)
{fill}
d["_sa_instance_state"] = st
st.class_ = CLS
st.manager = MANAGER
ref = st.obj = REF(obj, GONE)
ref.state = st
st.committed_state = {{}}
st.expired_attributes = {expired}
st.key = key{strip}
"""

_ONE: Final = """
def hydrate(v):
    key = (ROOT, {identity}, None)
    {make1}
    if DISPATCH.load: LOADED(st, d, None)
    return obj

def attach(session, v):
    key = (ROOT, {identity}, None)
    imap = session.identity_map
    st = imap._dict.get(key)
    obj = None if st is None else st.obj()
    if obj is None:
        transaction = session._transaction
        if transaction is None or transaction._state is not ACTIVE: BEGIN(session, MAPPER)
        {make2}
        st.session_id = session.hash_key
        imap._add_unpresent(st, key)
        if DISPATCH.load or session.dispatch.loaded_as_persistent: LOADED(st, d, session)
    return obj
"""

_MANY: Final = """
def {name}(session, rows, complete=None, token=None):
    imap = session.identity_map
    present = imap._dict
    get = present.get
    wr = imap._wr
    session_id = session.hash_key
    listened = bool(DISPATCH.load or session.dispatch.loaded_as_persistent)
    told = bool(DISPATCH.refresh)
    begun = False
    found = []
    append = found.append
    {before}
    for {row}:
        {key}
        st = get(key)
        obj = None if st is None else st.obj()
        if obj is None:
            if not begun:
                begun = True
                transaction = session._transaction
                if transaction is None or transaction._state is not ACTIVE: BEGIN(session, MAPPER, token)
            {make}
            if token is not None: st.identity_token = token
            st.session_id = session_id
            present[key] = st
            st._instance_dict = wr
            if listened: LOADED(st, d, session)
        elif complete is not None:
            if told or st.manager is not MANAGER: complete(obj, {state})
            else:
                try: FILLED(obj.__dict__)
                except KeyError: complete(obj, {state})
        append(obj)
    return found
"""

# Of rows that are all new to a session, where nobody hears of it: they enter the identity map together.
_NEW: Final = """
def attach_familiar(session, rows, complete=None, token=None):
    imap, transaction = session.identity_map, session._transaction
    present = imap._dict
    if (
        token is not None
        or transaction is None
        or transaction._state is not ACTIVE
        or DISPATCH.load
        or session.dispatch.loaded_as_persistent
        or (present and not present.keys().isdisjoint([key for _, key, _ in rows]))
    ):
        return attach_known(session, rows, complete, token)
    wr, session_id = imap._wr, session.hash_key
    fresh, found = {{}}, []
    append = found.append
    {before}
    for {row}:
        {make}
        st.session_id = session_id
        st._instance_dict = wr
        fresh[key] = st
        append(obj)
    if len(fresh) < len(found):
        return attach_known(session, rows, complete, token)
    present.update(fresh)
    return found
"""


def source_of(attrs: Sequence[str], primary_key: Sequence[str], documents: Sequence[int], *, has_missing: bool, is_plain: bool) -> str:
    """Give the source of all functions of one class.

    Args:
        attrs: The attributes of a state.
        primary_key: Those of the primary key.
        documents: The positions of those whose values are JSON documents.
        has_missing: Whether there are attributes besides that a load would fill.
        is_plain: Whether the ``__dict__`` of a new instance is empty, and may be replaced.
    """
    names = [f"v{position}" for position in range(len(attrs))]
    fill = [f"{', '.join(names)}, = v", "d = obj.__dict__", *(f"d[{key!r}] = {name}" for key, name in zip(attrs, names, strict=True))]
    strip = "\nif {}: STRIP(d, st)".format(" or ".join(f"{name} is UNLOADED" for name in names))
    expired = "set(MISSING)" if has_missing else "set()"
    identity = "({},)".format(", ".join(f"v[{attrs.index(key)}]" for key in primary_key))
    checked, whole = (_MAKE.format(fill="\n".join(fill), expired=expired, strip=end).strip() for end in (strip, ""))
    states = {"before": "", "row": "v in rows", "key": f"key = (ROOT, {identity}, token)", "state": "v"}
    return "\n".join(
        [
            _ONE.format(identity=identity, make1=_at(1, checked), make2=_at(2, checked)),
            _MANY.format(name="attach_many", make=_at(3, checked), **states),
            _MANY.format(name="attach_whole", make=_at(3, whole), **states),
            _familiar([attrs[position] for position in documents], expired, is_plain=is_plain),
        ]
    )


def _familiar(documents: list[str], expired: str, *, is_plain: bool) -> str:
    """Give the source for rows whose unchangeable values are shared, and whose documents are decoded anew."""
    names, count = [f"w{place}" for place in range(len(documents))], len(documents)
    own = [f"d[{key!r}] = {name}" for key, name in zip(documents, names, strict=True)]
    items = "".join(f", {key!r}: {name}" for key, name in zip(documents, names, strict=True))
    slices = "".join(f", documents[{place}::{count}]" for place in range(count))
    values = ["d = obj.__dict__ = values.copy()"] if is_plain else ["d = obj.__dict__", "d.update(values)"]
    make = _MAKE.format(fill="\n".join([*values, *own]), expired=expired, strip="").strip()
    rows = {
        "before": f"documents = DOCUMENTS(rows, {count})" if documents else "",
        "row": f"(values, key, _), {', '.join(names)} in zip(rows{slices})" if documents else "values, key, _ in rows",
    }
    # A copy has the place of the instance's state in front.
    state = f"(*{{**values{items}}}.values(),){'[1:]' if is_plain else ''}"
    known = _MANY.format(name="attach_known", key="if token is not None: key = (*key[:2], token)", make=_at(3, make), state=state, **rows)
    return known + _NEW.format(make=_at(2, make), **rows)


def _at(depth: int, source: str) -> str:
    return indent(source, "    " * depth).lstrip()
