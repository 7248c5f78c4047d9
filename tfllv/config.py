"""Experiments as frozen dataclasses: read from YAML, changed by dotted overrides, checked, written back.

A value is converted from its text by the type the field declares, not by YAML's own guess: `1e-3` is a number, `off`
is a word where a word is wanted, and 'False' is False. An unknown key or a bad value names the file and the line.
"""

from __future__ import annotations

import dataclasses
import pathlib
import types
import typing
from collections.abc import Sequence
from typing import Any, Literal, Self

import yaml

from tfllv import contracts

_TRUE = ("true", "yes", "on", "1")
_FALSE = ("false", "no", "off", "0")


def _setting(default: Any, *, low: float | None = None, above: float | None = None, high: float | None = None) -> Any:
    """A field with bounds: `low` and `high` are included, `above` is not."""
    return dataclasses.field(default=default, metadata={"low": low, "above": above, "high": high})


def _types(cls: type) -> dict[str, Any]:
    return typing.get_type_hints(cls)


@dataclasses.dataclass(frozen=True)
class _Checked:
    """Checks every field's type, choice and bounds, wherever the object is made."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            _check(field.name, getattr(self, field.name), _types(type(self))[field.name], field.metadata)

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields as plain values: dicts, lists, numbers, words."""
        return _plain(dataclasses.asdict(self))

    def to_yaml(self) -> str:
        """Returns the fields as YAML; `from_yaml` of it gives an equal object."""
        return yaml.safe_dump(self.to_dict(), sort_keys=False, width=120)

    def replace(self, **changes: Any) -> Self:
        """Returns a copy with some fields changed, checked again."""
        return dataclasses.replace(self, **changes)


@dataclasses.dataclass(frozen=True)
class TrainConfig(_Checked):
    """What the training engine itself reads, whatever is trained.

    Attributes:
      experiment: a key of `EXPERIMENTS`: which of the classes here the file is, and what is trained on what.
      model: a key of `tfllv.models.MODELS`.
      lr: learning rate after warm-up.
      weight_decay: strength of the pull to zero; see `decoupled_weight_decay`.
      decoupled_weight_decay: False adds `weight_decay * weights` to the gradient (L2, as torch.optim.Adam does); True
        shrinks the weights beside the gradient step (AdamW).
      beta_1: decay of Adam's mean gradient.
      grad_clip_norm: the gradient's global norm is scaled down to this; 0 does not clip.
      schedule: `constant`, or `cosine` from lr to `lr_end` at the last step.
      lr_end: where the cosine ends.
      warmup_steps: lr rises linearly over this many steps.
      ema_decay: decay of the moving average of the weights, 0 for none. Where it is on, snapshots, validation and the
        final weights use the average.
      num_epochs: passes over the data. A step belongs to epoch `step * train_batch_size // number of images`.
      num_steps: stops after this many steps instead; 0 means by `num_epochs`.
      train_batch_size: images a step, over all replicas.
      val_batch_size: number of images that validation and the pictures in the tracker use.
      accumulate_steps: a step's batch is run in this many parts, whose gradients are averaged: the same result as in
        one part, with less memory.
      num_workers: threads that read and decode.
      cache_mb: decoded images are kept in memory up to this many megabytes (10**6 bytes).
      image_size: side of the training images in pixels.
      image_fit: `resize` squeezes the whole image to the square (Lanczos, as the reference does), `crop` cuts a random
        square from it.
      augment: random flips and quarter turns.
      include: only these images; see `tfllv.inputs.files.select`.
      exclude: all but these images; see `tfllv.inputs.files.select`.
      display_iter: a progress line and scalars every so many steps.
      snapshot_iter: a weights file `EpochN.weights.h5`, validation and pictures every so many epochs. N counts from 0
        as in the reference, so 100 epochs end with Epoch99.
      snapshots_folder: where those go, inside the working folder.
      checkpoint_steps: a resumable checkpoint at least every so many steps, and at each epoch's end.
      keep: number of checkpoints that are kept, beside the best.
      patience: stops after so many validations without a better one, and ends with the best weights; 0 never does.
      seed: of weights, data order and augmentation.
      deterministic: only operations that give the same bits every time, which on a GPU is slower.
      precision: type of the computation; the weights are float32 always.
      jit_compile: compiles the step with XLA. Never for CPU: depthwise networks are 15 times slower with it.
    """

    experiment: str = "zero_reference"
    model: str = "sgz"
    lr: float = _setting(1e-3, above=0)
    weight_decay: float = _setting(1e-3, low=0)
    decoupled_weight_decay: bool = False
    beta_1: float = _setting(0.9, low=0, high=0.9999)
    grad_clip_norm: float = _setting(0.1, low=0)
    schedule: Literal["constant", "cosine"] = "constant"
    lr_end: float = _setting(0.0, low=0)
    warmup_steps: int = _setting(0, low=0)
    ema_decay: float = _setting(0.0, low=0, high=0.999999)
    num_epochs: int = _setting(100, low=1)
    num_steps: int = _setting(0, low=0)
    train_batch_size: int = _setting(6, low=1)
    val_batch_size: int = _setting(8, low=1)
    accumulate_steps: int = _setting(1, low=1)
    num_workers: int = _setting(4, low=1)
    cache_mb: int = _setting(2000, low=0)
    image_size: int = _setting(512, low=8)
    image_fit: Literal["resize", "crop"] = "resize"
    augment: bool = False
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    display_iter: int = _setting(10, low=1)
    snapshot_iter: int = _setting(10, low=1)
    snapshots_folder: str = "weight/"
    checkpoint_steps: int = _setting(200, low=1)
    keep: int = _setting(2, low=1)
    patience: int = _setting(0, low=0)
    seed: int = _setting(0, low=0, high=2**31 - 1)
    deterministic: bool = False
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    jit_compile: bool = False


