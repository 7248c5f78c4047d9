"""Enhancers applied to the real world: any size, folders, video, bounded memory."""
