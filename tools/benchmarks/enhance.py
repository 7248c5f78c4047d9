"""The curve networks and `tfllv enhance`: the inner call, the graph, a folder of photographs, one very large one."""

from __future__ import annotations

import pathlib
import subprocess
import sys
import tempfile

import numpy as np

from benchmarks import timing


def _image(height: int, width: int) -> np.ndarray:
    return (np.random.default_rng(0).random((1, height, width, 3), dtype=np.float32) * 0.3).astype(np.float32)


def inner_call() -> list[dict]:
    """What `tfllv enhance` calls, against the bare exported signature and `keras.Model.predict`, 600x400.

    Every side goes from a NumPy picture to a NumPy picture.
    """
    import tensorflow as tf

    from tfllv import enhancers

    enhancer = enhancers.get("sgz")
    with tempfile.TemporaryDirectory() as folder:
        signature = enhancer.graph.signature("enhance", tf.float32)
        tf.saved_model.save(enhancer.graph, folder, signatures=signature)
        bare = tf.saved_model.load(folder).signatures["serving_default"]
    image = _image(400, 600)
    strip = tf.constant(60_000)

    def call_bare() -> np.ndarray:
        (result,) = bare(images=tf.constant(image), strip_pixels=strip).values()
        return result.numpy()

    sides = {
        "exported signature": call_bare,
        "enhancer": lambda: enhancer(image),
        "keras predict": lambda: enhancer.model.predict(image, verbose=0),
    }
    return timing.rows(timing.interleave(sides, rounds=41, warm_up=5), against="exported signature")


def sgz() -> list[dict]:
    """The inference graph, and where it is installed OpenVINO, against the plain Keras graph of the same weights.

    Also the PSNR to that graph. TensorFlow's begin at a tensor, `arrays` and OpenVINO's at an array; all end at one.
    """
    import importlib.util

    import tensorflow as tf

    from tfllv import enhancers

    found = []
    for scale, height, width in ((1, 400, 600), (12, 900, 1200)):
        made = {kind: enhancers.get("sgz", scale_factor=scale, precision=kind) for kind in ("float32", "bfloat16")}
        image = _image(height, width)
        model, tensor = made["float32"].model, tf.constant(image)
        plain = tf.function(lambda x, m=model: m(x)["image"], input_signature=[tf.TensorSpec([None, None, None, 3])])
        sides = {"plain Keras": lambda f=plain, x=tensor: f(x).numpy()}
        sides |= {kind: (lambda e=e, x=tensor: e.graph.enhance(x).numpy()) for kind, e in made.items()}
        if scale > 1:  # what `tfllv enhance` calls
            made |= {f"{kind}, arrays": made[kind] for kind in ("float32", "bfloat16")}
            sides |= {
                f"{kind}, arrays": lambda e=made[kind], x=image: e.graph.enhance_array(x)
                for kind in ("float32", "bfloat16")
            }
        for kind in ("float32", "bfloat16") if importlib.util.find_spec("openvino") else ():
            quick = enhancers.get("sgz", scale_factor=scale, precision=kind, runtime="openvino")
            made[f"openvino {kind}"] = quick
            sides[f"openvino {kind}"] = lambda e=quick, x=image: e.graph.enhance_array(x)
        seconds = timing.interleave(sides, rounds=21)
        exact = np.clip(plain(tensor), 0, 1)
        for row in timing.rows(seconds, against="plain Keras"):
            name = row.pop("side")
            result = exact if name == "plain Keras" else made[name](image)
            error = float(np.mean(np.square(result - exact, dtype=np.float64)))
            decibels = float("inf") if error == 0 else -10 * np.log10(error)
            size = {"size": f"{width}x{height}", "scale": scale, "graph": name}
            found.append({**size, **row, "frames_per_s": 1e3 / row["median_ms"], "psnr_to_plain_db": decibels})
    return found


