"""Training does what was asked for, exactly: steps, schedule, resuming, starting points, batch-norm statistics.

TFOD runs under legacy Keras, so `train_with_tfod.py` trains in a process of its own, once for all tests here.
"""

from __future__ import annotations

import importlib.util
import json
import math
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import time

import pytest

from tfllv.detection import compat, pipeline, progress

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parents[1]
SCENES = importlib.util.spec_from_file_location("tests_detection_scenes", HERE / "scenes.py")
scenes = importlib.util.module_from_spec(SCENES)
SCENES.loader.exec_module(scenes)
needs_tfod = pytest.mark.skipif(
    not compat._is_found("object_detection"), reason="the TF Object Detection API is not installed"
)


@pytest.fixture(scope="session")
def found(tmp_path_factory):
    """What `train_with_tfod.py` saw."""
    folder = tmp_path_factory.mktemp("training")
    command = [sys.executable, str(HERE / "train_with_tfod.py"), str(folder)]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-3000:]
    return json.loads((folder / "found.json").read_text()) | {"folder": str(folder)}


@needs_tfod
def test_it_runs_exactly_the_steps_asked_for_and_traces_the_step_once(found):
    assert len(found["losses"]) == 3 and list(found["points"]) == ["1", "2", "3"]
    assert found["traces"] == 1
    assert found["losses"] == [found["points"][step]["Loss/total_loss"] for step in "123"]


@needs_tfod
def test_checkpoints_and_the_configuration_as_run_are_in_the_folder(found):
    # One after step 2 by checkpoint_every_n, one at the end.
    assert [name for name in found["files"] if name.endswith(".index")] == ["ckpt-1.index", "ckpt-2.index"]
    assert "pipeline.config" in found["files"] and found["same_config"]


@needs_tfod
def test_the_same_command_goes_on_with_weights_and_optimizer_where_it_stopped(found):
    assert found["restored"] and found["slots"] and found["step"] == 5
    assert found["second"][0] == f"going on from step 3 of {found['folder']}/run/ckpt-2"
    assert any(line.startswith("step 5/5") for line in found["second"])
    assert "step 5 of 5 is done already" in found["third"][1]


@needs_tfod
def test_the_learning_rate_follows_the_schedule(found):
    for step in (1, 2, 3):  # warm-up from 0.001 to 0.004 in 10 steps
        expected = 0.001 + (0.004 - 0.001) * step / 10
        assert found["points"][str(step)]["learning_rate"] == pytest.approx(expected, rel=1e-5)


@needs_tfod
def test_the_tracker_gets_losses_speed_and_the_first_pictures(found):
    assert {"Loss/classification_loss", "Loss/localization_loss", "steps_per_sec"} < set(found["points"]["3"])
    assert found["shown"] == [["train_input_images", [3, 64, 64, 3], 0.0, 1.0]]


@needs_tfod
def test_a_loss_that_is_no_number_ends_the_run_and_nothing_is_saved(found):
    assert "is nan in step 6. Nothing was saved" in found["nan"] and found["nothing_saved"]


@needs_tfod
def test_the_refresh_gives_the_mean_statistics_of_the_batches_and_leaves_the_rest(found):
    refresh = found["refresh"]
    assert refresh["layers"] > 20 and refresh["differ"] and refresh["error"] < 1e-4
    assert refresh["momenta"] == [0.97] and refresh["weights_kept"]


@needs_tfod
def test_the_configured_decay_reaches_every_layer_of_efficientnet(found):
    decays = found["decays"]
    assert decays["before"] == [0.99] and decays["changed"] > 40 and decays["after"] == [0.9]


@needs_tfod
def test_a_checkpoint_of_three_classes_goes_on_with_two_and_says_which_heads_start_fresh(found):
    tuned = found["tuned"]
    line = tuned["lines"][0]
    assert "variables loaded; start fresh: " in line and tuned["taken"]
    assert "BoxPredictor/ConvolutionalBoxHead (12 variables)" in line
    assert "BoxPredictor/ConvolutionalClassHead (12 variables)" in line
    assert any(line.startswith("step 1/1") for line in tuned["lines"])


