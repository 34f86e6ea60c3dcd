"""Building blocks of networks, maps of θ and x with their volumes, tensors on disk."""
