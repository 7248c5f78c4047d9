"""A random ResNet-50 state dict by torchvision's names, from NumPy alone; as a program, PyTorch's features of it.

python tests/models/torchvision_state.py OUT.npz writes tests/goldens/resnet50_features.npz; it needs torch and
torchvision. Weights, pictures and the places that are kept are drawn from seeds, so the file holds results only.
"""

from __future__ import annotations

import sys

import numpy as np

BLOCKS = (3, 4, 6, 3)
SIZES = ((224, 224), (235, 317))
STATE_SEED, IMAGE_SEED, PLACE_SEED = 50, 51, 52
PLACES = 400  # of each feature map


def torch_shapes(blocks=BLOCKS):
    """Names and shapes of torchvision's resnet50 state dict, less `fc` and `num_batches_tracked`."""
    shapes = {}

    def conv_and_norm(conv, norm, out, inside, kernel):
        shapes[f"{conv}.weight"] = (out, inside, kernel, kernel)
        shapes.update({f"{norm}.{part}": (out,) for part in ("weight", "bias", "running_mean", "running_var")})

    conv_and_norm("conv1", "bn1", 64, 3, 7)
    inside = 64
    for stage, count in enumerate(blocks, start=1):
        width = 32 * 2**stage
        for block in range(count):
            prefix = f"layer{stage}.{block}"
            conv_and_norm(f"{prefix}.conv1", f"{prefix}.bn1", width, inside, 1)
            conv_and_norm(f"{prefix}.conv2", f"{prefix}.bn2", width, width, 3)
            conv_and_norm(f"{prefix}.conv3", f"{prefix}.bn3", 4 * width, width, 1)
            if block == 0:
                conv_and_norm(f"{prefix}.downsample.0", f"{prefix}.downsample.1", 4 * width, inside, 1)
            inside = 4 * width
    return shapes


def random_state(rng):
    """Random tensors of that state dict, such that values keep their size through the layers."""
    state = {}
    for name, shape in torch_shapes().items():
        if len(shape) == 4:
            state[name] = rng.normal(0, np.sqrt(2 / np.prod(shape[1:])), shape).astype(np.float32)
        else:
            spread = rng.uniform(-0.3, 0.3, shape).astype(np.float32)
            state[name] = spread if name.endswith(("bias", "mean")) else spread + 1
        if name.endswith("bn3.weight"):
            state[name] *= np.float32(0.3)  # what a block adds is small, as in trained networks
    return state


def picture(size):
    """The picture of one size: [1, H, W, 3] float32, as if normalised."""
    return np.random.default_rng((IMAGE_SEED, *size)).normal(0, 1, (1, *size, 3)).astype(np.float32)


def kept(features):
    """The values of a map, [1, H, W, C], that the golden keeps: [PLACES]."""
    places = np.random.default_rng(PLACE_SEED).integers(features.size, size=PLACES)
    return features.reshape(-1)[places]


def main():
    """Writes the golden."""
    import torch

    # A torchvision built for GPUs cannot load its detection operators on a CPU's torch; ResNet needs none of them.
    torch.library.register_fake = lambda *words, **options: lambda function: function
    import torchvision

    network = torchvision.models.resnet50(weights=None)
    state = {name: torch.from_numpy(array) for name, array in random_state(np.random.default_rng(STATE_SEED)).items()}
    missing, unexpected = network.load_state_dict(state, strict=False)
    assert not unexpected and all(name.startswith("fc.") or name.endswith("num_batches_tracked") for name in missing)
    network.eval()
    found = {}
    for size in SIZES:
        with torch.no_grad():
            x = torch.from_numpy(picture(size).transpose(0, 3, 1, 2).copy())
            x = network.relu(network.bn1(network.conv1(x)))
            maps = {"stem": x}
            x = network.maxpool(x)
            for stage in (1, 2, 3, 4):
                x = maps[f"c{stage + 1}"] = getattr(network, f"layer{stage}")(x)
        for name, value in maps.items():
            features = value.numpy().transpose(0, 2, 3, 1)
            found[f"{size[0]}x{size[1]}/{name}"] = kept(features)
            found[f"{size[0]}x{size[1]}/{name}/shape"] = np.array(features.shape)
    np.savez_compressed(sys.argv[1], **found)
    print(f"torch {torch.__version__}, torchvision {torchvision.__version__}, numpy {np.__version__}")


if __name__ == "__main__":
    main()
