"""Are posteriors right? Checks that need no exact answer, each with its controls."""
