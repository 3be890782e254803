"""Chains of super-blocks: the two published Zen-NAS spaces and everything that is known of them in closed form."""

# The published block types register themselves on import.
from zenopt.spaces.chain import blocks as blocks
