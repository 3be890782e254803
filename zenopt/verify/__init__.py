"""What scores are worth: short trainings of a study's networks, kept as linked studies."""
