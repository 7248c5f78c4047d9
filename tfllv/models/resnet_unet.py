"""One encoder, two tasks: a ResNet-50 U-Net that brightens a dark picture and says what is in it.

The encoder is `resnet.ResNet50`; its maps of all five stages, and the picture itself, are the skips of a U-Net decoder
(Ronneberger et al., MICCAI 2015, https://arxiv.org/abs/1505.04597). The decoder has six blocks a task, the last being
its head: the first three are shared by the tasks, the other three are each task's own. 32,588,644 trainable
parameters by default.

The published multi-task encoder states ResNet-50, six blocks, three of them shared; widths and heads are our own: two
3x3 convolutions with batch normalisation a block after doubling by nearest pixels, one 3x3 convolution a head, and the
picture is what comes in plus what the head adds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import layers, ops

from tfllv import contracts
from tfllv.models import encoder_weights, resnet

BLOCKS = 6  # of a task, counting its head
NUM_CLASSES = 91  # COCO: 0 is the background, ids go up to 90
TASKS = ("both", "enhancement", "segmentation")
_SKIPS = ("c4", "c3", "c2", "stem")  # of the blocks; the fifth takes the picture
# Every layer has its own seed, counted from the network's; the backbone uses the first 53.
_DECODER_SEED = 100
_SALTS = {contracts.IMAGE: 100, contracts.LOGITS: 200}


@keras.saving.register_keras_serializable(package="tfllv")
class DoubleAndJoin(layers.Layer):
    """Doubles a map by repeating its pixels, cuts it to the size of a finer one, and joins the two."""

    def call(self, inputs: Sequence[Any]) -> Any:
        """Returns ([B, ceil(H / 2), ceil(W / 2), C], [B, H, W, D]) as [B, H, W, C + D]."""
        coarse, fine = inputs
        _, height, width, _ = ops.shape(fine)
        batch, rows, columns, channels = ops.shape(coarse)
        # Not by `ops.repeat`, behind which LiteRT's converter no longer knows how many channels there are.
        wide = ops.reshape(ops.concatenate([coarse, coarse], axis=-1), (batch, rows, 2 * columns, channels))
        doubled = ops.reshape(ops.concatenate([wide, wide], axis=2), (batch, 2 * rows, 2 * columns, channels))
        return ops.concatenate([doubled[:, :height, :width], fine], axis=-1)

    def compute_output_shape(self, input_shape: Sequence[Sequence[int | None]]) -> tuple[int | None, ...]:
        """Returns the shape of the result."""
        coarse, fine = input_shape
        return (*fine[:-1], coarse[-1] + fine[-1])  # type: ignore[operator]


@keras.saving.register_keras_serializable(package="tfllv")
class ResNetUNet(keras.Model):
    """float32 [B, H, W, 3] in [0, 1], any H and W >= 1 -> `image` [B, H, W, 3] and `logits` [B, H, W, classes].

    `image` is about [0, 1], not clipped; `logits` are those before the softmax. Both are float32.

    Args:
      num_classes: of `logits`.
      width: channels of the finest block; each coarser one has twice as many, 16 times in the coarsest.
      shared_blocks: how many of the six blocks both tasks share, 0 to 5: a head is always a task's own.
      tasks: `both`, or one alone: `enhancement` has no `logits`, `segmentation` no `image`.
      weights: of the encoder; see `encoder_weights.load_encoder`. The decoder's are random (He et al., 2015).
      variant: of the encoder, see `resnet.ResNet50`; None: as `weights` needs it, `v1.5` where they are random.
      statistics: what every batch normalisation uses; see `resnet.BatchNorm`.
      synchronized: batch normalisation over all replicas; see `resnet.ResNet50`.
      frozen_stages: how many stages of the encoder are not trained, from the input, 0 to 5.
      seed: of the random weights.
      dtype: a Keras dtype policy, such as `mixed_bfloat16`; heads and pictures stay float32.
      name: the model's name.
      **options: further options of `keras.Model`, such as `trainable`.

    Attributes:
      backbone: the encoder, a `resnet.ResNet50`.
      margin: pixels of surroundings that a picture should get where it is enhanced: convolutions pad by zeros, which a
        faint frame around the result would show. A multiple of 32, so that no stage sees the picture shifted.

    Raises:
      ValueError: if an option is out of range, or the weights do not fit.
      OSError: if the weights cannot be read.
    """

    margin = 32

    def __init__(
        self,
        *,
        num_classes: int = NUM_CLASSES,
        width: int = 16,
        shared_blocks: int = 3,
        tasks: str = "both",
        weights: str | None = None,
        variant: str | None = None,
        statistics: str = "auto",
        synchronized: bool = False,
        frozen_stages: int = 0,
        seed: int = 0,
        dtype: Any = None,
        name: str | None = "resnet_unet",
        **options: Any,
    ) -> None:
        _check_options(num_classes=num_classes, width=width, shared_blocks=shared_blocks, tasks=tasks)
        variant = variant or encoder_weights.variant_of(weights)
        policy = None if dtype is None else keras.dtype_policies.get(dtype).name
        norms: dict[str, Any] = {"statistics": statistics, "synchronized": bool(synchronized)}
        backbone = resnet.ResNet50(
            variant=variant,
            normalization="keras" if variant == "v1" else "torchvision",
            frozen_stages=frozen_stages,
            seed=seed,
            dtype=policy,
            name="backbone",
            **norms,
        )
        image = keras.Input((None, None, 3), name=contracts.IMAGE)
        decoder = _Decoder(width, shared_blocks, norms, seed + _DECODER_SEED, policy)
        outputs = decoder.outputs(image, backbone(image), _channels(tasks, num_classes))
        super().__init__(inputs=image, outputs=outputs, name=name, **options)
        self.backbone = backbone
        self._options = {
            "num_classes": num_classes,
            "width": width,
            "shared_blocks": shared_blocks,
            "tasks": tasks,
            "variant": variant,
            **norms,
            "seed": seed,
            "dtype": policy,
        }
        encoder_weights.load_encoder(backbone, weights)

    def get_config(self) -> dict[str, Any]:
        """Returns the options, for saving; weights are saved beside them, so a reload reads no other file."""
        frozen = {"frozen_stages": self.backbone.frozen_stages}
        return {**self._options, **frozen, "name": self.name, "trainable": self.trainable}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> ResNetUNet:
        """Builds the network from `get_config`'s options."""
        return cls(**config)


