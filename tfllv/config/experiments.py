"""The experiments' settings, a frozen dataclass each, and their table."""

from __future__ import annotations

import dataclasses
from typing import Literal

from tfllv.config.fields import Checked, setting


@dataclasses.dataclass(frozen=True)
class TrainConfig(Checked):
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
      schedule: `constant`, `cosine` from lr to `lr_end` at the last step, or `step`, which multiplies lr by `lr_gamma`
        every `lr_step_size` epochs.
      lr_end: where the cosine ends.
      lr_step_size: epochs.
      lr_gamma: a factor.
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
      sample_every: a grid of pictures (dark, result, truth) as `samples/EpochN.png` and in the tracker, every so many
        epochs; 0 for none.
      checkpoint_steps: a resumable checkpoint at least every so many steps, and with each snapshot.
      keep: number of checkpoints that are kept, beside the best.
      refresh_norms: after the last step, batch normalisation's statistics are computed anew over this many batches; 0
        leaves the moving ones, and so does an end by `patience`.
      patience: stops after so many validations without a better one, and ends with the best weights; 0 never does.
      seed: of weights, data order and augmentation.
      deterministic: only operations that give the same bits every time, which on a GPU is slower.
      precision: type of the computation; the weights are float32 always.
      jit_compile: compiles the step with XLA. Never for CPU: depthwise networks are 15 times slower with it.
      term_gradients: with each progress line, the gradient's norm of every loss term alone, which costs a backward pass
        a term then.
    """

    experiment: str = "zero_reference"
    model: str = "sgz"
    lr: float = setting(1e-3, above=0)
    weight_decay: float = setting(1e-3, low=0)
    decoupled_weight_decay: bool = False
    beta_1: float = setting(0.9, low=0, high=0.9999)
    grad_clip_norm: float = setting(0.1, low=0)
    schedule: Literal["constant", "cosine", "step"] = "constant"
    lr_end: float = setting(0.0, low=0)
    lr_step_size: int = setting(50, low=1)
    lr_gamma: float = setting(0.9, above=0, high=1)
    warmup_steps: int = setting(0, low=0)
    ema_decay: float = setting(0.0, low=0, high=0.999999)
    num_epochs: int = setting(100, low=1)
    num_steps: int = setting(0, low=0)
    train_batch_size: int = setting(6, low=1)
    val_batch_size: int = setting(8, low=1)
    accumulate_steps: int = setting(1, low=1)
    num_workers: int = setting(4, low=1)
    cache_mb: int = setting(2000, low=0)
    image_size: int = setting(512, low=8)
    image_fit: Literal["resize", "crop"] = "resize"
    augment: bool = False
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    display_iter: int = setting(10, low=1)
    snapshot_iter: int = setting(10, low=1)
    snapshots_folder: str = "weight/"
    sample_every: int = setting(0, low=0)
    checkpoint_steps: int = setting(200, low=1)
    keep: int = setting(2, low=1)
    refresh_norms: int = setting(0, low=0)
    patience: int = setting(0, low=0)
    seed: int = setting(0, low=0, high=2**31 - 1)
    deterministic: bool = False
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    jit_compile: bool = False
    term_gradients: bool = False


@dataclasses.dataclass(frozen=True)
class LossWeights(Checked):
    """Weights of the zero-reference loss terms: smoothness, spatial consistency, colour, exposure, semantics."""

    tv: float = setting(1600.0, low=0)
    spa: float = setting(1.0, low=0)
    col: float = setting(5.0, low=0)
    exp: float = setting(10.0, low=0)
    seg: float = setting(0.1, low=0)


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
    max_level: float = setting(1.0, above=0, high=1)
    val_images_path: str = ""
    load_pretrain: bool = False
    pretrain_dir: str = "weight/Epoch99"
    num_of_SegClass: int = setting(21, low=2)  # noqa: N815 - the reference's name
    scale_factor: int = setting(1, low=1)
    conv_type: Literal["dsc", "tc"] = "dsc"
    patch_size: int = setting(4, low=1)
    neighbours: int = setting(8, low=4, high=8)
    exp_level: float = setting(0.6, above=0, high=1)
    semantic: Literal["off", "faithful", "sane"] = "off"
    segmenter: str = "imagenet"
    weights: LossWeights = dataclasses.field(default_factory=LossWeights)


@dataclasses.dataclass(frozen=True)
class PictureWeights(Checked):
    """Weights of the supervised loss terms (`tfllv.losses.supervised`)."""

    charbonnier: float = setting(1.0, low=0)
    l1: float = setting(0.0, low=0)
    mse: float = setting(0.0, low=0)
    log_mse: float = setting(0.0, low=0)
    ssim: float = setting(0.0, low=0)
    perceptual: float = setting(0.0, low=0)


@dataclasses.dataclass(frozen=True)
class PairedWeights(PictureWeights):
    """The same, and the weight of a discriminator's term; 0 trains none."""

    adversarial: float = setting(0.0, low=0)


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
    zoom: float = setting(0.0, low=0, high=0.9)
    exposure: float = setting(0.0, low=0)
    mixup: float = setting(0.0, low=0)
    mixup_after: int = setting(0, low=0)
    darken: str = ""
    options: tuple[str, ...] = ()
    freeze: tuple[str, ...] = ()
    start_from: str = ""
    features: str = "imagenet"
    weights: PairedWeights = dataclasses.field(default_factory=PairedWeights)


