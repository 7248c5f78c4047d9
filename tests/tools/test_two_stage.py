"""The whole two-stage path on real COCO pictures, at smoke size: every step runs and leaves what the next one needs."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]


@pytest.mark.slow
def test_darken_restore_detect_and_compare(shared, tmp_path):
    pytest.importorskip("object_detection", reason="the TF Object Detection API is not installed")
    coco = shared / "data/coco"
    settings = {
        "TRAIN_IMAGES": coco / "images",
        "TRAIN_ANNOTATIONS": coco / "annotations/instances_2images.json",
        "VAL_IMAGES": coco / "images",
        "VAL_ANNOTATIONS": coco / "annotations/instances_2images.json",
        "OUT": tmp_path / "out",
        "DIFFUSION": "configs/diffusion_small_sice.yaml",
        "DIFFUSION_SET": "pairs= val_pairs= image_size=32 crop_from=0 crop_to=0 batch_size=2 epoch=1 sample_every=0",
        "SAMPLER": "steps=2",
        "PIPELINE": "pipelines/mask_rcnn_resnet50_fpn_256x256_smoke.config",
        # The pipeline is for pictures of a few boxes; one of these has 28.
        "DETECTOR_SET": "train_input_reader.max_number_of_boxes=32 eval_input_reader[0].max_number_of_boxes=32",
        "STEPS_NORMAL": "2",
        "STEPS_RESTORED": "2",
        "COUNT": "2",
        "PYTHON": sys.executable,
    }
    environment = os.environ | {key: str(value) for key, value in settings.items()}
    done = subprocess.run(
        ["bash", "pipelines/two_stage.sh"], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=3000
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    report = json.loads((tmp_path / "out/compared/comparison.json").read_text())
    assert list(report["versions"]) == ["normal", "dark", "restored"]
    for version in report["versions"].values():
        assert version["pictures"] == 2
        assert set(version["metrics"]) == {"bbox", "segm"}
    page = (tmp_path / "out/compared/index.html").read_text()
    assert page.count("<img") == 8  # truth and three versions of two pictures
    # The second training began from the first one's weights, and says so.
    assert "variables loaded; start fresh: none" in done.stdout + done.stderr
