"""The size search space of NATS-Bench: one cell, five widths."""
