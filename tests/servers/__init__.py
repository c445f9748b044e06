"""Real Redis, memcached and PostgreSQL servers for the tests: from a URL, from Docker, or from local binaries."""
