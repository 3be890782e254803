"""optuna-dashboard over a small mirror of stored studies."""
