"""Every registered network on the engine: one device, two replicas and two processes learn the same."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import socket

import cv2
import numpy as np
import pytest

from tfllv import models

SCRIPT = pathlib.Path(__file__).with_name("registered.py")
STEPS, BATCH = 20, 4


@dataclasses.dataclass(frozen=True)
class Row:
    """How a network is trained here.

    Attributes:
      experiment: a key of `tfllv.train.experiments.EXPERIMENTS`.
      settings: lines of its configuration.
      small: why it is not the published size, where it is not.
      floatx: what it computes in.
    """

    experiment: str
    settings: str = ""
    small: str = ""
    floatx: str = "float32"


# As in the published configurations: the losses of the paper, clipping, decay and averages where they have them.
ROWS = {
    "diffusion_unet": Row("diffusion", "image_size: 16"),
    "diffusion_unet_small": Row("diffusion", "image_size: 16"),
    "mirnet": Row("paired", "image_size: 16"),
    "mirnet_small": Row("paired", "weights: {charbonnier: 0, log_mse: 0.02}\nzoom: 0.4\nexposure: 0.5"),
    "pix2pix": Row(
        "paired",
        "weights: {charbonnier: 0, l1: 100, adversarial: 1}\nbeta_1: 0.5\noptions: [n_feat=8, depth=4]",
        small="its eight levels need 256 pixels, and 54 million parameters minutes",
    ),
    # Fifty layers normalised by the statistics of four small pictures are chaotic: in float32, rounding grows to the
    # size of the moving variances in 20 steps (1 to 5 of 16). The computation is compared, so it has more digits here.
    "resnet_unet": Row(
        "multitask",
        "num_classes: 4\nwidth: 1\nterm_gradients: false\nimage_size: 64\nimage_fit: resize\nwarmup_steps: 10\n"
        "schedule: cosine\nweight_decay: 1e-4\ndecoupled_weight_decay: true\ngrad_clip_norm: 1.0",
        floatx="float64",
    ),
    "sgz": Row("zero_reference"),
    "zero_dce": Row("zero_reference"),
    "zero_dce_pp": Row("zero_reference"),
}
DATA = {
    "zero_reference": "lowlight_images_path: {0}/low",
    "paired": "pairs: {0}/pairs.csv",
    "diffusion": "pairs: {0}/pairs.csv\nsample_every: 0",
    "multitask": "images: {0}/high\nmasks: {0}/mask\ndark: {0}/low",
}
COMMON = f"""
image_size: 32
image_fit: crop
train_batch_size: {BATCH}
num_steps: {STEPS}
display_iter: 1
ema_decay: 0.9
"""


def test_every_network_has_a_row_and_every_row_a_network():
    assert set(ROWS) == set(models.MODELS)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Eight dark and bright pictures of 40x36 with maps of classes: as folders and as a csv."""
    folder, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    lines = ["low,high"]
    for kind in ("low", "high", "mask"):
        (folder / kind).mkdir()
    for index in range(8):
        name = f"{index}.png"
        high = cv2.resize(rng.integers(30, 250, (5, 5, 3)).astype(np.uint8), (40, 36), interpolation=cv2.INTER_CUBIC)
        low = rng.poisson(60 * (high / 255.0) ** 2).clip(0, 255)
        cv2.imwrite(str(folder / "high" / name), high)
        cv2.imwrite(str(folder / "low" / name), low.astype(np.uint8))
        cv2.imwrite(str(folder / "mask" / name), (high[..., 0] // 64).astype(np.uint8))
        lines.append(f"low/{name},high/{name}")
    (folder / "pairs.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


@pytest.fixture
def train(forks, data, tmp_path):
    """Trains a network in every way at once or one after the other: train(name, way, ...) -> list of states."""

    def run(name, words, *environments):
        row = ROWS[name]
        fields = {}
        for block in (COMMON, DATA[row.experiment].format(data), row.settings):
            fields |= dict(line.split(": ", 1) for line in block.splitlines() if line)
        fields |= {"experiment": row.experiment, "model": name}
        config = tmp_path / "config.yaml"
        config.write_text("".join(f"{key}: {value}\n" for key, value in fields.items()), encoding="utf-8")
        folder = tmp_path / "-".join(["run", *words])
        folder.mkdir()
        processes = []
        for index, environment in enumerate(environments or ({},)):
            out = folder / f"{index}.npz"
            arguments = (config, folder / "run", out, "--floatx", row.floatx, *words)
            processes.append(forks.start(folder / f"{index}.log", *arguments, script=SCRIPT, **environment))
        codes = [forks.wait(process) for process in processes]
        assert not any(codes), "".join(path.read_text()[-2000:] for path in sorted(folder.glob("*.log")))
        return [dict(np.load(folder / f"{index}.npz")) for index in range(len(codes))]

    return run


def free_ports(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def apart(one, other):
    """The largest difference of any variable of network and objective, and how far the first has gone at most."""
    assert one.keys() == other.keys()
    kept = [name for name in one if not name.startswith("before/")]
    floats = [name for name in kept if one[name].dtype.kind == "f"]
    difference = max(float(np.abs(one[name] - other[name]).max()) for name in floats)
    return difference, max(float(np.abs(one[name] - one[f"before/{name}"]).max()) for name in floats)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(ROWS))
def test_replicas_and_processes_take_the_steps_of_one_device(train, name):
    (plain,) = train(name, [])
    (two,) = train(name, ["--strategy", "mirrored", "--replicas", "2"])
    workers = [f"127.0.0.1:{port}" for port in free_ports(2)]
    tasks = [{"cluster": {"worker": workers}, "task": {"type": "worker", "index": index}} for index in range(2)]
    both = train(name, ["--strategy", "multi_worker"], *({"TF_CONFIG": json.dumps(task)} for task in tasks))
    found = {way: apart(plain, other) for way, other in {"replicas": two, "first": both[0], "second": both[1]}.items()}
    print(f"\n{name}: {found}")
    for way, (difference, moved) in found.items():
        assert moved > 1e-3 and difference <= 1e-5, (way, difference, moved)
