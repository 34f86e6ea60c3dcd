"""Numbers about quality: against exact answers, and between samples."""
