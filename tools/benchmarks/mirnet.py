"""MIRNet, full size: our graph and training step against plain Keras and, where torch is installed, PyTorch eager."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks import timing

_THREADS = 2
_INFERENCE, _TRAINING = 128, 64  # pixels a side, batch 1


def mirnet() -> list[dict]:
    """Forward pass from NumPy to NumPy, and a training step (Charbonnier, Adam); every side has the same weights."""
    network = None
    if importlib.util.find_spec("torch"):  # first: both bring a runtime for threads, and torch's must come up alone
        import torch

        from benchmarks import mirnet_torch

        torch.set_num_threads(_THREADS)
        network = mirnet_torch.MIRNet()
    else:
        print("mirnet: torch is not installed; the PyTorch sides are left out")
    import tensorflow as tf

    try:
        tf.config.threading.set_intra_op_parallelism_threads(_THREADS)
    except RuntimeError:  # TensorFlow runs already, with a thread for each core
        print(f"mirnet: TensorFlow keeps its {os.cpu_count()} threads; run this benchmark alone for {_THREADS}")
    return [*_inference(network), *_training(network)]


def _inference(network: Any) -> list[dict]:
    import tensorflow as tf

    from tfllv import models
    from tfllv.runner import image_network

    made = {kind: models.build("mirnet", dtype=kind) for kind in ("float32", "mixed_bfloat16")}
    made["mixed_bfloat16"].set_weights(made["float32"].get_weights())
    image = np.random.default_rng(0).random((1, _INFERENCE, _INFERENCE, 3), dtype=np.float32) * 0.3
    graphs = {kind: image_network.ImageGraph(model) for kind, model in made.items()}
    sides: dict[str, Callable[[], np.ndarray]] = {
        "keras predict": lambda: made["float32"].predict(image, verbose=0)["image"],
        "tfllv float32": lambda: graphs["float32"].enhance(tf.constant(image)).numpy(),
        "tfllv bfloat16": lambda: graphs["mixed_bfloat16"].enhance(tf.constant(image)).numpy(),
    }
    if network is not None:
        from benchmarks import mirnet_torch

        sides |= mirnet_torch.forward_sides(network, made["float32"], image)
    exact = sides["keras predict"]()
    worst = {name: float(np.abs(np.clip(call(), 0, 1) - np.clip(exact, 0, 1)).max()) for name, call in sides.items()}
    found = timing.rows(timing.interleave(sides, rounds=5, warm_up=1), against=_against(sides))
    what = f"forward {_INFERENCE}x{_INFERENCE}"
    return [{"what": what, **row, "largest_difference": worst[row["side"]]} for row in found]


def _training(network: Any) -> list[dict]:
    import keras
    import tensorflow as tf

    from tfllv import contracts, models
    from tfllv.config import PairedConfig
    from tfllv.objectives import supervised
    from tfllv.train import loop, optimizer, step
    from tfllv.train.learner import Learner

    low = np.random.default_rng(0).random((1, _TRAINING, _TRAINING, 3), dtype=np.float32)
    batch = {contracts.LOW: tf.constant(low * 0.3), contracts.HIGH: tf.constant(low)}
    rate = PairedConfig().lr / 10

    def ours(kind: str) -> Callable[[], float]:
        learner = Learner(models.build("mirnet", dtype=kind), supervised.Supervised(weights={"charbonnier": 1.0}))
        trained = [variable.value for variable in learner.trained]
        run = step.TrainStep(learner, optimizer.Adam(trained, optimizer.Schedule(rate)), tf.distribute.get_strategy())
        return lambda: float(run(batch).numpy()[0])

    def charbonnier(truth: Any, image: Any) -> Any:
        return keras.ops.mean(keras.ops.sqrt(keras.ops.square(image - truth) + 1e-6)) - 1e-3

    model = models.build("mirnet")
    model.compile(keras.optimizers.Adam(rate), loss={contracts.IMAGE: charbonnier}, jit_compile=False)
    sides = {
        "keras fit": lambda: float(model.train_on_batch(low * 0.3, {contracts.IMAGE: low})),
        "tfllv float32": ours("float32"),
        "tfllv bfloat16": ours("mixed_bfloat16"),
    }
    if network is not None:
        from benchmarks import mirnet_torch

        sides |= mirnet_torch.training_side(network, models.build("mirnet"), low, rate)
    with loop.reproducible_sums():
        losses = {name: call() for name, call in sides.items()}
        found = timing.rows(timing.interleave(sides, rounds=5, warm_up=1), against=_against(sides))
    return [{"what": f"train {_TRAINING}x{_TRAINING}", **row, "first_loss": losses[row["side"]]} for row in found]


def _against(sides: dict[str, Any]) -> str:
    return "torch eager" if "torch eager" in sides else next(iter(sides))
