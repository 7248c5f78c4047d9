"""Inputs: image files and `tf.data` pipelines that yield batch dicts."""