@dataclasses.dataclass(frozen=True)
class MultitaskWeights(PictureWeights):
    """Weights of the picture's loss terms, and of the classes' cross-entropy."""

    segmentation: float = setting(1.0, above=0)


@dataclasses.dataclass(frozen=True)
class MultitaskConfig(TrainConfig):
    """A network of two tasks, `resnet_unet`: brightens a dark picture and says every pixel's class.

    Attributes:
      images: a folder of bright pictures, or of TFRecords with semantic masks (tools/create_coco_tf_record.py).
      masks: a folder of maps of class ids, PNG, by the pictures' names, also looked for beside `images`; empty with
        TFRecords.
      dark: a folder of dark pictures by the same names, likewise; empty: they are made by `darken`, unless the
        TFRecords have them.
      val_images: the same for validation; also looked for beside `images`; empty: the training pictures.
      val_masks: likewise.
      val_dark: likewise.
      image_ids: a text file, an id a line: only these pictures, by file name without ending (TFRecords: by source id);
        numbers match with and without leading zeros.
      darken: a recipe of `tfllv darken`, drawn anew in each epoch.
      num_classes: ids are 0 to num_classes - 1.
      void: further ids that mean "no class"; 255 always does.
      crop_from: with `image_fit=crop`, side of the random square that is brought to `image_size`, drawn from here; 0:
        `image_size`.
      crop_to: to here, log-evenly; 0: `crop_from`.
      flip: mirrors half of the examples, left to right.
      tint: multiplies each colour by e^u, u drawn evenly from [-tint, tint]; 0 leaves it.
      tasks: both, or one alone, for comparison.
      shared_blocks: of the decoder, 0 to 5.
      width: channels of the decoder's finest block.
      encoder: its weights: none, imagenet, or a .pt, .pth, .weights.h5 or .h5 file.
      frozen_stages: stages of the encoder that are not trained, from the input, 0 to 5.
      balance: how rare classes are weighted up; see `tfllv.losses.segmentation.balance`.
      weighting: of the tasks: by `weights`, or learned on top of them.
      start_from: weights to start from: a file, or another run's folder.
      features: as `PairedConfig`.
      weights: of the loss terms.
    """

    model: str = "resnet_unet"
    images: str = "data/images"
    masks: str = ""
    dark: str = ""
    val_images: str = ""
    val_masks: str = ""
    val_dark: str = ""
    image_ids: str = ""
    darken: str = "statistical"
    num_classes: int = setting(91, low=1, high=255)
    void: tuple[str, ...] = ()
    crop_from: int = setting(0, low=0)
    crop_to: int = setting(0, low=0)
    flip: bool = True
    tint: float = setting(0.0, low=0, high=1)
    tasks: Literal["both", "enhancement", "segmentation"] = "both"
    shared_blocks: int = setting(3, low=0, high=5)
    width: int = setting(16, low=1)
    encoder: str = "none"
    frozen_stages: int = setting(0, low=0, high=5)
    balance: Literal["none", "median", "log"] = "log"
    weighting: Literal["fixed", "uncertainty"] = "fixed"
    start_from: str = ""
    features: str = "imagenet"
    weights: MultitaskWeights = dataclasses.field(default_factory=MultitaskWeights)
    term_gradients: bool = True


