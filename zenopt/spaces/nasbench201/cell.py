"""What is fixed in NAS-Bench-201: the operations, the edges of a cell, and how often it is repeated."""

from __future__ import annotations

OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
#: (from, to) of the six edges, in the order of the string.
EDGES = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
CHANNELS = (16, 32, 64)
CELLS_PER_STAGE = 5
