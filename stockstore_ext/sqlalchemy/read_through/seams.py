"""Methods put on a Session class, and taken off again."""

from collections.abc import Callable
from typing import Any, Final, Generic, TypeVar

from sqlalchemy.orm import Session

from stockstore.locks import fork_safe_lock

H = TypeVar("H")
_SLOT: Final = "_stockstore_seam_"
"""The attribute of a Session class, with the name of what makes the methods."""
_lock: Final = fork_safe_lock()


class Seam(Generic[H]):
    """The methods that one Session class has got, and the hooks that are asked there, in the order in which they came.

    What somebody else has put in their place meanwhile stays; it may call ours, which go on to what was there before.
    """

    def __init__(self, cls: type[Session]) -> None:
        """Put nothing yet."""
        self.hooks: tuple[H, ...] = ()
        self.cls = cls
        self._own: dict[str, Any] = {}
        self._put: dict[str, Any] = {}

    def put(self, methods: dict[str, Any]) -> None:
        """Put methods on the class."""
        self._own = {name: vars(self.cls)[name] for name in methods if name in vars(self.cls)}
        self._put = methods
        for name, method in methods.items():
            setattr(self.cls, name, method)

    def take(self) -> None:
        """Take them off."""
        for name, method in self._put.items():
            if vars(self.cls).get(name) is not method:
                continue
            if name in self._own:
                setattr(self.cls, name, self._own[name])
            else:
                delattr(self.cls, name)

    def original(self, session: Session, name: str) -> Callable[..., Any]:
        """Give the method that a session would have without these."""
        own = self._own.get(name)
        method: Callable[..., Any] = getattr(super(self.cls, session), name) if own is None else own.__get__(session)
        return method


def add_hook(cls: type[Session], hook: H, methods: Callable[[Seam[H]], dict[str, Any]]) -> None:
    """Have a hook asked by the sessions of a class."""
    with _lock:
        seam: Seam[H] | None = vars(cls).get(_slot(methods))
        if seam is None:
            seam = Seam(cls)
            seam.put(methods(seam))
            setattr(cls, _slot(methods), seam)
        seam.hooks += (hook,)


def remove_hook(cls: type[Session], hook: H, methods: Callable[[Seam[H]], dict[str, Any]]) -> None:
    """Have it asked no more; the last one takes the methods along."""
    with _lock:
        seam: Seam[H] | None = vars(cls).get(_slot(methods))
        if seam is None:
            return
        seam.hooks = tuple([other for other in seam.hooks if other is not hook])
        if not seam.hooks:
            delattr(cls, _slot(methods))
            seam.take()


def _slot(methods: Callable[..., Any]) -> str:
    return _SLOT + methods.__name__
