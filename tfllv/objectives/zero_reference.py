"""The objective of SGZ and Zero-DCE: train a curve network on dark pictures alone, without a reference.

SGZ: Zheng and Gupta, WACVW 2022, https://arxiv.org/abs/2110.00970; Zero-DCE: Guo et al., CVPR 2020,
https://arxiv.org/abs/2001.06826.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from keras import ops

from tfllv import contracts
from tfllv.losses import semantic as semantic_losses
from tfllv.losses import zero_reference as losses
from tfllv.models import fpn, torch_file

SEMANTIC_MODES = ("off", "faithful", "sane")
SEGMENTERS = ("imagenet", "random")
TORCH_SUFFIXES = (".pth", ".pt")

# Of the published code of SGZ: smoothness, spatial consistency, colour, exposure, semantics.
WEIGHTS = {"tv": 1600.0, "spa": 1.0, "col": 5.0, "exp": 10.0, "seg": 0.1}

# Options in which a published objective differs from the defaults.
PRESETS: dict[str, dict[str, Any]] = {
    "sgz": {},
    "zero_dce": {"weights": {"tv": 200.0, "seg": 0.0}, "neighbours": 4},
}


class ZeroReference:
    """The weighted zero-reference losses of a curve network, as a callable `(model, batch) -> (terms, outputs)`.

    Its segmentation network belongs to the objective: it is never trained, and nothing saves it, because these options
    give it again.

    Args:
      weights: weight of each term by name (`tv`, `spa`, `col`, `exp`, `seg`); what is left out keeps its default. A
        term of weight 0 is not computed.
      exp_level: brightness that the exposure term asks for, in [0, 1].
      patch_size: side of the regions of the spatial consistency term, in pixels.
      neighbours: neighbours in that term: 8 as SGZ, 4 as Zero-DCE.
      semantic: the semantic term: `off`; `faithful` as the published code (batch statistics, raw input, see
        `fpn.FPN`); `sane` (moving statistics, normalised input).
      num_classes: classes of the segmentation network's head, which is random unless a weights file has one.
      segmenter: the segmentation network: `imagenet`, the backbone's weights from Keras Applications (downloaded
        once); `random`; a torchvision ResNet-50 file (`.pth`, `.pt`) for the backbone, which is what the published
        code uses; a `.weights.h5` file for the whole `fpn.FPN`; or any model from a picture to a dict with `logits`.
      seed: seeds what is random in it.

    Raises:
      ValueError: if an option is out of range or unknown, or a file does not fit.
      OSError: if a weights file cannot be read or downloaded.
    """

    def __init__(
        self,
        *,
        weights: Mapping[str, float] | None = None,
        exp_level: float = losses.EXPOSURE_LEVEL,
        patch_size: int = losses.PATCH_SIZE,
        neighbours: int = 8,
        semantic: str = "off",
        num_classes: int = fpn.NUM_CLASSES,
        segmenter: Any = "imagenet",
        seed: int = 0,
    ) -> None:
        self.weights = _merge_weights(weights or {})
        if not 0 <= exp_level <= 1:
            raise ValueError(f"`exp_level` must be in [0, 1]. Received: exp_level={exp_level}.")
        if patch_size < 1:
            raise ValueError(f"`patch_size` must be >= 1. Received: patch_size={patch_size}.")
        if neighbours not in losses.NEIGHBOURS:
            raise ValueError(f"`neighbours` must be 4 or 8. Received: neighbours={neighbours}.")
        if semantic not in SEMANTIC_MODES:
            raise ValueError(f"`semantic` must be one of {', '.join(SEMANTIC_MODES)}. Received: semantic='{semantic}'.")
        self.exp_level = exp_level
        self.patch_size = patch_size
        self.neighbours = neighbours
        self.semantic = semantic
        self.segmenter: Any = None
        if semantic != "off" and self.weights["seg"]:
            self.segmenter = _segmenter(segmenter, num_classes, semantic == "faithful", seed)

    @classmethod
    def preset(cls, name: str, **options: Any) -> ZeroReference:
        """Returns the objective as published with a method: `sgz` or `zero_dce`.

        Args:
          name: a key of `PRESETS`.
          **options: further options, which win over the preset's; `weights` are merged with its weights.

        Raises:
          ValueError: if there is no such preset, or as the class.
        """
        if name not in PRESETS:
            hint = contracts.nearest_name(name, PRESETS)
            raise ValueError(f"`name` must be a preset. Received: name='{name}'; {hint}")
        merged = {**PRESETS[name], **options}
        merged["weights"] = {**PRESETS[name].get("weights", {}), **(options.get("weights") or {})}
        return cls(**merged)

    def __call__(
        self, model: Any, batch: Mapping[str, Any], *, training: bool = True
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Runs a network on a batch and returns its loss.

        Args:
          model: picture -> dict with `image` [B, H, W, 3] and `curve` [B, H, W, 3 n].
          batch: `low` is float32 [B, H, W, 3] in [0, 1]; other keys are not read.
          training: handed to the network.

        Returns:
          The weighted loss terms by name, float32 scalars whose sum is the loss, and the network's outputs.

        Raises:
          ValueError: if `low` is not in the batch, or `image` or `curve` not in the outputs.
        """
        low = ops.convert_to_tensor(_entry(batch, contracts.LOW, "batch"), "float32")
        outputs = model(low, training=training)
        enhanced = ops.cast(_entry(outputs, contracts.IMAGE, "outputs"), "float32")
        curve = ops.cast(_entry(outputs, contracts.CURVE, "outputs"), "float32")
        computations = {
            "tv": lambda: losses.total_variation(curve),
            "spa": lambda: losses.spatial_consistency(
                low, enhanced, patch_size=self.patch_size, neighbours=self.neighbours
            ),
            "col": lambda: losses.color_constancy(enhanced),
            "exp": lambda: losses.exposure_control(enhanced, level=self.exp_level),
        }
        if self.segmenter is not None:
            computations["seg"] = lambda: self._semantic_loss(enhanced)
        terms = {name: self.weights[name] * term() for name, term in computations.items() if self.weights[name]}
        return terms, outputs

    def _semantic_loss(self, enhanced: Any) -> Any:
        logits = _entry(self.segmenter(enhanced, training=False), contracts.LOGITS, "segmenter")
        return semantic_losses.focal_self_label(ops.cast(logits, "float32"))


