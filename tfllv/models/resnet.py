"""ResNet-50 as a backbone: a picture goes in, the feature maps of all five stages come out.

He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, https://arxiv.org/abs/1512.03385, Table 1. Two
layouts: `v1.5` strides in the 3x3 convolution of a bottleneck, as torchvision's weights want it, and `v1` in its first
1x1, as the paper and the Keras ImageNet weights have it. Padding is explicit and symmetric (as PyTorch pads), so
weights trained there give the same features at odd sizes as well. 23,508,032 trainable parameters in both.
"""

from __future__ import annotations

import itertools
import pathlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from tfllv import contracts

# Name of each stage's feature map, and its stride to the input.
STAGES = {"stem": 2, "c2": 4, "c3": 8, "c4": 16, "c5": 32}
CHANNELS = {"stem": 64, "c2": 256, "c3": 512, "c4": 1024, "c5": 2048}
VARIANTS = ("v1.5", "v1")
STATISTICS = ("auto", "moving", "batch")

# (scale, offset) from RGB in [0, 1] to what the published weights were trained on.
NORMALIZATIONS: dict[str, tuple[list[float], list[float]]] = {
    # (x - mean) / std
    "torchvision": ([1 / 0.229, 1 / 0.224, 1 / 0.225], [-0.485 / 0.229, -0.456 / 0.224, -0.406 / 0.225]),
    # 255 x - mean; Keras feeds BGR, here the first kernel is turned round when its weights are read.
    "keras": ([255.0, 255.0, 255.0], [-123.68, -116.779, -103.939]),
}

_BLOCKS = (3, 4, 6, 3)
# torch.nn.BatchNorm2d counts the new batch as 0.1; Keras names the other part.
MOMENTUM = 0.9
_EPSILON = {"v1.5": 1e-5, "v1": 1.001e-5}


@keras.saving.register_keras_serializable(package="tfllv")
class BatchNorm(layers.BatchNormalization):
    """Batch normalisation whose choice of statistics is fixed when it is built, not by the training flag.

    Args:
      statistics: `auto` is Keras' own rule (the batch's while training, the moving ones otherwise or when frozen),
        `moving` always the moving ones, `batch` always the batch's, even where the layer is frozen; the moving ones
        then stay as they are.
      **options: as `keras.layers.BatchNormalization`.

    Attributes:
      gather: where it is set, `synchronized` statistics are made of what it returns for those of this replica, [2, C]:
        those of all, [R, 2, C]. None: in Keras' way. See `tfllv.train.replicas`.
    """

    def __init__(self, *, statistics: str = "auto", **options: Any) -> None:
        super().__init__(**options)
        self.statistics = _choice(statistics, "statistics", STATISTICS)
        self.gather: Callable[[Any], Any] | None = None

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """Normalises [B, H, W, C] over every axis but the last."""
        if self.statistics == "auto":
            return super().call(inputs, training=training, mask=mask)
        if self.statistics == "moving":
            return super().call(inputs, training=False, mask=mask)
        # Half precision cannot hold the sums of a large map.
        values = ops.cast(inputs, "float32")
        mean, variance = ops.moments(values, axes=(0, 1, 2))
        normalized = ops.batch_normalization(
            values, mean, variance, axis=-1, offset=self.beta, scale=self.gamma, epsilon=self.epsilon
        )
        return ops.cast(normalized, self.compute_dtype)

    def _moments(self, inputs: Any, mask: Any) -> tuple[Any, Any]:
        """Returns mean and variance while training; replicas have batches of one size."""
        if self.gather is None or not self.synchronized:
            return super()._moments(inputs, mask)
        means, variances = ops.unstack(self.gather(ops.stack(ops.moments(inputs, axes=(0, 1, 2)))), axis=1)
        mean = ops.mean(means, axis=0)
        # About the common mean: the difference of two large numbers would lose digits.
        return mean, ops.mean(variances + ops.square(means - mean), axis=0)

    def get_config(self) -> dict[str, Any]:
        """Returns the options, for saving."""
        return {**super().get_config(), "statistics": self.statistics}