@needs_tfod
def test_heads_of_another_size_are_refused_in_one_line(found):
    refused = found["tuned"]["refused"]
    assert "train_config.fine_tune_checkpoint" in refused and "\n" not in refused


@needs_tfod
def test_pictures_are_darkened_and_enhanced_on_the_fly_and_the_same_every_time(found):
    fly = found["fly"]
    assert fly["changed"] > 0.1 and fly["again"] and fly["error"] < 1e-6


def test_the_progress_line_says_what_one_wants_to_know():
    means = {"Loss/total_loss": 1.5, "Loss/classification_loss": 1.0, "Loss/box_loss": 0.5, "learning_rate": 0.01}
    line = progress.line(100, 1000, means, 2.0, 4)
    assert line == (
        "step 100/1000  loss 1.5000 (classification 1 box 0.5)  lr 0.01  2 steps/s  8 images/s  0:07:30 left"
    )
    assert progress.line(1, 1000, means, 0.0, 4).endswith("lr 0.01")


def test_the_pace_leaves_out_the_first_call_which_builds_the_graph():
    pace = progress.Pace()
    pace.add(1, 60.0)
    assert pace.speed() == 0.0
    pace.add(10, 5.0)
    assert pace.speed() == pytest.approx(2.0) and math.isfinite(pace.speed())
    assert pace.line_is_due(10.0, False) and not pace.line_is_due(10.0, False) and pace.line_is_due(10.0, True)


def start(config, folder, *words, environment=None):
    """Starts tools/model_main_tf2.py on a configuration."""
    (folder / "x.config").write_text(pipeline.to_text(config))
    command = [sys.executable, str(ROOT / "tools" / "model_main_tf2.py"), "--tracker", "none", *words]
    command += ["--pipeline_config_path", str(folder / "x.config")]
    settings = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", **(environment or {})}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=settings)


@needs_tfod
@pytest.mark.slow
def test_after_kill_minus_9_counter_and_loss_go_on(tmp_path):
    config = scenes.tiny(tmp_path, "train_config.num_steps=100")
    words = ("--model_dir", str(tmp_path / "run"), "--checkpoint_every_n", "10", "--refresh_batch_norm", "1")
    first = start(config, tmp_path, *words, "--num_train_steps", "100000", "--skip_checks")
    # The state file is what makes a checkpoint count: it is written last, and replaced as a whole.
    state = tmp_path / "run" / "checkpoint"
    while not (state.is_file() and '"ckpt-5"' in state.read_text()):
        assert first.poll() is None, first.stdout.read()
        time.sleep(0.05)
    first.send_signal(signal.SIGKILL)
    before = first.communicate()[0]
    second = start(config, tmp_path, *words)
    after = second.communicate()[0]
    assert second.returncode == 0, after
    step = int(re.search(r"going on from step (\d+) of", after)[1])
    assert step >= 50 and step % 10 == 0
    assert re.search(r"^step 100/100 ", after, re.MULTILINE)
    losses = [float(loss) for loss in re.findall(r"loss ([\d.]+) ", before + after)]
    # It goes on from where it was, not from the start.
    first_after = float(re.search(r"loss ([\d.]+) ", after)[1])
    assert first_after < losses[0] * 0.9


@needs_tfod
@pytest.mark.slow
def test_sigterm_ends_with_a_checkpoint(tmp_path):
    config = scenes.tiny(tmp_path)
    words = ("--model_dir", str(tmp_path / "run"), "--num_train_steps", "1000000", "--skip_checks")
    run = start(config, tmp_path, *words, "--checkpoint_every_n", "1000000")
    line = run.stdout.readline()
    while line and not line.startswith("step"):
        line = run.stdout.readline()
    run.send_signal(signal.SIGTERM)
    text = run.communicate()[0]
    assert run.returncode == 0, text
    assert (tmp_path / "run" / "ckpt-1.index").exists()


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


