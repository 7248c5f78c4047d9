"""Runs the TF Object Detection API's own tests on this TensorFlow: `python tools/run_tfod_tests.py [NAME...]`.

Each file of `FILES` (or those whose names contain a NAME) runs in a process of its own, with the patches of
`tfllv.detection.compat` made first. Prints one row a file, then the reasons of all skips, failures and errors, and
ends with 0 only if what failed is exactly what `KNOWN` says, each for the reason it says. All files: see `make
test-tfod`; six minutes on two cores.
"""

from __future__ import annotations

import argparse
import collections
import json
import pathlib
import subprocess
import sys
import tempfile
import time
import traceback
import unittest

FILES = (
    "utils.label_map_util_test",
    "utils.config_util_test",
    "metrics.coco_evaluation_test",
    "data_decoders.tf_example_decoder_test",
    "models.bidirectional_feature_pyramid_generators_tf2_test",
    "models.ssd_efficientnet_bifpn_feature_extractor_tf2_test",
    "models.faster_rcnn_resnet_keras_feature_extractor_tf2_test",
    "models.faster_rcnn_resnet_v1_fpn_keras_feature_extractor_tf2_test",
    "builders.optimizer_builder_tf2_test",
    "builders.model_builder_tf2_test",
    "meta_architectures.ssd_meta_arch_test",
    "core.preprocessor_test",
    "inputs_test",
    "exporter_lib_tf2_test",
    "model_lib_tf2_test",
)

# Tests that do not pass, by the end of their ids, and what their reason must contain.
_NO_SAMPLE = "samples/configs/ssd_mobilenet_v2_pets_keras.config; No such file"  # the package ships without samples/
KNOWN: dict[str, str] = {
    "model_lib_tf2_test.CheckpointV2Test.test_restore_map_incompatible_error": _NO_SAMPLE,
    "model_lib_tf2_test.CheckpointV2Test.test_restore_v2": _NO_SAMPLE,
    "model_lib_tf2_test.MetricsExportTest.test_export_metrics_json_serializable": _NO_SAMPLE,
    "model_lib_tf2_test.ModelCheckpointTest.test_checkpoint_max_to_keep": _NO_SAMPLE,
    "model_lib_tf2_test.ModelLibTest.test_train_loop_then_eval_loop": _NO_SAMPLE,
}


class _Result(unittest.TextTestResult):
    """Keeps the reasons as short strings: the last line of a traceback says what happened."""

    def reasons(self) -> dict[str, list[tuple[str, str]]]:
        def last(trouble: list) -> list[tuple[str, str]]:
            return [(test.id(), text.strip().splitlines()[-1]) for test, text in trouble]

        skipped = [(test.id(), reason) for test, reason in self.skipped]
        passed = [(test.id(), "passed, and was expected to fail") for test in self.unexpectedSuccesses]
        return {"skipped": skipped, "failures": last(self.failures) + passed, "errors": last(self.errors)}


def run_one(name: str, output: pathlib.Path) -> None:
    """Runs one file in this process and writes what happened as JSON."""
    import importlib

    from tfllv.detection import compat

    compat.install()
    from absl import flags

    # The tests read absl's flags (for their temporary folders), which `main` of the file would have parsed.
    flags.FLAGS(["run_tfod_tests"])
    module = importlib.import_module(f"object_detection.{name}")
    suite = unittest.defaultTestLoader.loadTestsFromModule(module)
    result = unittest.TextTestRunner(resultclass=_Result, stream=sys.stderr).run(suite)
    output.write_text(json.dumps({"tests": result.testsRun, **result.reasons()}), encoding="utf-8")


def run_file(name: str, timeout: float) -> dict:
    """Runs one file in its own process; one that dies or hangs is an error of that file."""
    with tempfile.TemporaryDirectory() as folder:
        output = pathlib.Path(folder) / "result.json"
        command = [
            sys.executable,
            "-W",
            "ignore",
            str(pathlib.Path(__file__).resolve()),
            "--one",
            name,
            "--output",
            str(output),
        ]
        empty: dict = {"tests": 0, "skipped": [], "failures": []}
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, cwd=folder, check=False)
        except subprocess.TimeoutExpired:
            return empty | {"errors": [(name, f"took more than {timeout:.0f} s")]}
        if not output.exists():
            last = (done.stderr.strip().splitlines() or ["no output"])[-1]
            return empty | {"errors": [(name, f"ended with {done.returncode}: {last}")]}
        return json.loads(output.read_text(encoding="utf-8"))


def deviations(found: dict[str, dict]) -> list[str]:
    """What is not as `KNOWN` says, one line each; a known failure that passes is as much a deviation as a new one."""
    lines = []
    troubled = {test: why for result in found.values() for test, why in result["failures"] + result["errors"]}
    for test, why in troubled.items():
        known = [reason for end, reason in KNOWN.items() if test.endswith(end)]
        if not any(reason in why for reason in known):
            lines.append(f"{test}: not documented: {why}")
    for end in KNOWN:
        of_files_run = any(f"{name.rsplit('.', 1)[-1]}." in end for name in found)
        if of_files_run and not any(test.endswith(end) for test in troubled):
            lines.append(f"{end}: documented as failing, and did not fail")
    lines += [f"{name}: holds no test" for name, result in found.items() if not result["tests"]]
    return lines


def report(found: dict[str, dict]) -> None:
    """Prints the sums, then each distinct reason with the number of its tests."""
    columns = ("tests", "skipped", "failures", "errors")
    sums = [sum(_count(result[column]) for result in found.values()) for column in columns]
    print(_row(f"{len(found)} files", *sums))
    for kind in columns[1:]:
        reasons = collections.Counter((name, why) for name, result in found.items() for _, why in result[kind] if why)
        for (name, why), count in sorted(reasons.items()):
            print(f"{kind:8} {count:4} x {name}: {why}")


def _count(value: int | list) -> int:
    return value if isinstance(value, int) else len(value)


def _row(name: str, *numbers: object) -> str:
    return f"{name:66}" + "".join(f"{number!s:>9}" for number in numbers)


def main() -> int:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="parts of file names; default: all files")
    parser.add_argument("--timeout", type=float, default=3600, help="seconds for one file")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--output", type=pathlib.Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        try:
            run_one(options.one, options.output)
        except Exception:
            traceback.print_exc()
            return 1
        return 0
    chosen = [name for name in FILES if not options.names or any(part in name for part in options.names)]
    if not chosen:
        parser.error(f"no file is named like {options.names}; there are {', '.join(FILES)}")
    print(_row("file", "tests", "skipped", "failed", "errors", "seconds"), flush=True)
    found = {}
    for name in chosen:
        start = time.monotonic()
        found[name] = result = run_file(name, options.timeout)
        numbers = [_count(result[column]) for column in ("tests", "skipped", "failures", "errors")]
        print(_row(name, *numbers, f"{time.monotonic() - start:.0f}"), flush=True)
    report(found)
    lines = deviations(found)
    for line in lines:
        print(f"UNEXPECTED {line}", file=sys.stderr)
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
