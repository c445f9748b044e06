"""How writes and fills reach the cache tiers of a chain: the one way there is.

What stands here now is right for one writer at a time.
"""

from stockstore.coherence.write_through import Tier, WriteThrough

__all__ = ["Tier", "WriteThrough"]