@dataclasses.dataclass(frozen=True)
class LossWeights(_Checked):
    """Weights of the zero-reference loss terms: smoothness, spatial consistency, colour, exposure, semantics."""

    tv: float = _setting(1600.0, low=0)
    spa: float = _setting(1.0, low=0)
    col: float = _setting(5.0, low=0)
    exp: float = _setting(10.0, low=0)
    seg: float = _setting(0.1, low=0)


@dataclasses.dataclass(frozen=True)
class ZeroReferenceConfig(TrainConfig):
    """Curve networks trained on dark images alone: SGZ, Zero-DCE, Zero-DCE++. Names as in the SGZ reference.

    Attributes:
      lowlight_images_path: folder of dark images, searched recursively.
      max_level: only images whose mean level is at most this, in [0, 1], are trained on; for folders that hold bright
        frames too.
      val_images_path: folder of validation images; empty takes `val_batch_size` of the training images.
      load_pretrain: start from `pretrain_dir`.
      pretrain_dir: a weights file, with or without `.weights.h5`.
      num_of_SegClass: classes of the segmentation network of the semantic term.
      scale_factor: the curve is estimated on an image this many times smaller.
      conv_type: `dsc` depthwise separable convolutions, `tc` plain 3x3 ones. SGZ only.
      patch_size: side of the averages of the spatial consistency term, in pixels.
      neighbours: neighbours in that term, 8 as SGZ or 4 as Zero-DCE.
      exp_level: the mean level that the exposure term asks for.
      semantic: the semantic term. `faithful` does as the reference: a never-trained head on ImageNet features in
        training mode, not normalised; `sane`: frozen batch norm and normalised input; `off` by default, because it
        needs a download and its labels are the network's own guesses.
      segmenter: its network's weights: `imagenet` (downloaded once), `random`, or a .pth, .pt or .weights.h5 file.
      weights: of the loss terms.
    """

    lowlight_images_path: str = "data/train_data/"
    max_level: float = _setting(1.0, above=0, high=1)
    val_images_path: str = ""
    load_pretrain: bool = False
    pretrain_dir: str = "weight/Epoch99"
    num_of_SegClass: int = _setting(21, low=2)  # noqa: N815 - the reference's name
    scale_factor: int = _setting(1, low=1)
    conv_type: Literal["dsc", "tc"] = "dsc"
    patch_size: int = _setting(4, low=1)
    neighbours: int = _setting(8, low=4, high=8)
    exp_level: float = _setting(0.6, above=0, high=1)
    semantic: Literal["off", "faithful", "sane"] = "off"
    segmenter: str = "imagenet"
    weights: LossWeights = dataclasses.field(default_factory=LossWeights)


@dataclasses.dataclass(frozen=True)
class PairedWeights(_Checked):
    """Weights of the supervised loss terms (`tfllv.losses.supervised`) and of a discriminator's; 0 trains none."""

    charbonnier: float = _setting(1.0, low=0)
    l1: float = _setting(0.0, low=0)
    mse: float = _setting(0.0, low=0)
    log_mse: float = _setting(0.0, low=0)
    ssim: float = _setting(0.0, low=0)
    perceptual: float = _setting(0.0, low=0)
    adversarial: float = _setting(0.0, low=0)


