"""Networks as files that run without this package: SavedModel for TF Serving, LiteRT, ONNX; each one compared."""