@keras.saving.register_keras_serializable(package="tfllv")
class ResNet50(keras.Model):
    """ResNet-50 without its classifier.

    Call it on float32 [B, H, W, 3], any H and W: RGB in [0, 1] where `normalization` is set, else already normalised.
    It returns a dict: `stem` [B, H/2, W/2, 64] (before the max pooling), `c2` [B, H/4, W/4, 256], `c3` .. 512, `c4` ..
    1024, `c5` [B, H/32, W/32, 2048]; sides are rounded up.

    Args:
      variant: `v1.5` (torchvision layout) or `v1` (Keras layout).
      weights: None for random weights (He et al., 2015, fan out), or `imagenet` for the file of Keras Applications,
        which fits `v1` only. Torchvision's come in by `assign_torch`.
      normalization: None, `torchvision` (mean and deviation of ImageNet) or `keras` (255 x - mean).
      statistics: what every batch normalisation uses: `auto`, `moving` or `batch`; see `BatchNorm`.
      synchronized: whether the batch's statistics are those of all replicas together, which costs time with one.
      frozen_stages: how many stages, from the input, are not trained, 0 to 5; see `freeze`.
      seed: seeds the random weights; None draws from Keras' global seed.
      dtype: a Keras dtype policy, such as `mixed_bfloat16`; pictures are normalised in float32.
      name: name of the model.
      **options: further options of `keras.Model`, such as `trainable`.

    Raises:
      ValueError: if an option is not one of those above.
      OSError: if `weights='imagenet'` and the file is neither on this machine nor to be downloaded.
    """

    def __init__(
        self,
        *,
        variant: str = "v1.5",
        weights: str | None = None,
        normalization: str | None = None,
        statistics: str = "auto",
        synchronized: bool = False,
        frozen_stages: int = 0,
        seed: int | None = None,
        dtype: Any = None,
        name: str = "resnet50",
        **options: Any,
    ) -> None:
        _choice(variant, "variant", VARIANTS)
        _choice(statistics, "statistics", STATISTICS)
        if normalization is not None:
            _choice(normalization, "normalization", NORMALIZATIONS)
        if weights is not None:
            _choice(weights, "weights", ("imagenet",))
            if variant != "v1":
                raise ValueError(
                    "`weights='imagenet'` fits `variant='v1'` only: Keras' ImageNet file was trained with the stride "
                    f"in the first 1x1 convolution. Received: variant='{variant}'."
                )
        image = keras.Input((None, None, 3), name="image")
        x = image
        if normalization is not None:
            scale, offset = NORMALIZATIONS[normalization]
            x = layers.Rescaling(scale, offset, dtype=keras.config.floatx(), name="normalization")(x)
        norms = {"statistics": statistics, "synchronized": synchronized}
        policy = None if dtype is None else keras.dtype_policies.get(dtype).name
        features = _Builder(variant, norms, seed, policy).features(x)
        super().__init__(inputs=image, outputs=features, name=name, **options)
        self._options = {
            "variant": variant,
            "normalization": normalization,
            **norms,
            "seed": seed,
            "dtype": policy,
        }
        self.frozen_stages = 0
        if frozen_stages:
            self.freeze(frozen_stages)
        if weights == "imagenet":
            copy_keras_weights(read_applications(), self)

    def freeze(self, stages: int) -> None:
        """Trains only what follows the first `stages` stages: 0 all, 1 not the stem, .. 5 nothing.

        A frozen stage's batch normalisation uses its moving statistics, unless `statistics='batch'`.

        Raises:
          ValueError: if `stages` is not in 0 .. 5.
        """
        if stages not in range(len(STAGES) + 1):
            raise ValueError(f"`stages` must be an integer from 0 to {len(STAGES)}. Received: stages={stages}.")
        self.frozen_stages = int(stages)
        for layer in self.layers:
            # Layers are named as in torchvision: conv1 and bn1, then layer1_.. to layer4_..
            stage = int(layer.name[len("layer")]) + 1 if layer.name.startswith("layer") else 1
            if layer.weights:
                layer.trainable = stage > stages

    def torch_names(self) -> dict[str, Any]:
        """Returns torchvision's state dict names (without `fc` and `num_batches_tracked`), each with its variable.

        Convolution kernels are [height, width, in, out] here and [out, in, height, width] there; the rest is equal.
        """
        table = {}
        for layer in self.layers:
            # layer1_0_downsample_0 -> layer1.0.downsample.0
            prefix = layer.name.replace("_", ".")
            if isinstance(layer, layers.Conv2D):
                table[f"{prefix}.weight"] = layer.kernel
            elif isinstance(layer, BatchNorm):
                table[f"{prefix}.weight"] = layer.gamma
                table[f"{prefix}.bias"] = layer.beta
                table[f"{prefix}.running_mean"] = layer.moving_mean
                table[f"{prefix}.running_var"] = layer.moving_variance
        return table

    def assign_torch(self, state: Mapping[str, Any], *, source: str = "`state`") -> None:
        """Puts a torchvision ResNet-50 state dict in, with or without its classifier `fc`.

        Args:
          state: name -> array in PyTorch's layout.
          source: what it is called in messages, such as its file.

        Raises:
          ValueError: if it does not fit; the message names every missing, unexpected and mis-shaped tensor, and nothing
            is changed.
        """
        table = self.torch_names()
        arrays = {}
        for name in table.keys() & state.keys():
            array = np.asarray(state[name], np.float32)
            arrays[name] = array.transpose(2, 3, 1, 0) if array.ndim == 4 else array
        extra = (name for name in state if not name.startswith("fc.") and not name.endswith("num_batches_tracked"))
        faults = {
            "missing": table.keys() - state.keys(),
            "unexpected": set(extra) - table.keys(),
            "of another shape": {name for name in arrays if arrays[name].shape != tuple(table[name].shape)},
            "not finite": {name for name, array in arrays.items() if not np.isfinite(array).all()},
        }
        if any(faults.values()):
            found = "; ".join(f"{kind}: {', '.join(sorted(names))}" for kind, names in faults.items() if names)
            raise ValueError(f"{source} must be the state dict of a torchvision ResNet-50. Received: {found}.")
        for name, array in arrays.items():
            table[name].assign(array)

    def get_config(self) -> dict[str, Any]:
        """Returns the options, for saving; weights are saved beside them, so a reload downloads nothing."""
        return {**self._options, "frozen_stages": self.frozen_stages, "name": self.name, "trainable": self.trainable}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> ResNet50:
        """Builds the network from `get_config`'s options."""
        return cls(**config)


