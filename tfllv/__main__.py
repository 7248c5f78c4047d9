"""Runs the command line as `python -m tfllv`."""

import sys

from tfllv.cli import main

if __name__ == "__main__":
    sys.exit(main())
