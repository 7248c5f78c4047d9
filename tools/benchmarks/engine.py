"""The training engine: a step of `tfllv train` against a bare `tf.function` step of the same network and loss."""

from __future__ import annotations

import contextlib
import io
import itertools
import pathlib
import statistics
import tempfile
import time
from collections.abc import Iterator
from typing import Any

SAMPLES = pathlib.Path(__file__).parents[2] / "tfllv" / "samples"
CONFIGS = pathlib.Path(__file__).parents[2] / "configs"
_STEPS, _ROUNDS, _WARM_UP = (
    10,
    {"sgz": 31, "mirnet_small": 9},
    2,
)  # steps of a side before the other's turn, turns, turns that do not count


def engine() -> list[dict]:
    """Milliseconds a step by the engine, progress lines and checks included, and by a bare step.

    Both are Adam on the same network, loss, batch shape, clipping and averages, and the bare step has its batch in
    memory. The engine has either that too, which shows its own cost, or its input pipeline beside it on the same cores.
    The sides take turns inside the loop. Saving is timed apart, for it comes once in `checkpoint_steps`.
    """
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for name in ("sgz", "mirnet_small"):
            for batches in ("in memory", "from files"):
                row = _compare(name, pathlib.Path(folder) / f"{name} {batches}", batches == "in memory")
                found.append({"learner": name, "batches": batches, **row})
    return found


def _compare(name: str, workdir: pathlib.Path, in_memory: bool) -> dict[str, Any]:
    from tfllv.train import experiments, loop

    workdir.mkdir()
    config = _config(name, workdir)
    experiment = experiments.EXPERIMENTS[config.experiment]
    run = loop.Loop(experiment.learner(config), experiment.source(config), config, workdir=workdir)
    turns = _Turns(run, experiment.learner(config), in_memory)
    with contextlib.redirect_stdout(io.StringIO()), loop.reproducible_sums():
        run._train()
    start = time.perf_counter()
    loop.Loop._save(run, False)
    saved = time.perf_counter() - start
    ours, bare = (statistics.median(times[_WARM_UP:]) / _STEPS for times in (turns.ours, turns.bare))
    # Neighbours in time meet the same disturbance, so their ratio varies less than that of the medians.
    ratios = [one / other for one, other in zip(turns.ours, turns.bare, strict=True)][_WARM_UP:]
    return {
        "engine_ms": ours * 1e3,
        "bare_ms": bare * 1e3,
        "engine / bare": statistics.median(ratios),
        "checkpoint_ms": saved * 1e3,
        "with checkpoints": statistics.median(ratios) + saved / config.checkpoint_steps / bare,
    }


def _config(name: str, folder: pathlib.Path) -> Any:
    """The shipped configuration at 128 pixels, batch 8, on the bundled photographs; it ends neither epoch nor run."""
    from tfllv import config

    steps = _STEPS * (_ROUNDS[name] + _WARM_UP) + 1
    common = {"image_size": 128, "train_batch_size": 8, "num_workers": 2}
    if name == "sgz":
        settings = config.load(CONFIGS / "sgz_sice.yaml").replace(
            lowlight_images_path=str(SAMPLES), max_level=1.0, exclude=(), val_images_path=""
        )
    else:
        table = folder / "pairs.csv"
        rows = [f"{path},{path}" for path in sorted(SAMPLES.glob("*.jpg"))]
        table.write_text("\n".join(["low,high", *rows]) + "\n")
        settings = config.load(CONFIGS / "mirnet_small_sice.yaml").replace(pairs=str(table), val_pairs="")
    return settings.replace(num_steps=steps, **common)


class _Turns:
    """Stands in a loop's place for its step, and after every `_STEPS` of them runs as many bare ones."""

    def __init__(self, run: Any, learner: Any, in_memory: bool):
        self.ours: list[float] = []
        self.bare: list[float] = []
        self._run, self._step, self._count = run, run._train_step, 0
        self._bare_step = bare_step(learner, run.config)
        self._batch = next(iter(run._batches()))
        self._row: Any = None
        self._start = 0.0
        run._train_step = self
        if in_memory:
            run._batches = lambda: itertools.repeat(self._batch)
        # The photographs are so few that an epoch would end, and the run save, at every step.
        run._epoch = lambda step: 0
        run._save = lambda ended: None

    @property
    def names(self) -> list[str]:
        """The loss terms' names."""
        return self._step.names

    def __call__(self, batch: Any) -> Any:
        """Takes the engine's step."""
        if self._count % _STEPS == 0:
            if self._row is not None:
                self._row.numpy()
                self.ours.append(time.perf_counter() - self._start)
            start = time.perf_counter()
            with _all_rewrites():
                for _ in range(_STEPS):
                    row = self._bare_step(self._batch)
                row.numpy()
            if self._row is not None:
                self.bare.append(time.perf_counter() - start)
            self._start = time.perf_counter()
        self._count += 1
        self._row = self._step(batch)
        return self._row


@contextlib.contextmanager
def _all_rewrites() -> Iterator[None]:
    """Gives the bare step the graph rewriter that `loop.reproducible_sums` keeps from the engine's."""
    import tensorflow as tf

    before = tf.config.optimizer.get_experimental_options().get("arithmetic_optimization", True)
    tf.config.optimizer.set_experimental_options({"arithmetic_optimization": True})
    try:
        yield
    finally:
        tf.config.optimizer.set_experimental_options({"arithmetic_optimization": before})


def bare_step(learner: Any, config: Any) -> Any:
    """The shortest step with the same result, up to rounding: gradients by a tape, TensorFlow's own Adam kernel.

    Args:
      learner: network and objective.
      config: its lr (constant here), clipping, weight decay and average are used.

    Returns:
      A `tf.function`: batch -> loss terms.
    """
    import tensorflow as tf

    weights = [variable.value for variable in learner.trained]
    means, squares = ([tf.Variable(tf.zeros_like(weight)) for weight in weights] for _ in range(2))
    averages = [tf.Variable(weight) for weight in weights] if config.ema_decay else []
    updates = tf.Variable(0.0)

    @tf.function(autograph=False)
    def step(batch: Any) -> tf.Tensor:
        with tf.GradientTape() as tape:
            terms, _ = learner.terms(batch, training=True)
            loss = tf.add_n(list(terms.values()))
        gradients = tape.gradient(loss, weights, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        if config.grad_clip_norm:
            gradients, _ = tf.clip_by_global_norm(gradients, config.grad_clip_norm)
        updates.assign_add(1.0)
        powers = {f"beta{i}_power": tf.pow(beta, updates) for i, beta in ((1, config.beta_1), (2, 0.999))}
        fixed = {"lr": config.lr, "beta1": config.beta_1, "beta2": 0.999, "epsilon": 1e-8}
        for weight, mean, square, gradient in zip(weights, means, squares, gradients, strict=True):
            if config.decoupled_weight_decay:
                weight.assign_sub(weight * (config.lr * config.weight_decay))
            else:
                gradient += weight * config.weight_decay
            handles = {"var": weight.handle, "m": mean.handle, "v": square.handle}
            tf.raw_ops.ResourceApplyAdam(**handles, **powers, **fixed, grad=gradient)
        for weight, average in zip(weights, averages, strict=False):
            average.assign_sub((average - weight) * (1.0 - config.ema_decay))
        return tf.stack(list(terms.values()))

    return step
