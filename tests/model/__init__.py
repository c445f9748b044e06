"""A model of the coherence protocol, of which every interleaving is explored."""
