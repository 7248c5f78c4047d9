"""Objectives: (network, batch) -> named loss terms."""
