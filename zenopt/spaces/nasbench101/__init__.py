"""NAS-Bench-101 (Ying et al., ICML 2019): a cell of at most seven vertices and nine edges, operations on vertices."""
