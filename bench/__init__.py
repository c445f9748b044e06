"""How fast and how small stockstore is, beside its peers; run by scripts/bench."""
