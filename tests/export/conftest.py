"""One export of SGZ, made and compared once, for all tests here; and encoded pictures of every kind."""

from __future__ import annotations

import importlib.util
import pathlib

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).parents[2]


def module(path):
    spec = importlib.util.spec_from_file_location(f"tests_export_{path.stem}", path)
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


@pytest.fixture(scope="session")
def encoded():
    """The module `encoded.py`: pictures as files, good and bad."""
    return module(pathlib.Path(__file__).with_name("encoded.py"))


@pytest.fixture(scope="session")
def server():
    """The module `tools/serve_saved_model.py`."""
    return module(ROOT / "tools" / "serve_saved_model.py")


@pytest.fixture(scope="session")
def compare_exports():
    """The module `tools/compare_exports.py`."""
    return module(ROOT / "tools" / "compare_exports.py")


@pytest.fixture(scope="session")
def sgz():
    """The shipped SGZ, on its way out."""
    from tfllv.export import product

    return product.load("sgz")


@pytest.fixture(scope="session")
def exported(sgz, tmp_path_factory):
    """A model's folder with version 1 of SGZ, and what was said of it."""
    from tfllv.export import saved_model

    folder = tmp_path_factory.mktemp("serving") / "night"
    version, agreement = saved_model.export(sgz, folder, max_pixels=3_000_000)
    assert version == folder / "1"
    return folder, agreement


@pytest.fixture(scope="session")
def loaded(exported):
    """Its SavedModel, loaded."""
    import tensorflow as tf

    return tf.saved_model.load(str(exported[0] / "1"))


@pytest.fixture
def in_process(monkeypatch):
    """Runs exported files in this process, which is quicker where what is shown is not that a stranger can run them."""
    from tfllv.export import fresh_process, verify

    def run(calls):
        found = []
        for call in calls:
            step = getattr(fresh_process, call["kind"])({**call, "path": str(call["path"])})
            found.append([{key: np.asarray(value) for key, value in step(given).items()} for given in call["inputs"]])
        return found

    monkeypatch.setattr(verify, "run_fresh", run)
