"""Particle showers."""
