"""The training engine: learner, loop, checkpoints, trackers."""
