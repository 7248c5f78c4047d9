"""LPIPS by its authors' package. What needs the package skips where it is absent."""

from __future__ import annotations

import importlib.util
import sys
import types

import numpy as np
import pytest
from PIL import Image

from tfllv import metrics
from tfllv.metrics import perceptual

WITHOUT = importlib.util.find_spec("lpips") is None


@pytest.fixture(autouse=True)
def fresh():
    perceptual._network.cache_clear()
    yield
    perceptual._network.cache_clear()


@pytest.mark.skipif(WITHOUT, reason="the extra lpips is not installed")
@pytest.mark.parametrize(("name", "value"), [("I04", 0.2572), ("I06", 0.0508), ("I19", 0.4253)])
def test_the_original_implementations_values_are_reached(shared, name, value):
    image, truth = (
        np.asarray(Image.open(shared / "data/calibration" / folder / f"{name}.bmp").convert("RGB"))
        for folder in ("dist_dir", "ref_dir")
    )
    assert metrics.measure("lpips", image, truth) == pytest.approx(value, abs=5e-4)


def test_a_package_that_is_absent_is_named_with_the_way_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "lpips", None)
    with pytest.raises(ImportError, match=r"pip install 'tfllv\[lpips\]'"):
        metrics.lpips(np.zeros((64, 64, 3)), np.zeros((64, 64, 3)))


def test_weights_that_cannot_be_had_are_one_line(monkeypatch):
    def unreachable(**options):
        raise OSError("no route")

    monkeypatch.setitem(sys.modules, "lpips", types.SimpleNamespace(LPIPS=unreachable))
    with pytest.raises(OSError, match=r"AlexNet weights, which could not be had: no route\."):
        metrics.lpips(np.zeros((64, 64, 3)), np.zeros((64, 64, 3)))


def test_wrong_images_are_refused_before_the_package_is_loaded():
    with pytest.raises(ValueError, match="at least 64x64"):
        metrics.lpips(np.zeros((63, 80, 3)), np.zeros((63, 80, 3)))
    with pytest.raises(ValueError, match="must have one shape"):
        metrics.lpips(np.zeros((64, 64, 3)), np.zeros((65, 64, 3)))


def test_the_table_says_whether_it_is_installed():
    assert metrics.installed("psnr")
    assert metrics.installed("lpips") != WITHOUT
    assert not metrics.installed("no such metric")
