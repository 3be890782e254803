"""``python -m zenopt``."""

from zenopt.cli import main

main()
