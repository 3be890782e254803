"""How long work goes, shown where a person looks: a terminal, a pipe, a notebook."""
