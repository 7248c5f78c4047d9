"""The demo: its recipe, its samples, and (slow) the whole of it."""

from __future__ import annotations

import importlib.util
import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from tfllv import enhancers, models

ROOT = pathlib.Path(__file__).parents[2]
SAMPLES = sorted((ROOT / "tfllv" / "samples").glob("*.jpg"))


@pytest.fixture(scope="module")
def demo():
    spec = importlib.util.spec_from_file_location("demo", ROOT / "tools" / "demo.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_darkening_is_dark_seeded_and_keeps_size_and_type(demo):
    image = np.asarray(Image.open(SAMPLES[0]).convert("RGB"))
    dark = demo.darken(image, seed=3)
    assert dark.shape == image.shape and dark.dtype == np.uint8
    assert dark.mean() < 0.5 * image.mean()
    np.testing.assert_array_equal(dark, demo.darken(image, seed=3))
    assert (dark != demo.darken(image, seed=4)).any()


def test_darkening_follows_its_formula_within_its_noise(demo):
    grey = np.full((64, 64, 3), 128, np.uint8)
    rng = np.random.default_rng(7)
    gamma, gain = rng.uniform(1.5, 2.5), rng.uniform(0.3, 0.5)
    assert demo.darken(grey, seed=7).mean() / 255 == pytest.approx(gain * (128 / 255) ** gamma, abs=0.001)


def test_pairs_have_the_same_names_and_sizes(demo, tmp_path):
    dark, truth = demo.write_pairs(tmp_path)
    names = sorted(each.name for each in dark.iterdir())
    assert names == sorted(each.name for each in truth.iterdir()) and len(names) == len(SAMPLES)
    for name in names:
        with Image.open(dark / name) as low, Image.open(truth / name) as high:
            assert low.size == high.size


def test_the_demo_shows_every_classical_method_and_each_network_with_weights(demo):
    names = demo.choose_methods()
    assert {name for name, method in enhancers.METHODS.items() if method.kind == "classical"} <= set(names)
    assert set(names) & set(models.MODELS) == {
        name for name in models.MODELS if name in enhancers.METHODS and models.shipped_weights(name)
    }


def test_every_sample_is_small_and_its_licence_is_recorded():
    text = (ROOT / "tfllv" / "samples" / "LICENSES.md").read_text(encoding="utf-8")
    assert len(SAMPLES) >= 5
    for path in SAMPLES:
        assert path.stat().st_size <= 200_000
        row = next(line for line in text.splitlines() if line.startswith(f"| `{path.name}`"))
        assert any(licence in row for licence in ("public domain", "CC0", "CC BY 2.0"))


@pytest.mark.slow
def test_the_whole_demo_runs_in_two_minutes_and_its_best_method_is_much_better_than_the_input(tmp_path):
    command = [sys.executable, str(ROOT / "tools" / "demo.py"), "--output", str(tmp_path / "demo")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    page = tmp_path / "demo" / "index.html"
    assert f"Open {page}" in done.stdout and page.stat().st_size < 12_000_000
    rows = json.loads((tmp_path / "demo" / "compare.json").read_text(encoding="utf-8"))["methods"]
    scores = {row["name"]: row["psnr"] for row in rows}
    dark = scores.pop("input")
    assert max(score for score in scores.values() if score) > dark + 6