class _Decoder:
    """Lays the layers; it holds what they share."""

    def __init__(self, width: int, shared: int, norms: dict[str, Any], seed: int, dtype: str | None) -> None:
        self.widths = [width * 2**power for power in reversed(range(BLOCKS - 1))]
        self.shared, self.norms, self.seed, self.dtype = shared, norms, seed, dtype

    def outputs(self, image: Any, features: dict[str, Any], channels: dict[str, int]) -> dict[str, Any]:
        # A dark picture's values lie close together near 0; its own normalisation brings them to the other maps' scale.
        skips = [*(features[name] for name in _SKIPS), self.norm(image, "picture_norm")]
        x = features["c5"]
        for index, skip in enumerate(skips[: self.shared]):
            x = self.block(x, skip, index, "shared")
        found = {}
        for task, count in channels.items():
            own, salt = x, _SALTS[task]
            for index, skip in enumerate(skips[self.shared :], start=self.shared):
                own = self.block(own, skip, index, task, salt)
            # Whatever the body computes in, the results are of Keras's float type, float32.
            own = layers.Activation("linear", dtype=keras.config.floatx(), name=f"{task}_float")(own)
            found[task] = self.conv(own, count, f"{task}_head", salt + 50, head=True)
        if contracts.IMAGE in found:
            add = layers.Add(dtype=keras.config.floatx(), name="image_add")
            found[contracts.IMAGE] = add([image, found[contracts.IMAGE]])
        return found

    def block(self, x: Any, skip: Any, index: int, kind: str, salt: int = 0) -> Any:
        name = f"{kind}_block{index + 1}"
        x = DoubleAndJoin(dtype=self.dtype, name=f"{name}_join")([x, skip])
        for number in (1, 2):
            x = self.conv(x, self.widths[index], f"{name}_conv{number}", salt + 2 * index + number)
            x = self.norm(x, f"{name}_norm{number}")
            x = layers.Activation("relu", dtype=self.dtype, name=f"{name}_relu{number}")(x)
        return x

    def conv(self, x: Any, filters: int, name: str, salt: int, *, head: bool = False) -> Any:
        # A head starts small: the picture as it came, all classes alike.
        scale, dtype = (0.02, keras.config.floatx()) if head else (2.0, self.dtype)
        initializer = keras.initializers.VarianceScaling(
            scale, mode="fan_in", distribution="untruncated_normal", seed=self.seed + salt
        )
        return layers.Conv2D(
            filters,
            3,
            padding="same",
            use_bias=head,
            kernel_initializer=initializer,
            data_format="channels_last",
            dtype=dtype,
            name=name,
        )(x)

    def norm(self, x: Any, name: str) -> Any:
        return resnet.BatchNorm(momentum=resnet.MOMENTUM, epsilon=1e-5, dtype=self.dtype, name=name, **self.norms)(x)


def _channels(tasks: str, num_classes: int) -> dict[str, int]:
    """Returns the channels of each output that the tasks have."""
    every = {contracts.IMAGE: 3, contracts.LOGITS: num_classes}
    left_out = {"enhancement": contracts.LOGITS, "segmentation": contracts.IMAGE}.get(tasks)
    return {name: count for name, count in every.items() if name != left_out}


def _check_options(*, tasks: str, **numbers: int) -> None:
    limits = {"num_classes": (1, contracts.IGNORE_LABEL), "width": (1, 4096), "shared_blocks": (0, BLOCKS - 1)}
    for name, value in numbers.items():
        low, high = limits[name]
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise ValueError(f"`{name}` must be a whole number from {low} to {high}. Received: {name}={value}.")
    if tasks not in TASKS:
        raise ValueError(
            f"`tasks` must be one of {', '.join(TASKS)}. Received: tasks='{tasks}'; "
            f"{contracts.nearest_name(str(tasks), TASKS)}"
        )
