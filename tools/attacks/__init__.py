"""The attacks on the service behind the figures of the README."""
