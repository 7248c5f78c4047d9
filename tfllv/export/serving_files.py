"""What TF Serving reads beside a SavedModel: warm-up requests, a model list, a batching file; and a README for people.

Formats: `tensorflow_serving/config/model_server_config.proto`, `batching_parameters.proto` and `PredictionLog` of
TensorFlow Serving, written in the text format that its options take.
"""

from __future__ import annotations

import json
import pathlib
import textwrap
from typing import Any

import numpy as np
import tensorflow as tf

from tfllv import __version__
from tfllv.export import signatures

WARM_UP = pathlib.Path("assets.extra") / "tf_serving_warmup_requests"
FACTS = "tfllv.json"

_MODELS = """# For tensorflow_model_server --model_config_file; the folder is where the README mounts it.
model_config_list {{
  config {{
    name: "{name}"
    base_path: "/models/{name}"
    model_platform: "tensorflow"
  }}
}}
"""
_BATCHING = """\
# For tensorflow_model_server --enable_batching --batching_parameters_file: requests that wait are run together.
# Pictures of `serving_default` join only where their sides are equal, and one bad file of `serving_bytes` fails all
# requests that it was put together with: use it where the clients are your own.
max_batch_size { value: 8 }
batch_timeout_micros { value: 2000 }
num_batch_threads { value: 2 }
max_enqueued_batches { value: 64 }
"""
_README = """# {name}, exported by tfllv {version}

{origin}

- {floats}
- {strings}
{estimate}
## Serve

In this folder:

    docker run -p 8500:8500 -p 8501:8501 -v "$PWD:/models/{name}" tensorflow/serving:{serving} \\
        --model_config_file=/models/{name}/models.config

    (printf '{{"signature_name": "serving_bytes", "instances": [{{"b64": "'; base64 -w0 photo.jpg; printf '"}}]}}') |
        curl --data-binary @- -o answer.json http://localhost:8501/v1/models/{name}:predict

    python -c "import base64, json; answer = json.load(open('answer.json'))['predictions'][0]; \\
        {read}"

A new version goes into the next number, and the server picks it up. `batching.config` is for `--enable_batching
--batching_parameters_file=/models/{name}/batching.config`; read it first.

## What was shown, and what was not

The tests of tfllv show for this layout, without TF Serving's binary, that `saved_model_cli show` reads every signature,
that requests made with `tensorflow-serving-api` are answered over gRPC and REST by a small server of its own
(`tools/serve_saved_model.py`), and that the warm-up requests replay. The `docker run` line follows TF Serving's
documentation and was not run.
"""
_ORIGIN = (
    "`{number}/` is a TensorFlow SavedModel in TF Serving's layout, {weights}. Before it appeared here, a fresh "
    "process without tfllv loaded it and compared it with the original on photographs: {agreement}."
)
_FLOATS = "`serving_default` takes `image`, float32 [B, H, W, 3] in [0, 1], any B, H and W; it gives {outputs}."
_STRINGS = (
    "`serving_bytes` takes `image_bytes`, JPEG or PNG files [B], each of its own size and of at most {max_pixels:,} "
    "pixels; it gives {encoded}. The header of a file is checked before it is decoded; what is larger, cut short or of "
    "another type is refused with INVALID_ARGUMENT. Pictures are turned upright by their Exif block{kept}."
)
_ESTIMATE = (
    "`estimate` takes `small`, float32 [B, h, w, 3] in [0, 1], a small copy of the picture as `tfllv.json` says under "
    "`split`; it gives {estimated}: the network alone, for a client that does the rest to all pixels by itself, as "
    "`tfllv serve` does by `tfllv.runner.split`."
)


def write_warm_up(folder: pathlib.Path, name: str, pictures: list[bytes]) -> int:
    """Writes the requests that TF Serving replays before it calls a version ready; returns how many.

    Args:
      folder: of the SavedModel.
      name: of the model.
      pictures: encoded, one request for `serving_bytes` each, and one for `serving_default`.

    Raises:
      ValueError: if `tensorflow-serving-api` is not installed.
    """
    try:
        from tensorflow_serving.apis import model_pb2, predict_pb2, prediction_log_pb2
    except ImportError:
        raise ValueError(
            "warm-up requests need tensorflow-serving-api, which is not installed; call: pip install 'tfllv[export]'"
        ) from None
    image = tf.image.convert_image_dtype(tf.io.decode_image(pictures[0], channels=3)[None], tf.float32)
    inputs = [(signatures.FLOATS, "image", image)]
    inputs += [(signatures.BYTES, signatures.IMAGE_BYTES, tf.constant([picture])) for picture in pictures]
    path = folder / WARM_UP
    path.parent.mkdir(parents=True, exist_ok=True)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for signature, key, value in inputs:
            request = predict_pb2.PredictRequest(
                model_spec=model_pb2.ModelSpec(name=name, signature_name=signature),
                inputs={key: tf.make_tensor_proto(np.asarray(value))},
            )
            log = prediction_log_pb2.PredictionLog(predict_log=prediction_log_pb2.PredictLog(request=request))
            writer.write(log.SerializeToString())
    return len(inputs)


def write_facts(folder: pathlib.Path, facts: dict[str, Any]) -> None:
    """Writes `tfllv.json`, which says what a SavedModel is."""
    content = {key: value for key, value in facts.items() if value is not None} | {"tfllv": __version__}
    (folder / FACTS).write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def config_files(name: str) -> dict[str, str]:
    """The files beside the versions, by name, but for the README."""
    return {"models.config": _MODELS.format(name=name), "batching.config": _BATCHING}


def readme(
    *,
    name: str,
    number: int,
    weights: str,
    agreement: str,
    outputs: list[str],
    encoded: list[str],
    max_pixels: int,
    estimated: list[str] | None = None,
) -> str:
    """The README of a model's folder.

    Args:
      name: of the model.
      number: of the version.
      weights: precision and size, in words.
      agreement: with the network, in words.
      outputs: of `serving_default`.
      encoded: outputs of `serving_bytes`.
      max_pixels: the most pixels of an encoded picture.
      estimated: outputs of `estimate`; None: there is no such signature.
    """
    # REST gives the value itself where there is one output, and a dict of values where there are several.
    key = next((key for key in encoded if key.endswith("_bytes")), None)
    value = "answer" if len(encoded) == 1 else f"answer[{key!r}]"
    read = f"open('bright.png', 'wb').write(base64.b64decode({value}['b64']))" if key else "print(answer)"
    names = ", ".join(f"`{key}`" + (", PNG files [B]" if key.endswith("_bytes") else "") for key in encoded)
    kept = "; 16 bits and alpha are kept" if signatures.IMAGE_BYTES in encoded else ""
    paragraphs = {
        "origin": _ORIGIN.format(number=number, weights=weights, agreement=agreement),
        "floats": _FLOATS.format(outputs=_quoted(outputs)),
        "strings": _STRINGS.format(encoded=names, max_pixels=max_pixels, kept=kept),
    }
    wrapped = {
        key: textwrap.fill(text, 118, subsequent_indent="" if key == "origin" else "  ", break_long_words=False)
        for key, text in paragraphs.items()
    }
    estimate = ""
    if estimated is not None:
        text = f"- {_ESTIMATE.format(estimated=_quoted(estimated))}"
        estimate = textwrap.fill(text, 120, subsequent_indent="  ", break_long_words=False) + "\n"
    serving = ".".join(tf.__version__.split(".")[:2]) + ".0"
    return _README.format(name=name, version=__version__, serving=serving, read=read, estimate=estimate, **wrapped)


def _quoted(names: list[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)
