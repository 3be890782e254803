"""What leaves a study: bundles, standalone files, and files for other programs."""
