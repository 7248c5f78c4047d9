"""How much an encoder's features tell about what is in a picture: linear probes, one protocol for every encoder.

A probe is multinomial logistic regression on frozen features (Alain and Bengio 2016, https://arxiv.org/abs/1610.01644):
features standardised by the training part, the strength of the penalty chosen on a part that is neither trained on nor
scored. `official` trains on `train`, chooses on `val` and scores `test`; `five_fold` scores every picture once, in five
parts of equal class shares, the next part choosing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import scipy.optimize

from tfllv.evaluate import bootstrap
from tfllv.evaluate.labelled import LabelledSet

PROTOCOLS = ("official", "five_fold")
FOLDS = 5
# From strong to weak: each solution starts the next.
PENALTIES = (10.0, 1.0, 0.1, 0.01, 0.001)
_MOST_STEPS = 200


@dataclasses.dataclass(frozen=True)
class Part:
    """Indices of the pictures that one probe is trained on, chosen by, and scored on."""

    train: np.ndarray
    choose: np.ndarray
    score: np.ndarray


def parts(data: LabelledSet, protocol: str, *, seed: int = 0) -> list[Part]:
    """Returns the parts of a protocol.

    Raises:
      ValueError: if the protocol is unknown, or the set has no such parts.
    """
    if protocol not in PROTOCOLS:
        raise ValueError(f"`protocol` must be one of {', '.join(PROTOCOLS)}. Received: protocol='{protocol}'.")
    if protocol == "official":
        found = [np.flatnonzero(data.splits == split) for split in ("train", "val", "test")] if len(data.splits) else []
        if not found or not all(len(indices) for indices in found):
            have = {
                str(name): int(count) for name, count in zip(*np.unique(data.splits, return_counts=True), strict=True)
            }
            raise ValueError(
                "`protocol` official needs pictures of all three splits. Received: "
                f"{have or 'a set without splits'}; use five_fold."
            )
        return [Part(*found)]
    fold = assign_folds(data.labels, data.groups, seed=seed)
    return [
        Part(
            np.flatnonzero((fold != k) & (fold != (k + 1) % FOLDS)),
            np.flatnonzero(fold == (k + 1) % FOLDS),
            np.flatnonzero(fold == k),
        )
        for k in range(FOLDS)
    ]


def assign_folds(labels: np.ndarray, groups: np.ndarray | None, *, seed: int = 0) -> np.ndarray:
    """Returns each picture's fold, [N] from 0 to 4: equal shares of each class, groups never divided.

    Groups go, large ones first, to the fold that has least of their classes.

    Raises:
      ValueError: if there are fewer than five groups (pictures).
    """
    groups = np.arange(len(labels)) if groups is None else np.unique(groups, return_inverse=True)[1]
    count = int(groups.max()) + 1
    if count < FOLDS:
        raise ValueError(f"`protocol` five_fold needs {FOLDS} pictures or groups at least. Received: {count}.")
    table = np.zeros((count, int(labels.max()) + 1))
    np.add.at(table, (groups, labels), 1)
    table /= table.sum(0).clip(1)
    order = np.random.default_rng(seed).permutation(count)
    order = order[np.argsort(-table[order].sum(1), kind="stable")]
    filled = np.zeros((FOLDS, table.shape[1]))
    fold_of = np.zeros(count, np.int64)
    for group in order:
        fold_of[group] = np.argmin(((filled + table[group]) ** 2).sum(1) - (filled**2).sum(1))
        filled[fold_of[group]] += table[group]
    return fold_of[groups]


def fit(features: np.ndarray, labels: np.ndarray, classes: int, penalty: float, start: np.ndarray | None) -> np.ndarray:
    """Returns the weights [D + 1, C] of multinomial logistic regression; the last row is the bias, not penalised.

    Minimises mean cross-entropy + penalty / 2 |W|^2 by L-BFGS.

    Args:
      features: [N, D] float32, standardised.
      labels: [N] class numbers.
      classes: C.
      penalty: > 0.
      start: [D + 1, C] to start from; None: zeros.
    """
    targets = np.eye(classes, dtype=np.float32)[labels]
    shape = (features.shape[1] + 1, classes)

    def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
        weights = flat.reshape(shape)
        scores = features @ weights[:-1].astype(np.float32) + weights[-1].astype(np.float32)
        scores -= scores.max(1, keepdims=True)
        exponent = np.exp(scores)
        total = exponent.sum(1, keepdims=True)
        loss = float((np.log(total[:, 0]) - (scores * targets).sum(1)).mean(dtype=np.float64))
        error = (exponent / total - targets) / np.float32(len(labels))
        gradient = np.concatenate([features.T @ error, error.sum(0, keepdims=True)]).astype(np.float64)
        gradient[:-1] += penalty * weights[:-1]
        return loss + penalty / 2 * float((weights[:-1] ** 2).sum()), gradient.ravel()

    first = np.zeros(shape) if start is None else start
    found = scipy.optimize.minimize(
        objective, first.ravel(), jac=True, method="L-BFGS-B", options={"maxiter": _MOST_STEPS}
    )
    return found.x.reshape(shape)


def predict(features: np.ndarray, data: LabelledSet, divided: Sequence[Part]) -> tuple[np.ndarray, list[float]]:
    """Trains a probe a part; returns the scores [N, C] (NaN where a picture is not scored) and the chosen penalties."""
    classes = len(data.classes)
    scores = np.full((len(data), classes), np.nan, np.float32)
    chosen = []
    for part in divided:
        scaled = standardise(features, part.train)
        best, weights = (-1.0, 0.0, np.zeros(0)), None
        for penalty in PENALTIES:
            weights = fit(scaled[part.train], data.labels[part.train], classes, penalty, weights)
            right = _apply(scaled[part.choose], weights).argmax(1) == data.labels[part.choose]
            if right.mean() > best[0]:
                best = (float(right.mean()), penalty, weights)
        chosen.append(best[1])
        scores[part.score] = _apply(scaled[part.score], best[2])
    return scores, chosen


def standardise(features: np.ndarray, train: np.ndarray) -> np.ndarray:
    """Returns [N, min(D, T)] features of mean 0 and deviation 1 over the T training pictures.

    Fewer pictures than features span a smaller space, in which the penalised solution lies: the features are turned
    into it, which changes no result and makes a probe cheaper.
    """
    mean, deviation = features[train].mean(0), features[train].std(0)
    scaled = (features - mean) / np.where(deviation > 1e-6, deviation, 1).astype(np.float32)
    if len(train) < scaled.shape[1]:
        axes = np.linalg.svd(scaled[train], full_matrices=False)[2]
        scaled = scaled @ axes.T
    return scaled


def _apply(features: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return (features @ weights[:-1].astype(np.float32) + weights[-1].astype(np.float32)).astype(np.float32)


def report(scores: Mapping[str, np.ndarray], data: LabelledSet, *, seed: int = 0) -> dict[str, Any]:
    """Scores the encoders, and compares each with the first on the same pictures.

    Args:
      scores: encoder -> [N, C]; a row of NaN is not scored. All score the same pictures.
      data: the set.
      seed: of the resamples.

    Returns:
      A dict for JSON: `encoders`: name -> `top1`, `top5`, each {value, interval, images}, `lighting` (type -> the same
      of top-1) and `classes`; `paired`: a row for each encoder but the first: `difference` in top-1, `interval`, `p`.
    """
    hits = {name: _hits(table, data.labels) for name, table in scores.items()}
    first = next(iter(hits))
    encoders = {}
    for name, (top1, top5) in hits.items():
        encoders[name] = {
            "top1": _share(top1, data, seed=seed),
            "top5": _share(top5, data, seed=seed) if len(data.classes) > 5 else None,
            "lighting": dict(_by(top1, data.lighting, data, seed)),
            "classes": dict(_by(top1, np.array(data.classes)[data.labels], data, seed)),
        }
    paired = []
    for name in list(hits)[1:]:
        scored = ~np.isnan(hits[name][0])
        difference = (hits[name][0] - hits[first][0])[scored]
        groups = None if data.groups is None else data.groups[scored]
        paired.append(
            {
                "encoder": name,
                "against": first,
                "difference": float(difference.mean()),
                "interval": bootstrap.mean_interval(difference, seed=seed, groups=groups),
                "p": bootstrap.sign_flip_p(difference, seed=seed, groups=groups),
            }
        )
    return {"encoders": encoders, "paired": paired}


def _hits(scores: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Whether the class is the first, and among the first five, for each picture; NaN where it is not scored."""
    known = np.isfinite(scores).all(1)
    # Ties count against: the rank is the number of other classes with at least the score.
    own = scores[np.arange(len(labels)), labels][:, None]
    rank = (scores >= own).sum(1) - 1
    return tuple(np.where(known, rank < k, np.nan).astype(np.float64) for k in (1, 5))  # type: ignore[return-value]


def _share(hits: np.ndarray, data: LabelledSet, *, seed: int, where: np.ndarray | None = None) -> dict[str, Any]:
    chosen = ~np.isnan(hits) if where is None else ~np.isnan(hits) & where
    groups = None if data.groups is None else data.groups[chosen]
    interval = bootstrap.mean_interval(hits[chosen], seed=seed, groups=groups)
    return {"value": float(hits[chosen].mean()), "interval": interval, "images": int(chosen.sum())}


def _by(hits: np.ndarray, names: np.ndarray, data: LabelledSet, seed: int) -> Iterator[tuple[str, dict[str, Any]]]:
    for name in dict.fromkeys(names[~np.isnan(hits)].tolist()):
        if name:
            yield name, _share(hits, data, seed=seed, where=names == name)
