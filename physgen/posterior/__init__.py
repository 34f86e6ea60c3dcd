"""θ given x: posteriors from a likelihood."""
