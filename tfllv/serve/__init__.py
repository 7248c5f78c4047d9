"""The HTTP service: enhance, detect, segment, and TF Serving's REST form, within limits that hold under attack."""
