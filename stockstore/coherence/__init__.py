"""How reads fill the cache tiers above an origin, and writes go through them: leases, markers, and their release.

The one way there is: chains and session hooks use it alike.
"""

from stockstore.coherence.reader import Reader
from stockstore.coherence.writer import Located, WriteThrough

__all__ = ["Located", "Reader", "WriteThrough"]
