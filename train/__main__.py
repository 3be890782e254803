"""`python -m zenopt.train` and `torchrun -m zenopt.train`."""

from __future__ import annotations

import sys

from zenopt.cli.train import main

if __name__ == "__main__":
    sys.exit(main())
