"""TFRecords that can be trusted: one schema, one writer, one reader, and the sources that feed them.

Nothing here imports TensorFlow except `reader`, so the converters start at once and cheaply in every worker.
"""
