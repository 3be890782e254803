"""What learns accuracy from trained networks: features, Gaussian processes, combinations of scores."""
