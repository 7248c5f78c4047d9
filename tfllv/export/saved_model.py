"""SavedModels in TF Serving's layout: `DIR/<version>/`, compared with their network before they get that name."""

from __future__ import annotations

import contextlib
import os
import pathlib
import secrets
import shutil
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from tfllv import contracts
from tfllv.export import product, serving_files, signatures, verify
from tfllv.inputs import image_files
from tfllv.runner import split

# Networks that work on the whole picture take their time; warm-up has the same types in any size.
_WARM_UP_SIDE = 96
_HALF_LEVEL = 0.5 / 255  # what rounding to 8 bits may change


def export(
    what: product.Product, folder: str | os.PathLike[str], *, max_pixels: int | None = None
) -> tuple[pathlib.Path, str]:
    """Writes a network as the next version in `folder`.

    Args:
      what: the network.
      folder: of the model; made where it is absent. TF Serving watches it.
      max_pixels: the most pixels of an encoded picture, part of the graph; None: by the network's memory.

    Returns:
      The folder of the new version, and how well it agrees, in words.

    Raises:
      verify.MismatchError: if the written file does not give what the network gives; nothing is left then.
      OSError: if it cannot be written; nothing is left then.
    """
    root = pathlib.Path(folder)
    max_pixels = what.max_pixels if max_pixels is None else max_pixels
    module = signatures.Signatures(what.step, what.owner, max_pixels=max_pixels, estimate=what.estimate)
    functions = module.signatures()
    encoded = sorted(functions[signatures.BYTES].structured_outputs)
    outputs = sorted(functions[signatures.FLOATS].structured_outputs)
    with writing(root) as temporary:
        tf.saved_model.save(module, str(temporary), signatures=functions)
        write_warm_up(temporary, root)
        facts = {"name": what.name, "kind": what.kind, "precision": what.precision, "outputs": outputs}
        serving_files.write_facts(temporary, {**facts, "max_pixels": max_pixels, **what.facts})
        agreement = check(what, temporary)
        version = publish(temporary, root)
    weights = f"{what.precision}, {what.model.count_params():,} parameters"
    estimated = sorted(functions[split.ESTIMATE].structured_outputs) if what.estimate is not None else None
    write_texts(
        version,
        weights=weights,
        agreement=agreement,
        outputs=outputs,
        encoded=encoded,
        estimated=estimated,
        max_pixels=max_pixels,
    )
    return version, agreement


def write_warm_up(temporary: pathlib.Path, root: pathlib.Path) -> None:
    """Writes the warm-up requests of the model in `root`: small photographs."""
    pixels = np.ascontiguousarray(
        image_files.read_image(verify.SAMPLES / "coffee.jpg").pixels[:_WARM_UP_SIDE, :_WARM_UP_SIDE]
    )
    pictures = [image_files.encode_image(suffix, pixels) for suffix in (".jpg", ".png")]
    serving_files.write_warm_up(temporary, root.resolve().name, pictures)


def write_texts(version: pathlib.Path, **facts: Any) -> None:
    """Writes what stands beside the versions: TF Serving's configuration, and a README of `serving_files.readme`."""
    root = version.parent
    name = root.resolve().name
    texts = {**serving_files.config_files(name), "README.md": ""}
    texts["README.md"] = serving_files.readme(name=name, number=int(version.name), **facts)
    for file, text in texts.items():
        image_files.write_bytes(root / file, text.encode())


@contextlib.contextmanager
def writing(root: pathlib.Path) -> Iterator[pathlib.Path]:
    """Gives a folder to write to inside `root`, under a name that TF Serving passes over, and removes what is left."""
    made = not root.exists()
    root.mkdir(parents=True, exist_ok=True)
    temporary = root / f".tfllv-{secrets.token_hex(8)}.tmp"
    try:
        yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        if made:
            with contextlib.suppress(OSError):  # not empty: it was published
                root.rmdir()


def publish(temporary: pathlib.Path, root: pathlib.Path) -> pathlib.Path:
    """Flushes a folder to disk and gives it the next free version number in `root`, in one step."""
    for path in temporary.rglob("*"):
        if path.is_file():
            with path.open("rb+") as file:
                os.fsync(file.fileno())
        else:
            contracts.fsync_folder(path)
    contracts.fsync_folder(temporary)
    while True:
        taken = [int(path.name) for path in root.iterdir() if path.name.isdecimal()]
        version = root / str(max(taken, default=0) + 1)
        try:
            temporary.rename(version)
        except OSError:
            if version.exists():  # another export took the number meanwhile
                continue
            raise
        contracts.fsync_folder(root)
        return version


def _check_halves(what: product.Product, estimate: Any) -> None:
    """Compares the network with its two halves, on a photograph that they make smaller."""
    between: Any = split.from_facts(what.facts[split.FACTS])
    picture = verify.photographs()[0][None]
    found = estimate(tf.constant(between.shrink(picture)))
    bent = between.bend(picture, {key: value.numpy() for key, value in found.items()})
    whole = what.step(tf.constant(picture))[contracts.IMAGE].numpy()
    off = int(np.abs(bent.astype(int) - whole).max())
    if off > 1:
        raise verify.MismatchError(
            f"{what.name} `{split.ESTIMATE}`: {off} levels off; expected 1. Nothing was published."
        )


def check(what: product.Product, folder: pathlib.Path) -> str:
    """Compares a SavedModel with its network, in a fresh process, on photographs; returns the agreement in words.

    Raises:
      verify.MismatchError: if it is not good enough.
    """
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    verify.check_size(what.name, size, what.model.count_params(), what.precision)
    crops = verify.crops()
    bytes_in = [image_files.encode_image(".png", contracts.to_uint8(crop)) for crop in crops]
    floats_in = [crop[None] for crop in crops]
    calls: list[dict[str, Any]] = [
        {"signature": signatures.FLOATS, "inputs": floats_in},
        {"signature": signatures.BYTES, "inputs": [bytes_in]},
    ]
    if what.estimate is not None:
        calls.append({"signature": split.ESTIMATE, "inputs": floats_in})
    floats, (strings,), *estimates = verify.run_fresh(
        [{"kind": "saved_model", "path": folder, **call} for call in calls]
    )
    agreement = verify.compare_outputs(what, floats, crops, what.precision)
    expected = [what.reference(crop) for crop in crops]
    if what.estimate is not None:
        right = [what.estimate(tf.constant(image)) for image in floats_in]
        for key in sorted(right[0]):
            pairs = [(one[key], truth[key].numpy()) for one, truth in zip(estimates[0], right, strict=True)]
            verify.compare_all(f"{what.name} `{split.ESTIMATE}` `{key}`", pairs, what.precision)
        _check_halves(what, what.estimate)
    if f"{signatures.IMAGE_BYTES}-0" in strings:
        found = [strings[f"{signatures.IMAGE_BYTES}-{index}"] / np.float32(255) for index in range(len(crops))]
        pairs = [(one, truth[contracts.IMAGE]) for one, truth in zip(found, expected, strict=True)]
        name = f"{what.name} `{signatures.IMAGE_BYTES}`"
        agreement += f", {verify.compare_all(name, pairs, what.precision, rounding=_HALF_LEVEL)}"
    if f"{signatures.LABELS_BYTES}-0" in strings:
        found = [strings[f"{signatures.LABELS_BYTES}-{index}"][..., 0] for index in range(len(crops))]
        pairs = [(one, truth[signatures.LABELS]) for one, truth in zip(found, expected, strict=True)]
        agreement += f", {verify.compare_all(f'{what.name} `{signatures.LABELS_BYTES}`', pairs, what.precision)}"
    return agreement
