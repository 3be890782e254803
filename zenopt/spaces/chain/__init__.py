"""Chains of super-blocks: the two published Zen-NAS spaces and everything that is known of them in closed form."""
