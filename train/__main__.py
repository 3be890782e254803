"""`python -m zenopt.train` and `torchrun -m zenopt.train`: the command `zenopt train` under the trainer's own name.

The trainer imports nothing of the rooms above it. This file is no part of it but a way in: it runs `python -m zenopt`.
"""

from __future__ import annotations

import runpy
import sys

if __name__ == "__main__":
    sys.argv[1:1] = ["train"]
    runpy.run_module("zenopt", run_name="__main__", alter_sys=True)
