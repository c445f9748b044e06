"""Messages that no writer has sent: anybody may publish where writers do, and has nobody killed or cut off by it."""

from contextlib import closing

import pytest
from redis import Redis
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from stockstore.backends import RedisBackend
from stockstore.channels.choice import channel_of
from stockstore.channels.postgresql import PostgresChannel
from tests.channels.garbled import LINES, TEXT, check_garbled

pytestmark = pytest.mark.sa_agnostic


def test_by_redis(redis_url: str, caplog: pytest.LogCaptureFixture) -> None:
    """Too few lines, no number, no ASCII."""
    with closing(Redis.from_url(redis_url)) as client:
        channel = channel_of(RedisBackend(redis_url))
        assert channel is not None
        check_garbled(channel, lambda said: client.publish("stockstore~0", said), LINES, f"0\n\n{TEXT}".encode(), caplog)


def test_by_postgresql(postgres_url: str, caplog: pytest.LogCaptureFixture) -> None:
    """Payloads are text there."""
    engine = create_engine(postgres_url, poolclass=NullPool)

    def notify(said: bytes) -> None:
        with engine.begin() as connection:
            connection.execute(text("SELECT pg_notify('stockstore', :said)"), {"said": said.decode()})

    said = [b"hello", b"", b"ticket\n", "é\nn:C:id:i1".encode(), "ticket\nn:C:id:é".encode()]
    check_garbled(PostgresChannel(postgres_url), notify, said, f"\n{TEXT}".encode(), caplog)
