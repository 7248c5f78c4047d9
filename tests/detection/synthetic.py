"""Generated ground truth and detections: perfect, shifted, missing, false."""

from __future__ import annotations

import dataclasses

import numpy as np

from tfllv.detection import results, truth

NAMES = {1: "Bicycle", 2: "Boat", 5: "Car"}


def make_truth(images=12, *, seed=0, masks=False, crowd=0.0, labels=None, objects=4):
    """Pictures of random objects, of all of ExDark's lights and both places in turn."""
    rng = np.random.default_rng(seed)
    labels = NAMES if labels is None else labels
    made = []
    for index in range(images):
        width, height = int(rng.integers(100, 400)), int(rng.integers(100, 400))
        count = int(rng.integers(0, objects + 1)) if index else objects
        corner = rng.random((count, 2)) * 0.6 * (width, height)
        size = (0.05 + 0.35 * rng.random((count, 2))) * (width, height)
        boxes = np.round(np.concatenate([corner, size], axis=1), 2)
        runs = tuple(results.encode_mask(ellipse(box, width, height)) for box in boxes) if masks else None
        image = truth.TruthImage(
            file=f"2015_{index:05d}.jpg",
            width=width,
            height=height,
            boxes=boxes,
            classes=rng.choice(list(labels), count),
            areas=boxes[:, 2] * boxes[:, 3] * (0.785 if masks else 1),
            crowd=rng.random(count) < crowd,
            masks=runs,
            lighting=index % 10 + 1,
            indoor=bool(index // 10 % 2),
        )
        made.append(image)
    return truth.Truth(labels, tuple(made))


def ellipse(box, width, height):
    left, top, wide, high = box
    y, x = np.ogrid[:height, :width]
    return ((x - left - wide / 2) / max(wide / 2, 1)) ** 2 + ((y - top - high / 2) / max(high / 2, 1)) ** 2 <= 1


def detect(made, *, seed=1, shift=0.0, miss=0.0, false=0.0, masks=False):
    """Detections of the objects, shifted by up to `shift` of their size, some missing, some in between wrong."""
    rng = np.random.default_rng(seed)
    found = []
    for image in made.images:
        keep = rng.random(len(image.boxes)) >= miss
        boxes = image.boxes[keep].copy()
        boxes[:, :2] += rng.uniform(-shift, shift, (len(boxes), 2)) * boxes[:, 2:]
        extra = int(rng.poisson(false))
        corner = rng.random((extra, 2)) * 0.5 * (image.width, image.height)
        size = (0.05 + 0.4 * rng.random((extra, 2))) * (image.width, image.height)
        boxes = np.concatenate([boxes.reshape(-1, 4), np.concatenate([corner, size], axis=1)])
        classes = np.concatenate([image.classes[keep], rng.choice(list(made.label_map), extra)])
        scores = rng.permutation(np.linspace(0.05, 0.99, len(boxes))) + 1e-3 * rng.random(len(boxes))
        scores = np.clip(scores, 0, 1)
        runs = tuple(results.encode_mask(ellipse(box, image.width, image.height)) for box in boxes) if masks else None
        corners = from_pixels(boxes, image.width, image.height)
        found.append(results.ImageDetections(image.file, image.width, image.height, corners, classes, scores, runs))
    return results.Detections(made.label_map, tuple(found), "synthetic")


def from_pixels(boxes, width, height):
    """[N, 4] (left, top, width, height) in pixels to normalised (ymin, xmin, ymax, xmax)."""
    left, top, wide, high = boxes.T
    return np.stack([top / height, left / width, (top + high) / height, (left + wide) / width], axis=1)


def only(made, images):
    """The part of the ground truth that `images` [N] bool chooses."""
    return dataclasses.replace(made, images=tuple(i for i, kept in zip(made.images, images, strict=True) if kept))
