"""A race of many processes over one cache and one database, and a judge of what they saw."""
