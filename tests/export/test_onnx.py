from __future__ import annotations

import importlib.util

import numpy as np
import pytest

from tfllv.export import onnx, verify

MISSING = [name for name in ("tf2onnx", "onnxruntime") if importlib.util.find_spec(name) is None]


@pytest.mark.skipif(bool(MISSING), reason=f"{' and '.join(MISSING)} not installed (extra `[onnx]`)")
def test_one_file_takes_any_batch_and_size(sgz, tmp_path, rng):
    import onnxruntime

    path, agreement = onnx.export(sgz, tmp_path)
    assert path.name == "sgz.onnx" and "`image` within" in agreement
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    for shape in [(1, 40, 30, 3), (2, 17, 33, 3)]:
        images = (rng.random(shape) * 0.4).astype(np.float32)
        (found,) = session.run(["image"], {"low": images})
        expected = [sgz.reference(image)["image"] for image in images]
        np.testing.assert_allclose(found, expected, rtol=0, atol=verify.FLOAT_TOLERANCE)


@pytest.mark.skipif(not MISSING, reason="the extra is installed")
def test_without_the_extra_one_line_says_what_to_install(sgz, tmp_path):
    with pytest.raises(ValueError, match=r"ONNX needs \w+, which is not installed; call: pip install 'tfllv\[onnx\]'"):
        onnx.export(sgz, tmp_path)
    assert not list(tmp_path.iterdir())
