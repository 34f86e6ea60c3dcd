"""Families of learnt p(x|θ), each on the one base class, none knowing another."""