class _Builder:
    """Lays the layers; it holds what they share."""

    def __init__(self, variant: str, norms: Mapping[str, Any], seed: int | None, dtype: str | None) -> None:
        self.variant = variant
        self.norms = norms
        self.dtype = dtype
        self.seeds: Iterator[int | None] = itertools.repeat(None) if seed is None else itertools.count(seed)

    def features(self, x: Any) -> dict[str, Any]:
        x = layers.Activation("relu", dtype=self.dtype, name="relu")(self.norm(self.conv(x, 64, 7, 2, "conv1"), "bn1"))
        maps = {"stem": x}
        # Zeros stand for PyTorch's minus infinity: nothing is below 0 after a ReLU.
        x = layers.ZeroPadding2D(1, dtype=self.dtype, name="maxpool_pad")(x)
        x = layers.MaxPooling2D(3, strides=2, dtype=self.dtype, name="maxpool")(x)
        for index, blocks in enumerate(_BLOCKS, start=1):
            for block in range(blocks):
                stride = 2 if index > 1 and block == 0 else 1
                x = self.bottleneck(x, 32 * 2**index, stride, f"layer{index}_{block}")
            maps[f"c{index + 1}"] = x
        return maps

    def bottleneck(self, x: Any, width: int, stride: int, name: str) -> Any:
        strides = (1, stride) if self.variant == "v1.5" else (stride, 1)
        shortcut = x
        if x.shape[-1] != 4 * width:
            shortcut = self.norm(self.conv(x, 4 * width, 1, stride, f"{name}_downsample_0"), f"{name}_downsample_1")
        x = self.norm(self.conv(x, width, 1, strides[0], f"{name}_conv1"), f"{name}_bn1")
        x = layers.Activation("relu", dtype=self.dtype, name=f"{name}_relu1")(x)
        x = self.norm(self.conv(x, width, 3, strides[1], f"{name}_conv2"), f"{name}_bn2")
        x = layers.Activation("relu", dtype=self.dtype, name=f"{name}_relu2")(x)
        x = self.norm(self.conv(x, 4 * width, 1, 1, f"{name}_conv3"), f"{name}_bn3")
        x = layers.Add(dtype=self.dtype, name=f"{name}_add")([shortcut, x])
        return layers.Activation("relu", dtype=self.dtype, name=f"{name}_out")(x)

    def conv(self, x: Any, filters: int, kernel: int, stride: int, name: str) -> Any:
        # `same` pads a strided convolution at the far side only, and by the input's parity: PyTorch does neither.
        if kernel > 1 and stride > 1:
            x = layers.ZeroPadding2D(kernel // 2, dtype=self.dtype, name=f"{name}_pad")(x)
        padding = "same" if stride == 1 else "valid"
        initializer = keras.initializers.VarianceScaling(
            2.0, mode="fan_out", distribution="untruncated_normal", seed=next(self.seeds)
        )
        return layers.Conv2D(
            filters,
            kernel,
            strides=stride,
            padding=padding,
            use_bias=False,
            kernel_initializer=initializer,
            data_format="channels_last",
            dtype=self.dtype,
            name=name,
        )(x)

    def norm(self, x: Any, name: str) -> Any:
        epsilon = _EPSILON[self.variant]
        return BatchNorm(momentum=MOMENTUM, epsilon=epsilon, dtype=self.dtype, name=name, **self.norms)(x)


def copy_keras_weights(source: Any, target: ResNet50) -> None:
    """Copies a `keras.applications.ResNet50` into a backbone of `variant='v1'`, layer by layer, by name.

    Keras' convolutions carry a bias that the normalisation behind them takes out again: it goes into the moving mean.
    Keras' input is BGR: the first kernel is turned round, so that ours stays RGB.

    Raises:
      ValueError: if `target` is not `v1`, or if a layer is missing in `source`.
    """
    if target.get_config()["variant"] != "v1":
        raise ValueError("`target` must be built with `variant='v1'` to take the weights of Keras Applications.")
    for layer in target.layers:
        if not isinstance(layer, layers.Conv2D):
            continue
        conv_name, norm_name = _keras_names(layer.name)
        kernel, bias = source.get_layer(conv_name).get_weights()
        gamma, beta, mean, variance = source.get_layer(norm_name).get_weights()
        layer.kernel.assign(kernel[:, :, ::-1] if layer.name == "conv1" else kernel)
        norm = target.get_layer(norm_of(layer.name))
        norm.set_weights([gamma, beta, mean - bias, variance])


def norm_of(conv: str) -> str:
    """Returns the name of the normalisation behind a convolution: conv2 -> bn2, downsample_0 -> downsample_1."""
    return conv[:-1] + "1" if conv.endswith("downsample_0") else conv.replace("conv", "bn")


def _keras_names(conv: str) -> tuple[str, str]:
    """Returns Keras' names of a convolution and its normalisation: layer1_0_conv1 -> conv2_block1_1_conv, .._1_bn."""
    if conv == "conv1":
        return "conv1_conv", "conv1_bn"
    stage, block, part = conv.removeprefix("layer").split("_", 2)
    number = 0 if part == "downsample_0" else int(part.removeprefix("conv"))
    prefix = f"conv{int(stage) + 1}_block{int(block) + 1}_{number}"
    return f"{prefix}_conv", f"{prefix}_bn"


def read_applications(path: str | None = None) -> Any:
    """Returns `keras.applications.ResNet50` with its published weights.

    Args:
      path: a file of theirs, with or without the classifier; None: the ImageNet one, downloaded once.

    Raises:
      ValueError: naming the file, if it is not one of theirs.
      OSError: if it is not there, or cannot be downloaded.
    """
    if path is not None:
        return _read_applications_file(path)
    try:
        return keras.applications.ResNet50(include_top=False, weights="imagenet")
    # `get_file` raises a bare Exception where there is no network.
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise OSError(
            f"`weights='imagenet'` needs the ResNet-50 file of Keras Applications, which could not be read: {reason} "
            "Copy it into the Keras cache (~/.keras/models), or pass weights=None."
        ) from error


def _read_applications_file(path: str) -> Any:
    import h5py

    if not pathlib.Path(path).is_file():
        raise FileNotFoundError(f"`weights` must be a file. Received: '{path}', which does not exist.")
    try:
        with h5py.File(path) as file:
            classifier = "predictions" in file
        return keras.applications.ResNet50(include_top=classifier, weights=path)
    except (ValueError, KeyError, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"{path}: expected Keras Applications' weights of ResNet-50; found others: {reason}") from None


def _choice(value: Any, name: str, choices: Any) -> Any:
    if value not in choices:
        hint = contracts.nearest_name(str(value), choices)
        raise ValueError(f"`{name}` must be one of {', '.join(choices)}. Received: {name}='{value}'; {hint}")
    return value