@dataclasses.dataclass(frozen=True)
class PairedConfig(TrainConfig):
    """Restoration networks trained on pairs of a dark and a bright picture: MIRNet and its small variant.

    Attributes:
      pairs: a csv with columns low and high (paths relative to it), or a folder with LOL's layout; with `darken`, a
        folder of bright pictures.
      splits: of a folder with LOL's layout, only these: train (our485), val, test (eval15); `val_splits` likewise.
      val_pairs: the same for validation, on whole pictures; also looked for beside `pairs`; empty: the training pairs.
      flip: mirrors half of the examples, left to right.
      zoom: enlarges a random square of each picture, whose side is drawn evenly from [1 - zoom, 1] of it.
      exposure: scales the dark picture by e^u, u drawn evenly from [-exposure, exposure / 2]; 0 leaves it.
      mixup: mixes every example with another by a share drawn from Beta(mixup, mixup); 0 for none.
      mixup_after: epochs without mixing at the start.
      darken: makes the dark picture from the bright one by this recipe of `tfllv darken`, anew in each epoch.
      options: of the network, as `n_feat=32`.
      freeze: layers that are not trained, by name or pattern (`dau*`), at any depth.
      start_from: weights to start from: a file, or another run's folder.
      features: weights of the perceptual term's network; see `tfllv.models.vgg`.
      weights: of the loss terms.
    """

    model: str = "mirnet_small"
    pairs: str = "data/pairs_train.csv"
    splits: tuple[str, ...] = ()
    val_pairs: str = ""
    val_splits: tuple[str, ...] = ()
    flip: bool = True
    zoom: float = _setting(0.0, low=0, high=0.9)
    exposure: float = _setting(0.0, low=0)
    mixup: float = _setting(0.0, low=0)
    mixup_after: int = _setting(0, low=0)
    darken: str = ""
    options: tuple[str, ...] = ()
    freeze: tuple[str, ...] = ()
    start_from: str = ""
    features: str = "imagenet"
    weights: PairedWeights = dataclasses.field(default_factory=PairedWeights)


EXPERIMENTS: dict[str, type[TrainConfig]] = {"zero_reference": ZeroReferenceConfig, "paired": PairedConfig}


def load(path: str | pathlib.Path, overrides: Sequence[str] = ()) -> TrainConfig:
    """Reads an experiment file and applies overrides.

    Args:
      path: a YAML file with a mapping; its `experiment` key says which class of `EXPERIMENTS` it is.
      overrides: `key=value` or `group.key=value`, the value as YAML would have it; later ones win.

    Returns:
      The configuration, checked.

    Raises:
      ValueError: naming file, line and the nearest known key for an unknown key, or what was expected for a value.
      OSError: if the file cannot be read.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"`config` must be a YAML file. Received: '{path}', which is not a file.")
    return from_yaml(path.read_text(encoding="utf-8"), overrides=overrides, source=str(path))


def from_yaml(text: str, *, overrides: Sequence[str] = (), source: str = "text") -> TrainConfig:
    """Reads an experiment from YAML text; see `load`. `source` stands for the file's name in messages."""
    root = _compose(text, source)
    nodes = [(source, root)] if root is not None else []
    nodes += [("--set", _override_node(word)) for word in overrides]
    name = TrainConfig.experiment
    for where, node in nodes:
        for key, value in _pairs(node, where):
            if key.value == "experiment":
                name = _convert("experiment", value, str, where)
    if name not in EXPERIMENTS:
        raise ValueError(
            f"`experiment` must be a known experiment. Received: '{name}'; {contracts.nearest_name(name, EXPERIMENTS)}"
        )
    config: Any = EXPERIMENTS[name]()
    for where, node in nodes:
        config = _apply(config, node, where, "")
    return config


def _compose(text: str, source: str) -> yaml.Node | None:
    try:
        return yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else "?"
        raise ValueError(f"{source}:{line}: not YAML: {error.problem}.") from None
    except yaml.YAMLError as error:
        raise ValueError(f"{source}: not YAML: {error}.") from None


def _override_node(word: str) -> yaml.Node:
    """Turns `a.b=c` into the mapping node {a: {b: c}}."""
    key, equals, text = word.partition("=")
    if not equals or not key.strip():
        raise ValueError(f"--set needs `key=value`. Received: '{word}'.")
    node = _compose(text, f"--set {key}") or yaml.ScalarNode("tag:yaml.org,2002:str", "")
    for part in reversed(key.strip().split(".")):
        node = yaml.MappingNode("tag:yaml.org,2002:map", [(yaml.ScalarNode("tag:yaml.org,2002:str", part), node)])
    return node