@dataclasses.dataclass(frozen=True)
class DiffusionConfig(TrainConfig):
    """Conditional diffusion models trained on pairs. Options of the published code have its names; see `ALIASES`.

    Attributes:
      pairs: a csv with columns low and high (paths relative to it), or a folder with LOL's layout; or empty.
      input_image_dir: instead of `pairs`, the folder of bright pictures.
      conditional_image_dir: and the folder of dark ones; names pair them, and what has no bright one is left out.
      annotation: a JSON file that lists the pictures to take under `filename`, or COCO's; empty: all.
      val_pairs: as `pairs`, for validation; also looked for beside `pairs`; empty: the training pairs.
      crop_from: side of the random square that is shrunk to `image_size`, drawn from here; 0: `image_size`.
      crop_to: to here, log-evenly; 0: `crop_from`.
      flip: mirrors half of the examples, left to right.
      exposure: scales the dark picture by e^u, u drawn evenly from [-exposure, exposure / 2]; 0 leaves it.
      cast: colours both pictures as one light would: red by e^u and blue by e^-u, u mostly small, in [-cast, cast].
      options: of the network, as `n_feat=16` or `prediction=v`.
      start_from: weights to start from: a file, or another run's folder.
      weighting: of the times in the loss: `uniform`, or `min_snr`, which bounds the weight of the easy ones.
      min_snr_gamma: that bound.
      input_perturbation: deviation of low frequencies, against the noise's, that the network is to look through.
    """

    model: str = "diffusion_unet"
    lr: float = setting(1e-4, above=0)
    weight_decay: float = setting(0.0, low=0)
    grad_clip_norm: float = setting(1.0, low=0)
    schedule: Literal["constant", "cosine", "step"] = "step"
    ema_decay: float = setting(0.9999, low=0, high=0.999999)
    num_epochs: int = setting(10_000, low=1)
    train_batch_size: int = setting(64, low=1)
    image_size: int = setting(128, low=8)
    sample_every: int = setting(50, low=0)
    pairs: str = ""
    input_image_dir: str = ""
    conditional_image_dir: str = ""
    annotation: str = ""
    val_pairs: str = ""
    crop_from: int = setting(0, low=0)
    crop_to: int = setting(0, low=0)
    flip: bool = False
    exposure: float = setting(0.0, low=0)
    cast: float = setting(0.0, low=0, high=2)
    options: tuple[str, ...] = ()
    start_from: str = ""
    weighting: Literal["uniform", "min_snr"] = "uniform"
    min_snr_gamma: float = setting(5.0, above=0)
    input_perturbation: float = setting(0.0, low=0)


EXPERIMENTS: dict[str, type[TrainConfig]] = {
    "zero_reference": ZeroReferenceConfig,
    "paired": PairedConfig,
    "multitask": MultitaskConfig,
    "diffusion": DiffusionConfig,
}

# Other names that files and overrides may use for a field: those of the published code.
ALIASES: dict[type, dict[str, str]] = {
    DiffusionConfig: {
        "batch_size": "train_batch_size",
        "checkpoint_dir": "snapshots_folder",
        "checkpoint_epoch": "snapshot_iter",
        "epoch": "num_epochs",
        "learning_rate": "lr",
        "weight_path": "start_from",
    }
}
