"""Diffusion in three separate parts: noise schedules, the denoiser (what an estimate means, the loss), samplers."""