def _pairs(node: yaml.Node, where: str) -> list[tuple[Any, Any]]:
    if not isinstance(node, yaml.MappingNode):
        raise ValueError(
            f"{_place(node, where)}: `key: value` lines are expected. Received: "
            + (f"'{node.value}'." if isinstance(node, yaml.ScalarNode) else "a list.")
        )
    return node.value


def _place(node: yaml.Node, where: str) -> str:
    return f"{where}:{node.start_mark.line + 1}" if node.start_mark is not None and where != "--set" else where


def _apply(config: Any, node: yaml.Node, where: str, prefix: str) -> Any:
    """Returns `config` with the values of a mapping node put in."""
    hints = _types(type(config))
    metadata = {field.name: field.metadata for field in dataclasses.fields(config)}
    changes: dict[str, Any] = {}
    seen: set[str] = set()
    for key, value in _pairs(node, where):
        name, place = str(key.value), _place(key, where)
        if name not in hints:
            raise ValueError(f"{place}: unknown key `{prefix}{name}`; {contracts.nearest_name(name, hints)}")
        if name in seen:
            raise ValueError(f"{place}: the key `{prefix}{name}` stands here a second time; remove one.")
        seen.add(name)
        if dataclasses.is_dataclass(hints[name]):
            changes[name] = _apply(getattr(config, name), value, where, f"{prefix}{name}.")
            continue
        changes[name] = _convert(prefix + name, value, hints[name], where)
        try:
            _check(prefix + name, changes[name], hints[name], metadata[name])
        except ValueError as error:
            raise ValueError(f"{_place(value, where)}: {error}") from None
    return dataclasses.replace(config, **changes)


def _convert(name: str, node: yaml.Node, kind: Any, where: str) -> Any:
    """Converts the text of a node by the declared type."""
    if typing.get_origin(kind) is tuple:
        if isinstance(node, yaml.SequenceNode):
            return tuple(_convert(name, item, str, where) for item in node.value)
        if isinstance(node, yaml.ScalarNode):
            return tuple(part.strip() for part in node.value.split(",") if part.strip())
    if not isinstance(node, yaml.ScalarNode):
        raise ValueError(f"{_place(node, where)}: `{name}` must be {_describe(kind)}. Received: a list or mapping.")
    text = node.value.strip()
    if kind is str or typing.get_origin(kind) is Literal:
        return text
    try:
        if kind is bool:
            return {**dict.fromkeys(_TRUE, True), **dict.fromkeys(_FALSE, False)}[text.lower()]
        if kind is int:
            number = float(text) if not text.lstrip("+-").isdigit() else int(text)
            if number != int(number):
                raise ValueError
            return int(number)
        return float(text)
    except (KeyError, ValueError, OverflowError):
        raise ValueError(
            f"{_place(node, where)}: `{name}` must be {_describe(kind)}. Received: '{node.value}'."
        ) from None


def _describe(kind: Any) -> str:
    if typing.get_origin(kind) is Literal:
        return "one of " + ", ".join(typing.get_args(kind))
    names = {bool: "true or false", int: "a whole number", float: "a number", str: "a word"}
    return names.get(kind, "a list of words")


def _check(name: str, value: Any, kind: Any, bounds: types.MappingProxyType | dict) -> None:
    """Raises ValueError unless `value` has the declared type and lies within the bounds."""
    origin = typing.get_origin(kind)
    if origin is Literal:
        right = value in typing.get_args(kind)
    elif origin is tuple:
        right = isinstance(value, tuple) and all(isinstance(item, str) for item in value)
    elif kind is float:
        right = isinstance(value, int | float) and not isinstance(value, bool) and value == value
    else:
        right = isinstance(value, kind) and (kind is bool or not isinstance(value, bool))
    if not right:
        hint = f" {contracts.nearest_name(str(value), typing.get_args(kind))}" if origin is Literal else ""
        raise ValueError(f"`{name}` must be {_describe(kind)}. Received: {name}={value!r}.{hint}")
    for bound, words, wrong in (
        ("low", "at least", lambda limit: value < limit),
        ("above", "more than", lambda limit: value <= limit),
        ("high", "at most", lambda limit: value > limit),
    ):
        limit = bounds.get(bound)
        if limit is not None and wrong(limit):
            raise ValueError(f"`{name}` must be {words} {limit}. Received: {name}={value!r}.")


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return list(value) if isinstance(value, tuple) else value
