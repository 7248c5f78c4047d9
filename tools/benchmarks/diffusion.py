"""Diffusion: a step and a picture against the ancestral recipe of 1000 steps, and training steps in both precisions."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks import timing

_SIDE, _BATCH = 64, 16
_SLOW_STEPS = 927  # all times of its schedule


def diffusion() -> list[dict]:
    """Network steps of the small model in turn, then one whole picture by each recipe, then training steps."""
    return [*_steps(), *_pictures(), *_training()]


def _networks() -> dict[str, Any]:
    from tfllv import models

    made = {kind: models.build("diffusion_unet_small", dtype=kind) for kind in ("float32", "mixed_bfloat16")}
    made["mixed_bfloat16"].set_weights(made["float32"].get_weights())
    return made


def _steps() -> list[dict]:
    """One network call, of one tile and of sixteen."""
    import tensorflow as tf

    rng = np.random.default_rng(0)
    sides: dict[str, Callable[[], object]] = {}
    for kind, net in _networks().items():
        graph = tf.function(net.estimate)
        for count in (1, _BATCH):
            noisy = tf.constant(rng.standard_normal((count, _SIDE, _SIDE, 3), np.float32))
            beside = tf.constant(rng.standard_normal((count, _SIDE, _SIDE, net.condition_channels), np.float32))
            at = tf.fill([count], 500)
            name = f"{kind.removeprefix('mixed_')}, {count} tile{'s' * (count > 1)}"
            sides[name] = lambda graph=graph, noisy=noisy, beside=beside, at=at: graph(noisy, beside, at).numpy()
    found = timing.rows(timing.interleave(sides), against="float32, 1 tile")
    return [{"what": f"step {_SIDE}x{_SIDE}", **row} for row in found]


def _pictures() -> list[dict]:
    """A picture of one tile, from array to array; both recipes in turn, five rounds."""
    from tfllv.runner.diffusion import DiffusionEnhancer

    net = _networks()["float32"]
    image = np.random.default_rng(1).integers(0, 80, (_SIDE, _SIDE, 3)).astype(np.uint8)
    fast = DiffusionEnhancer("diffusion", net, sampler="dpmpp2m", steps=10)
    slow = DiffusionEnhancer("diffusion", net, sampler="ddpm", steps=_SLOW_STEPS)
    sides = {f"ddpm {_SLOW_STEPS} steps": lambda: slow(image), "dpmpp2m 10 steps": lambda: fast(image)}
    DiffusionEnhancer("diffusion", net, steps=1)(image)
    start = time.perf_counter()
    seconds = timing.interleave(sides, rounds=5, warm_up=0)
    spent = time.perf_counter() - start
    rows = timing.rows(seconds, against=f"ddpm {_SLOW_STEPS} steps")
    return [{"what": f"picture {_SIDE}x{_SIDE}, 5 rounds in {spent:.0f} s", **row} for row in rows]


def _training() -> list[dict]:
    """A step of the engine on a batch of 16: loss, gradient, clipping, AdamW and moving average."""
    import tensorflow as tf

    from tfllv import contracts
    from tfllv.objectives import denoising
    from tfllv.train import loop, optimizer, step
    from tfllv.train.learner import Learner

    rng = np.random.default_rng(0)
    low = rng.random((_BATCH, _SIDE, _SIDE, 3), dtype=np.float32)
    batch = {
        contracts.LOW: tf.constant(low * 0.2),
        contracts.HIGH: tf.constant(low),
        contracts.NOISE: tf.constant(rng.standard_normal(low.shape, np.float32)),
        contracts.TIME: tf.constant(rng.integers(0, 1000, _BATCH), tf.int32),
    }
    sides = {}
    for kind, net in _networks().items():
        learner = Learner(net, denoising.Denoising())
        trained = [variable.value for variable in learner.trained]
        adam = optimizer.Adam(
            trained, optimizer.Schedule(1e-4), weight_decay=1e-3, decoupled=True, clip_norm=1.0, ema_decay=0.999
        )
        run = step.TrainStep(learner, adam, tf.distribute.get_strategy())
        sides[kind.removeprefix("mixed_")] = lambda run=run: float(run(batch).numpy()[0])
    with loop.reproducible_sums():
        losses = {name: call() for name, call in sides.items()}
        found = timing.rows(timing.interleave(sides, rounds=5, warm_up=1), against="float32")
    return [{"what": f"train {_BATCH}x{_SIDE}x{_SIDE}", **row, "first_loss": losses[row["side"]]} for row in found]
