"""Real Redis, memcached, PostgreSQL and MariaDB servers for the tests: from a URL, from Docker, or from local binaries."""
