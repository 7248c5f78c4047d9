"""The benchmarks behind the figures of the README, and the one way they take time."""
