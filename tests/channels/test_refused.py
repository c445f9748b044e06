"""A user whom Redis does not let publish: what is said of that, and where."""

import logging
from collections.abc import Iterator

import pytest
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from stockstore import ChainedStore, ConfigurationError, RedisStore, SqlAlchemyStore
from stockstore_ext.sqlalchemy import SessionSync
from tests.channels.conftest import Sides
from tests.channels.sides import Side, client_of, two_sides
from tests.stores.shop import Customer

COMMANDS = ["+@all", "-@dangerous", "+info"]


def _url_of(url: str, name: str, *, channels: list[str], keys: list[str], commands: list[str] = COMMANDS) -> str:
    client_of(url).acl_setuser(name, enabled=True, reset=True, passwords=["+secret"], keys=keys, channels=channels, commands=commands)
    return url.replace("redis://", f"redis://{name}:secret@")


@pytest.fixture
def mute(sides: Sides, redis_url: str, namespace: str) -> Iterator[Side]:
    """A side whose user may neither publish nor count messages."""
    url = _url_of(redis_url, "mute", channels=[], keys=[f"{namespace}:*"])
    side = Side(url, sides[0].engine, namespace=namespace, channel=None)
    with side.chain:
        yield side
    client_of(redis_url).acl_deluser("mute")


def test_a_writer_that_is_refused(mute: Side, sides: Sides, caplog: pytest.LogCaptureFixture) -> None:
    """It writes, its marker and value included, and says once that nobody is told."""
    with caplog.at_level(logging.WARNING):
        for name in ("one", "two"):
            mute.write(name)
            found = mute.redis.get(Customer, 1)
            assert found is not None
            assert found.name == name
        mute.redis.delete(Customer, 1)
    (record,) = [record for record in caplog.records if "may not publish" in record.getMessage()]
    assert "'stockstore~0'" in record.getMessage()
    assert "&stockstore*" in record.getMessage()
    mine, _ = sides
    mine.caught_up()
    assert mine.kept() == "old"


def test_what_a_hook_says(mute: Side) -> None:
    """The guarantee is weak, attaching says why, and a strict one is refused."""
    sync = SessionSync(mute.chain)
    guarantee = sync.guarantee
    (tier,) = [tier for tier in guarantee.tiers if "Redis" in tier.tier]
    assert tier.level == "weak"
    assert "may not publish on 'stockstore~0'" in tier.reasons[0]
    assert any("may not publish" in remark for remark in guarantee.remarks)
    with pytest.raises(ConfigurationError, match="may not publish"):
        SessionSync(mute.chain, require="strict").attach(Session)


def test_a_writer_that_may_count(sides: Sides, redis_url: str, namespace: str) -> None:
    """Where only the message is refused, the others meet the gap."""
    mine, _ = sides
    url = _url_of(redis_url, "counting", channels=[], keys=[f"{namespace}:*", "stockstore~*"])
    with ChainedStore([RedisStore(url, namespace=namespace), SqlAlchemyStore(engine=mine.engine)]) as chain:
        chain.put(Customer(id=1, email="e1", name="new"))
    client_of(redis_url).acl_deluser("counting")
    mine.caught_up()
    assert (mine.kept(), mine.name()) == (None, "new")


def test_the_pattern_that_the_guide_gives(redis_url: str, db: Engine, namespace: str, caplog: pytest.LogCaptureFixture) -> None:
    """Both sides hear and tell with it, on a server and on a cluster."""
    allowed = {"channels": ["stockstore*"], "keys": [f"{namespace}:*", "stockstore~*"]}
    with caplog.at_level(logging.WARNING), two_sides(_url_of(redis_url, "told", **allowed), db, namespace=namespace) as (mine, theirs):
        theirs.write("new")
        theirs.caught_up()
        assert (mine.kept(), mine.name()) == (None, "new")
        assert "may not" not in str(SessionSync(mine.chain).guarantee)
    client_of(redis_url).acl_deluser("told")
    assert "may not publish" not in caplog.text