LOSSES = """
import json, pathlib, sys
sys.path.insert(0, {root!r})
from tfllv.detection import compat, pipeline, training
compat.install()
import tensorflow as tf
from tfllv.train import strategy as strategies
hardware, folder = sys.argv[1:]
strategy = strategies.make(hardware)  # before anything else of TensorFlow runs
tf.keras.utils.set_random_seed(1)
folder = pathlib.Path(folder)
options = training.Options(num_train_steps=8, refresh_batch_norm=2, seconds_between_lines=0.0)
run = training.Trainer(pipeline.load(folder / "x.config"), folder / hardware, strategy=strategy, options=options)
run.run()
name = hardware + str(strategy.cluster_resolver.task_id if strategy.cluster_resolver else "")
(folder / (name + ".json")).write_text(json.dumps(run.losses))
"""


@needs_tfod
@pytest.mark.slow
def test_two_workers_give_the_loss_curve_of_one_process_with_the_same_global_batch(tmp_path):
    # Batch norm is frozen and every picture has the same boxes, because both statistics and the number of matches
    # are a worker's own, in TFOD as here; the pictures differ.
    config = scenes.tiny(tmp_path, "model.ssd.freeze_batchnorm=true")
    (tmp_path / "x.config").write_text(pipeline.to_text(config))
    command = [sys.executable, "-c", LOSSES.format(root=str(ROOT))]
    quiet = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
    alone = subprocess.run([*command, "one", str(tmp_path)], env=quiet, capture_output=True, text=True)
    assert alone.returncode == 0, alone.stderr[-3000:]
    addresses = [f"127.0.0.1:{port}" for port in free_ports(2)]
    workers = [
        subprocess.Popen(
            [*command, "multi_worker", str(tmp_path)],
            env=quiet
            | {"TF_CONFIG": json.dumps({"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}})},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for index in range(2)
    ]
    for worker in workers:
        text = worker.communicate(timeout=600)[0]
        assert worker.returncode == 0, text[-3000:]
    one, first, second = (
        json.loads((tmp_path / f"{name}.json").read_text()) for name in ("one", "multi_worker0", "multi_worker1")
    )
    assert len(one) == 8 and one[-1] < one[0]
    assert first == pytest.approx(one, rel=1e-4) and second == first
    # What the second worker had to write to take part in saving is gone.
    assert sorted(path.name for path in (tmp_path / "multi_worker").iterdir() if path.is_dir()) == []


SAME_CURVE = """
import json, pathlib, shutil, sys
sys.path.insert(0, {root!r})
from tfllv.detection import compat, inputs, pipeline, training
from tfllv.train import gradients
compat.install()
import tensorflow as tf
from object_detection import model_lib_v2
if sys.argv[2] == "as upstream":
    gradients.REPLACEMENTS.clear()
    inputs.scale_before_normalizing = lambda model: model.preprocess
from tensorboard.backend.event_processing import event_file_loader
folder = pathlib.Path(sys.argv[1])
config = pipeline.load(folder / "x.config")
# Upstream's labels keep their padding; without it another graph rounds gradients otherwise, 4e-4 in six steps.
options = training.Options(num_train_steps=6, refresh_batch_norm=0, keep_padding=True)
run = training.Trainer(config, folder / "ours", options=options)
run._manager.save()
shutil.copytree(folder / "ours", folder / "upstream")
run.run()
with tf.distribute.MirroredStrategy(["CPU:0"]).scope():
    model_lib_v2.train_loop(
        str(folder / "x.config"), str(folder / "upstream"), train_steps=6, num_steps_per_iteration=1
    )
upstream = {{}}
for path in (folder / "upstream").rglob("*tfevents*"):
    for event in event_file_loader.EventFileLoader(str(path)).Load():
        for value in event.summary.value:
            if value.tag == "Loss/total_loss":
                upstream[event.step] = float(tf.make_ndarray(value.tensor))
print(json.dumps([run.losses, [upstream[step] for step in sorted(upstream)]]))
"""


@needs_tfod
@pytest.mark.slow
@pytest.mark.parametrize(
    ("rounding", "frozen", "steps"), [("as upstream", False, 6), ("our own", True, 6), ("our own", False, 3)]
)
def test_the_loss_curve_is_that_of_tfods_own_loop(tmp_path, rounding, frozen, steps):
    # A batch holds all eight pictures, so both sides see the same whichever comes first. Gradients and pictures that
    # are rounded otherwise part the curves, by way of the statistics of maps of one pixel: 1e-4 to 5e-4 in six steps.
    norms = f"model.ssd.freeze_batchnorm={str(frozen).lower()}"
    config = scenes.tiny(tmp_path, "train_config.batch_size=8", norms, shards=1, examples=8)
    (tmp_path / "x.config").write_text(pipeline.to_text(config))
    command = [sys.executable, "-c", SAME_CURVE.format(root=str(ROOT)), str(tmp_path), rounding]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-3000:]
    ours, upstream = json.loads(run.stdout.splitlines()[-1])
    assert len(ours) == len(upstream) == 6 and ours[-1] < ours[0]
    assert ours[:steps] == pytest.approx(upstream[:steps], rel=1e-4)


@needs_tfod
def test_labels_lose_their_padding_and_the_losses_are_the_same_to_the_bit(found):
    padding = found["padding"]
    assert padding["rows"] == [4, padding["boxes"], padding["boxes"]] and padding["boxes"] < 4
    with_padding, without = padding["losses"]
    assert with_padding == without and with_padding["Loss/total_loss"] > 0


@needs_tfod
def test_pictures_are_resized_before_they_are_normalised_and_come_out_the_same(found):
    assert found["order"]["error"] < 5e-6 and found["order"]["shapes"] == 0


@needs_tfod
def test_the_mask_head_sees_each_place_of_a_proposal_and_the_other_heads_the_vector_too(found):
    seen = found["mask_features"]
    assert seen["shape"] == [3, 7, 7, 1024 + 16]
    assert seen["crops_are_kept"] and seen["vectors_are_the_same_everywhere"] and seen["vectors_differ"]
    assert seen["shape_of_tfods"] == [3, 1, 1, 1024]
    types = [f"mask_rcnn_resnet{depth}_fpn_keras" for depth in (101, 152, 50)]
    assert seen["types"] == types and seen["types_are_kept"]


BUILD = """
import json, pathlib, sys
sys.path.insert(0, {root!r})
from tfllv.detection import compat, mask_features, pipeline
compat.install()
from object_detection.builders import model_builder, optimizer_builder
mask_features.register()
for path in sys.argv[1:]:
    config = pipeline.load(path)
    model = model_builder.build(config.model, is_training=True, add_summaries=False)
    optimizer_builder.build(config.train_config.optimizer, global_step=0)
    print("built", pathlib.Path(path).stem, type(model).__name__, flush=True)
"""


@needs_tfod
@pytest.mark.slow
def test_zoo_configurations_and_the_projects_own_become_models(tmp_path):
    for name, text in scenes.ZOO.items():
        (tmp_path / f"{name}.config").write_text(text)
    paths = [*sorted(tmp_path.glob("*.config")), *sorted((ROOT / "pipelines").glob("*.config"))]
    command = [sys.executable, "-c", BUILD.format(root=str(ROOT)), *map(str, paths)]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-3000:]
    found = dict(re.findall(r"^built (\S+) (\w+)$", run.stdout, re.MULTILINE))
    assert found.keys() == {path.stem for path in paths}
    for name, kind in found.items():
        wanted = {"ssd": "SSDMetaArch", "eff": "SSDMetaArch", "mas": "FasterRCNNMetaArch", "cen": "CenterNetMetaArch"}
        assert kind == wanted[name[:3]], (name, kind)
