"""NAS-Bench-201 (Dong & Yang, ICLR 2020): one cell of six edges, repeated in a fixed skeleton."""
