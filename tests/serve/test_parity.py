"""The same photo by the command line, by the service with the bundled method, and by the service with its export."""

from __future__ import annotations

import base64
import io
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from tfllv.inputs import image_files
from tfllv.serve import app, registry, service

ROOT = pathlib.Path(__file__).parents[2]
PHOTO = ROOT / "tfllv" / "samples" / "astronaut.jpg"


@pytest.mark.slow
def test_the_same_photo_by_every_way_is_within_one_level(tmp_path):
    for words in (
        ["export", "sgz", "-o", str(tmp_path / "sgz")],
        ["enhance", str(PHOTO), "-o", str(tmp_path / "cli.png")],
    ):
        subprocess.run([sys.executable, "-m", "tfllv", *words], cwd=ROOT, check=True, capture_output=True, timeout=600)
    wanted = image_files.read_image(tmp_path / "cli.png").pixels
    for folders, methods in (({}, ["sgz"]), ({"sgz": tmp_path / "sgz"}, [])):
        models = registry.Registry(folders, methods)
        models.load()
        client = app.create_app(service.Service(models)).test_client()
        form = client.post("/enhance", data={"image": (io.BytesIO(PHOTO.read_bytes()), "a.jpg")}, buffered=True)
        row = {"b64": base64.b64encode(PHOTO.read_bytes()).decode()}
        content = {"signature_name": "serving_bytes", "instances": [row]}
        predicted = client.post("/v1/models/sgz:predict", json=content, buffered=True).json["predictions"][0]["b64"]
        models.close()
        for data in (form.data, base64.b64decode(predicted)):
            difference = np.abs(image_files.read_image(data).pixels.astype(int) - wanted)
            assert difference.max() <= 1
