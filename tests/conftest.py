"""What every test shares: paths, the optional data folder, and quiet TensorFlow."""

from __future__ import annotations

import os
import pathlib

import numpy as np
import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")

ROOT = pathlib.Path(__file__).parent.parent
SHARED = pathlib.Path(os.environ.get("TFLLV_SHARED", ROOT.parent / "shared"))


@pytest.fixture(scope="session")
def shared() -> pathlib.Path:
    """The folder of real research data beside the checkout; tests that need it skip where it is absent."""
    if not (SHARED / "data").is_dir():
        pytest.skip(f"the research data folder {SHARED.name}/ is not beside this checkout")
    return SHARED


@pytest.fixture(scope="session")
def goldens() -> pathlib.Path:
    """The goldens that travel with the project."""
    return ROOT / "tests" / "goldens"


@pytest.fixture
def rng() -> np.random.Generator:
    """A seeded generator, fresh for each test."""
    return np.random.default_rng(0)
