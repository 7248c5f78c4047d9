"""Pure image functions on NumPy arrays: image -> image, no state, no file."""
