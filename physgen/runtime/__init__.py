"""How the toolkit meets its surroundings: options, progress, signals, devices."""
