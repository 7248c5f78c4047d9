"""Image quality metrics in NumPy; each states its range, direction and protocol."""
