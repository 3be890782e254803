"""Studies: validated specs, what gives an architecture its value, and the workers that run a search."""
