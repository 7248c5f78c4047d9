"""Losses in `keras.ops`: tensors -> scalar."""
