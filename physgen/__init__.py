"""Simulation-based inference for physics simulators, scored against the exact answer."""

__version__ = "0.1.0"