def levels() -> list[dict]:
    """A picture of 8 bits in memory, 1200x800: what `tfllv enhance` calls against the networks' TensorFlow graphs."""
    import tensorflow as tf

    from tfllv import enhancers

    image = (_image(800, 1200) * 255).astype(np.uint8)
    tensor, found = tf.constant(image), []
    for name in ("sgz", "mirnet_small"):
        enhancer = enhancers.get(name)
        sides = {
            "graph": lambda e=enhancer: e.graph.enhance(tensor).numpy(),
            "enhancer": lambda e=enhancer: e(image),
        }
        rows = timing.rows(timing.interleave(sides, rounds=15), against="graph")
        apart = np.abs(sides["graph"]().astype(int) - sides["enhancer"]()).max()
        found += [{"method": name, **row, "levels_apart": int(apart)} for row in rows]
    return found


def png() -> list[dict]:
    """Writing a PNG of 1200x800: as here, and by OpenCV with what it takes by itself."""
    import cv2

    from tfllv.inputs import image_files, png

    path = pathlib.Path(image_files.__file__).parents[1] / "samples" / "temple.jpg"
    image = np.ascontiguousarray(cv2.resize(image_files.read_image(path).pixels, (1200, 800)))
    sides: dict = {"OpenCV": lambda: cv2.imencode(".png", image)[1], "here": lambda: png.encode(image)}
    rows = timing.rows(timing.interleave(sides, rounds=21), against="OpenCV")
    return [{**row, "bytes": len(sides[row["side"]]())} for row in rows]


def folder() -> list[dict]:
    """JPEG in, JPEG out over 200 photographs: the share of the time that is decode, network and encode."""
    import cv2

    from tfllv import enhancers
    from tfllv.runner import files

    samples = sorted((pathlib.Path(files.__file__).parents[1] / "samples").glob("*.jpg"))
    pictures = [cv2.resize(cv2.imread(str(path)), (1200, 900)) for path in samples]
    found = []
    with tempfile.TemporaryDirectory() as work:
        source = pathlib.Path(work) / "in"
        source.mkdir()
        for number in range(200):
            dark = (pictures[number % len(pictures)] * 0.25).astype(np.uint8)
            cv2.imwrite(str(source / f"{number:03}.jpg"), dark)
        enhancer = enhancers.get("sgz")
        enhancer.tiled(pictures[0])
        for repeat in range(5):
            summary = files.enhance_files([str(source)], pathlib.Path(work) / f"out{repeat}", enhancer, progress=False)
            row = {"run": repeat, "images_per_s": summary.images / summary.seconds, "wall_s": summary.seconds}
            # Wall time in which at least one picture is being decoded, enhanced or encoded.
            found.append({**row, "useful_share": summary.picture_seconds / summary.seconds, **summary.busy})
    return [{**sorted(found, key=lambda row: row["useful_share"])[2], "run": "median"}, *found]


def large_photo() -> list[dict]:
    """Peak memory of `tfllv enhance` on one 6000x4000 JPEG, every method in a process of its own."""
    import cv2

    from tfllv import enhancers

    found = []
    with tempfile.TemporaryDirectory() as work:
        source = pathlib.Path(work) / "large.jpg"
        noise = np.random.default_rng(0).integers(0, 90, (500, 750, 3)).astype(np.uint8)
        cv2.imwrite(str(source), cv2.resize(noise, (6000, 4000)))
        for name in enhancers.METHODS:
            if enhancers.needs_weights(name):
                continue
            command = ["-m", "tfllv", "enhance", str(source), "-o", f"{work}/{name}", "--method", name]
            run = subprocess.run([sys.executable, "-c", _PEAK, *command], capture_output=True, text=True, check=True)
            seconds, peak = run.stdout.split()[-2:]
            found.append({"method": name, "seconds": float(seconds), "peak_MB": float(peak) / 1024})
    return found


# Runs a command and prints its seconds and its own peak memory: a fresh process, so that no earlier child counts.
_PEAK = """
import resource, subprocess, sys, time
start = time.perf_counter()
subprocess.run([sys.executable, *sys.argv[1:]], check=True)
print(time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""
