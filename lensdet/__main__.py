"""``python -m lensdet`` is ``lensdet``."""

import sys

from lensdet.cli import main

if __name__ == "__main__":
    sys.exit(main())
