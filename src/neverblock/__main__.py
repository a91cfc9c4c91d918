"""``python -m neverblock``: the command line, where its script is not on PATH."""

import sys

from neverblock.cli import main

sys.exit(main())
