"""TransNAS-Bench-101: chains of modules (``transnas-macro``) and cells in a fixed chain (``transnas-micro``)."""
