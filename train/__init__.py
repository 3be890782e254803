"""Train what a search found."""
