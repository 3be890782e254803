"""DARTS cells (Liu et al., ICLR 2019): a normal and a reduction cell, stacked; each takes the two outputs before it."""
