"""Detection with the TF Object Detection API (`object_detection`), on today's TensorFlow."""
