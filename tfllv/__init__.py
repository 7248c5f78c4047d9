"""tfllv: low-light vision on TensorFlow and Keras.

Importing this package imports neither TensorFlow nor Keras; the sub-packages that need them say so.
"""

__version__ = "0.1.0"