def _merge_weights(weights: Mapping[str, float]) -> dict[str, float]:
    for name, value in weights.items():
        if name not in WEIGHTS:
            hint = contracts.nearest_name(name, WEIGHTS)
            raise ValueError(f"`weights` must name loss terms. Received: '{name}'; {hint}")
        if not 0 <= value < float("inf"):
            raise ValueError(f"`weights` must be finite and >= 0. Received: {name}={value}.")
    merged = {name: float(weights.get(name, default)) for name, default in WEIGHTS.items()}
    if not any(merged.values()):
        raise ValueError("`weights` must leave at least one term above 0. Received: all 0.")
    return merged


def _segmenter(source: Any, num_classes: int, reference: bool, seed: int) -> Any:
    """Returns the frozen segmentation network that `segmenter` describes."""
    if callable(source):
        return source
    name = str(source)
    if name == "imagenet":
        return fpn.FPN(num_classes=num_classes, reference=reference, variant="v1", weights="imagenet", seed=seed)
    known = name == "random" or name.endswith((*TORCH_SUFFIXES, ".weights.h5"))
    if not known:
        raise ValueError(
            "`segmenter` must be 'imagenet', 'random', a .pth, .pt or .weights.h5 file, or a model. "
            f"Received: segmenter='{name}'."
        )
    network = fpn.FPN(num_classes=num_classes, reference=reference, seed=seed)
    if name.endswith(TORCH_SUFFIXES):
        network.backbone.assign_torch(torch_file.read_state_dict(name))
    elif name != "random":
        network.load_weights(name)
    return network


def _entry(mapping: Mapping[str, Any], key: str, name: str) -> Any:
    if key not in mapping:
        raise ValueError(f"`{name}` must have the key '{key}'. Received: {', '.join(sorted(mapping))}.")
    return mapping[key]
