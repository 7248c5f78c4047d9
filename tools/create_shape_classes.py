#!/usr/bin/env python3
"""Draws dark, noisy pictures of one shape each, for `tfllv evaluate probe`: colour and brightness tell nothing.

    python tools/create_shape_classes.py --output shapes

Ten shapes on patterned grounds: disc, ring, square, triangle, star, cross, crescent, bars, checks and dots. Figure and
ground have hues of their own, drawn alike for all classes; the figure is as often the brighter as the darker; place,
angle and the share of the picture that a figure covers are drawn alike, too. Then the picture is darkened by a recipe
of `tfllv darken`, which draws the exposure and adds the noise. So a class is told by form alone. Writes PNG files, a
folder a class.
"""

from __future__ import annotations

import argparse
import colorsys
import os
import pathlib
import sys
from collections.abc import Callable

import cv2
import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

_FINE = 3  # a figure is drawn at so many times the size, then shrunk by the mean: smooth borders
AREA = (0.10, 0.25)  # of the picture that a figure covers
CONTRAST = (0.2, 0.45)  # between the lightness of figure and ground, of 1


def _polygon(corners: int, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    angles = 2 * np.pi * np.arange(corners) / corners
    return np.max([np.cos(a) * x + np.sin(a) * y for a in angles], axis=0) < np.cos(np.pi / corners)


def _star(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    # Five points: the radius of the border falls evenly from a tip to the notch beside it.
    turn = np.abs(((np.arctan2(y, x) * 5 / (2 * np.pi)) % 1) - 0.5) * 2
    return np.hypot(x, y) < 0.4 + 0.6 * turn


def _cross(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    x, y = np.abs(x), np.abs(y)
    return (np.maximum(x, y) < 1) & (np.minimum(x, y) < 0.32)


def _square(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.maximum(np.abs(x), np.abs(y)) < 1


def _dots(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    # Nine discs in a square of three by three.
    u, v = ((value + 1) * 1.5 % 1 - 0.5 for value in (x, y))
    return _square(x, y) & (np.hypot(u, v) < 0.36)


# Name -> the points of a figure that is about 2 across.
SHAPES: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "disc": lambda x, y: np.hypot(x, y) < 1,
    "ring": lambda x, y: (np.hypot(x, y) < 1) & (np.hypot(x, y) > 0.6),
    "square": _square,
    "triangle": lambda x, y: _polygon(3, x, y),
    "star": _star,
    "cross": _cross,
    "crescent": lambda x, y: (np.hypot(x, y) < 1) & (np.hypot(x - 0.5, y) > 0.8),
    "bars": lambda x, y: _square(x, y) & ((x + 1) * 1.25 % 1 < 0.5),
    "checks": lambda x, y: _square(x, y) & ((np.floor((x + 1) * 2) + np.floor((y + 1) * 2)) % 2 == 0),
    "dots": _dots,
}


def main(argv: list[str] | None = None) -> int:
    """Makes the set; returns 0, or 2 for wrong input."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", required=True, help="a folder that is not there yet")
    parser.add_argument(
        "--recipe", default="statistical", help="of `tfllv darken`; none leaves the pictures as they are"
    )
    parser.add_argument("--size", type=int, default=96, help="side of a picture in pixels")
    parser.add_argument("--per_class", type=int, default=200, help="pictures a class")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    try:
        create(args)
    except (ValueError, OSError) as error:
        print(f"create_shape_classes.py: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    print(f"{args.per_class * len(SHAPES)} pictures of {len(SHAPES)} classes in '{args.output}'")
    return 0


def create(args: argparse.Namespace) -> None:
    """Writes the set."""
    from tfllv import contracts
    from tfllv.inputs import image_files
    from tfllv.ops import darken

    output = pathlib.Path(args.output)
    if output.exists():
        raise FileExistsError(f"`output` must not be there yet. Received: '{output}'.")
    for name, low in (("size", 32), ("per_class", 1)):
        if getattr(args, name) < low:
            raise ValueError(f"`{name}` must be at least {low}. Received: {getattr(args, name)}.")
    if args.recipe != "none":
        darken.check_options(args.recipe, {})
    for label, shape in enumerate(SHAPES):
        folder = output / shape
        folder.mkdir(parents=True)
        for number in range(args.per_class):
            picture = draw(shape, args.size, np.random.default_rng((args.seed, label, number)))
            if args.recipe != "none":
                seed = (args.seed, label * args.per_class + number)
                picture = np.asarray(darken.darken(picture, args.recipe, seed=seed))
            image_files.write_image(folder / f"{number:04d}.png", contracts.to_uint8(picture))


def draw(shape: str, size: int, rng: np.random.Generator) -> np.ndarray:
    """Draws one picture: [size, size, 3] float32 in [0, 1], well lit."""
    figure = _figure(shape, size, rng)[..., None]
    contrast = rng.uniform(*CONTRAST)
    middle = rng.uniform(0.1 + contrast / 2, 0.9 - contrast / 2)
    sign = rng.choice([-1, 1])
    inner, outer = (_surface(size, middle + side * sign * contrast / 2, rng) for side in (1, -1))
    return np.clip(figure * inner + (1 - figure) * outer, 0, 1).astype(np.float32)


def _figure(shape: str, size: int, rng: np.random.Generator) -> np.ndarray:
    """Returns how much of each pixel the figure covers, [size, size]; it lies within the picture."""
    side = size * _FINE
    # A figure's own area decides its scale, so that what it covers is drawn alike for all.
    grid = np.linspace(-1.5, 1.5, 301)
    own = SHAPES[shape](*np.meshgrid(grid, grid))
    reach = np.hypot(*np.meshgrid(grid, grid))[own].max()
    scale = np.sqrt(rng.uniform(*AREA) / (own.mean() * 9)) * size
    scale = min(scale, 0.49 * size / reach)
    centre = rng.uniform(scale * reach, size - scale * reach, 2)
    angle = rng.uniform(0, 2 * np.pi)
    place = (np.arange(side) + 0.5) / _FINE
    x, y = np.meshgrid((place - centre[0]) / scale, (place - centre[1]) / scale)
    covered = SHAPES[shape](np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y - np.sin(angle) * x)
    return cv2.resize(covered.astype(np.float32), (size, size), interpolation=cv2.INTER_AREA)


def _surface(size: int, lightness: float, rng: np.random.Generator) -> np.ndarray:
    """Returns a surface of one hue under uneven light, with blotches: [size, size, 3] about a lightness."""
    hue, saturation = rng.uniform(0, 1), rng.uniform(0, 0.6)
    color = np.array(colorsys.hls_to_rgb(hue, lightness, saturation))
    cells = int(rng.integers(4, 13))
    blotches = cv2.resize(rng.normal(0, 0.05, (cells, cells)), (size, size), interpolation=cv2.INTER_CUBIC)
    slope = rng.normal(0, 0.08, 2)
    place = np.linspace(-1, 1, size)
    light = 1 + slope[0] * place[None] + slope[1] * place[:, None]
    return (color + blotches[..., None]) * light[..., None]


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.exit(main())
