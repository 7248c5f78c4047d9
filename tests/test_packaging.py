"""The wheel carries what the package needs at run time, and works away from the checkout."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys
import zipfile

import pytest

ROOT = pathlib.Path(__file__).parent.parent

NEEDED = [
    "tfllv/cli.py",
    "tfllv/metrics/niqe_pristine.npz",
    "tfllv/weights/sgz.weights.h5",
    "tfllv/weights/sgz.md",
    "tfllv/weights/mirnet_small.weights.h5",
    "tfllv/weights/mirnet_small.md",
    "tfllv/weights/diffusion_unet_small.weights.h5",
    "tfllv/weights/diffusion_unet_small.md",
]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    # From a copy of what git tracks, so that neither leftovers in the checkout help nor the build leaves any there.
    files = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True
    ).stdout.split("\n")
    for name in filter(None, files):
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(folder), "."]
    subprocess.run(command, cwd=source, check=True, capture_output=True, text=True)
    return next(folder.glob("tfllv-*.whl"))


def test_the_wheel_carries_weights_pages_and_every_module(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    assert set(NEEDED) <= names
    sources = {str(p.relative_to(ROOT)) for p in (ROOT / "tfllv").rglob("*.py")}
    assert sources <= names
    assert any(name.endswith(".html") for name in names)
    page = {str(p.relative_to(ROOT)) for p in (ROOT / "tfllv" / "serve" / "static").iterdir()}
    assert page <= names and "tfllv/serve/static/index.html" in page
    assert sum(name.startswith("tfllv/samples/") and name.endswith(".jpg") for name in names) >= 5
    assert not any(name.startswith(("tests/", "tools/")) for name in names)


def test_the_wheel_runs_in_an_empty_environment(wheel, tmp_path):
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "empty")], check=True)
    python = tmp_path / "empty" / "bin" / "python"
    site = subprocess.run(
        [python, "-c", "import site; print(site.getsitepackages()[0])"], capture_output=True, text=True, check=True
    ).stdout.strip()
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", site, str(wheel)]
    subprocess.run(command, check=True, capture_output=True)
    listing = "import tfllv, pathlib; [print(p) for p in pathlib.Path(tfllv.__file__).parent.rglob('*')]"
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    run = subprocess.run(
        [python, "-c", listing], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert str(ROOT) not in run.stdout
    assert "sgz.weights.h5" in run.stdout
    version = subprocess.run(
        [python, "-c", "import tfllv; print(tfllv.__version__)"], cwd=tmp_path, env=environment, capture_output=True
    )
    assert version.returncode == 0
    metadata = zipfile.ZipFile(wheel).read(next(n for n in zipfile.ZipFile(wheel).namelist() if n.endswith("METADATA")))
    for extra in ("gpu", "detection", "serve", "beam", "wandb", "onnx", "openvino", "dev"):
        assert f"Provides-Extra: {extra}".encode() in metadata
