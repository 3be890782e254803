"""NAS-Bench-Macro: eight layers, each nothing or one of two inverted bottlenecks."""
