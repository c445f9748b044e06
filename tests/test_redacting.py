"""URLs as messages show them."""

import pytest
from sqlalchemy import make_url

from stockstore.mapped.shown import shown
from stockstore.redacting import redacted

pytestmark = pytest.mark.sa_agnostic


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://:s3cret@cache:6379/0", "redis://***@cache:6379/0"),
        ("redis://ann:s3@cret@cache", "redis://***@cache"),
        ("redis://ann:s3cret", "redis://ann:***"),
        ("redis://:s3cret/0", "redis://:***"),
        ("redis://:123456", "redis://:***"),
        ("redis://ann:s3?cret@cache/0", "redis://***"),
        ("redis://ann:s3#cret@cache/0", "redis://***"),
        ("redis://cache?password=s3@cret", "redis://***"),
        ("redis://cache?Password=s3cret&db=1&s3cret", "redis://cache?Password=***&db=1&***"),
        ("postgresql://cache/shop?dsn=postgresql%3A//ann%3As3cret%40host", "postgresql://cache/shop?dsn=***"),
        ("postgresql://cache/shop?options=-csearch_path%3Dtenant", "postgresql://cache/shop?options=-csearch_path%3Dtenant"),
        ("redis://[s3cret", "redis://[***"),
        ("redis://[::1]:6379/0", "redis://[::1]:6379/0"),
        ("ann:s3cret@cache:11211", "***@cache:11211"),
        ("one:11211,two:11211", "one:11211,two:11211"),
        ("unix:///run/redis.sock?db=1", "unix:///run/redis.sock?db=1"),
        ("s3\ncret@cache", "***@cache"),
        ("shop", "shop"),
        ("", ""),
    ],
)
def test_what_may_be_a_password_is_not_shown(url: str, expected: str) -> None:
    """In whatever way it was written, and everything else is."""
    assert redacted(url) == expected


@pytest.mark.parametrize("name", ["password", "PASSWD", "sslpassword", "dsn", "conninfo", "options", "odbc_connect", "init_command"])
def test_a_database_url_has_no_password_among_its_parameters(name: str) -> None:
    """Neither one by itself nor as a part of several settings."""
    url = make_url("postgresql+psycopg://ann:s3cret@host/shop").update_query_dict({name: "password=s3cret", "zone": "1"})
    assert shown(url) == f"postgresql+psycopg://ann:***@host/shop?{name}=hidden&zone=1"
