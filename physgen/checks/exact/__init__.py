"""Against the exact answer: log p, posteriors, log Z."""
