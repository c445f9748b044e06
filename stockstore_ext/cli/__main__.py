"""``python -m stockstore_ext.cli``."""

import sys

from stockstore_ext.cli import main

sys.exit(main())
