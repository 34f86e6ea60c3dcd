"""All that knows the package `sbi`: manners, samplers, networks, and surrogates in it."""
