from __future__ import annotations

import os
import pickle
import zipfile

import numpy as np
import pytest

from tfllv.models.torch_file import read_state_dict


def write(torch_writer, tmp_path, program, storages=None):
    """A zip file with one hand-made program."""
    return torch_writer.write_zip(tmp_path / "hand.pth", program, storages or {})


@pytest.mark.parametrize("legacy", [False, True])
def test_state_dicts_of_both_containers_come_back_bit_equal_and_in_order(tmp_path, torch_writer, state, legacy):
    read = read_state_dict(torch_writer.write_state(tmp_path / "a.pth", state, legacy=legacy))
    assert list(read) == list(state)
    for name, array in state.items():
        assert read[name].dtype == array.dtype
        np.testing.assert_array_equal(read[name], array)


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize(
    "kind", ["float32", "float64", "float16", "int64", "int32", "int16", "int8", "uint8", "bool", "complex64"]
)
def test_every_storage_type_is_read(tmp_path, torch_writer, kind, legacy):
    array = (np.arange(6) % 3 - 1).astype(kind) if kind[0] != "u" else np.arange(6, dtype=kind)
    read = read_state_dict(torch_writer.write_state(tmp_path / "a.pth", {"x": array.reshape(2, 3)}, legacy=legacy))
    assert read["x"].dtype == array.dtype
    np.testing.assert_array_equal(read["x"], array.reshape(2, 3))


def test_bfloat16_is_widened_to_float32_exactly(tmp_path, torch_writer):
    values = np.array([1.0, -2.5, 3.140625, 0.0], np.float32)  # each fits in the 8 bits of bfloat16's mantissa
    raw = (values.view(np.uint32) >> 16).astype("<u2").tobytes()
    program = torch_writer.mapping(
        {"x": torch_writer.tensor(torch_writer.storage("0", "BFloat16Storage", 4), 0, (4,), (1,))}
    )
    read = read_state_dict(write(torch_writer, tmp_path, program, {"0": raw}))["x"]
    assert read.dtype == np.float32
    np.testing.assert_array_equal(read, values)


def test_strides_offset_and_a_shared_storage_are_followed(tmp_path, torch_writer):
    numbers = np.arange(12, dtype=np.float32)
    storage = torch_writer.storage("0", "FloatStorage", 12)
    program = torch_writer.mapping(
        {
            "turned": torch_writer.tensor(storage, 0, (4, 3), (1, 4)),
            "tail": torch_writer.tensor(storage, 7, (5,), (1,)),
            "repeated": torch_writer.tensor(storage, 2, (3, 2), (0, 1)),
            "scalar": torch_writer.tensor(storage, 11, (), ()),
            "empty": torch_writer.tensor(storage, 12, (0, 3), (3, 1)),
        }
    )
    read = read_state_dict(write(torch_writer, tmp_path, program, {"0": numbers.tobytes()}))
    np.testing.assert_array_equal(read["turned"], numbers.reshape(3, 4).T)
    np.testing.assert_array_equal(read["tail"], numbers[7:])
    np.testing.assert_array_equal(read["repeated"], [[2, 3]] * 3)
    assert read["scalar"] == 11
    assert read["empty"].shape == (0, 3)
    assert np.shares_memory(read["turned"], read["tail"])
    assert not any(array.flags.writeable and array.size for array in read.values())


@pytest.mark.parametrize("path", [("state_dict",), ("params",), ("checkpoint_is_here", None), ("model", "state_dict")])
def test_nested_state_dicts_are_found_and_others_are_named(tmp_path, torch_writer, state, path):
    program = torch_writer.mapping({name: torch_writer.array("0", state[name]) for name in ["conv.weight"]})
    for key in reversed([key for key in path if key]):
        entries = {"epoch": torch_writer.number(3), "history": b"]", key: program}
        program = torch_writer.mapping(entries, ordered=False)
    file = write(torch_writer, tmp_path, program, {"0": state["conv.weight"].tobytes()})
    if None in path:
        with pytest.raises(ValueError, match=r"no tensors; its keys are 'epoch', 'history', 'checkpoint_is_here'"):
            read_state_dict(file)
    else:
        np.testing.assert_array_equal(read_state_dict(file)["conv.weight"], state["conv.weight"])


def test_prefix_of_data_parallel_is_removed(tmp_path, torch_writer, state):
    parallel = {f"module.{name}": array for name, array in state.items()}
    assert list(read_state_dict(torch_writer.write_state(tmp_path / "a.pth", parallel))) == list(state)
    mixed = {"module.x": state["conv.bias"], "y": state["conv.bias"]}
    assert list(read_state_dict(torch_writer.write_state(tmp_path / "b.pth", mixed))) == ["module.x", "y"]


def test_parameters_and_attributes_of_the_dict_are_read_through(tmp_path, torch_writer, state):
    weight = torch_writer.parameter(torch_writer.array("0", state["conv.bias"]))
    metadata = torch_writer.mapping({"_metadata": torch_writer.mapping({})}, ordered=False)
    program = torch_writer.mapping({"bias": weight}) + metadata + b"b"
    read = read_state_dict(write(torch_writer, tmp_path, program, {"0": state["conv.bias"].tobytes()}))
    np.testing.assert_array_equal(read["bias"], state["conv.bias"])


def test_big_endian_files_are_turned(tmp_path, torch_writer, state):
    program = torch_writer.mapping({"bias": torch_writer.array("0", state["conv.bias"])})
    raw = {"0": state["conv.bias"].astype(">f4").tobytes()}
    read = read_state_dict(torch_writer.write_zip(tmp_path / "a.pth", program, raw, {"byteorder": b"big"}))
    np.testing.assert_array_equal(read["bias"], state["conv.bias"])


class Attack:
    """Pickles to a call of its choice."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
@pytest.mark.parametrize("legacy", [False, True])
def test_malicious_pickle_executes_nothing_and_names_its_function(tmp_path, torch_writer, protocol, legacy):
    marker = tmp_path / "executed"
    program = pickle.dumps({"state_dict": Attack(os.system, f"touch {marker}")}, protocol)[:-1]
    if legacy:
        file = torch_writer.write_legacy(tmp_path / "evil.pth", program, {})
    else:
        file = write(torch_writer, tmp_path, program)
    with pytest.raises(ValueError, match=f"{os.system.__module__}.system.*nothing was executed"):
        read_state_dict(file)
    assert not marker.exists()
    pickle.loads(program + b".")  # the attack is a real one
    assert marker.exists()


@pytest.mark.parametrize(
    ("module", "attribute"),
    [
        ("os", "system"),
        ("builtins", "eval"),
        ("builtins", "getattr"),
        ("numpy.core.multiarray", "scalar"),
        ("torch._utils", "_rebuild_device_tensor_from_numpy"),
        ("torch", "FloatStorage.__class__"),
        ("model", "enhance_net_nopool"),
    ],
)
def test_every_other_name_is_refused_by_name(tmp_path, torch_writer, module, attribute):
    program = torch_writer.name(module, attribute) + b")R"
    with pytest.raises(ValueError, match=f"'{module}.{attribute}'"):
        read_state_dict(write(torch_writer, tmp_path, program))


def test_name_made_from_stacked_words_is_refused_by_name(tmp_path, torch_writer):
    program = torch_writer.text("posix") + torch_writer.text("system") + b"\x93"
    with pytest.raises(ValueError, match=r"'posix\.system'"):
        read_state_dict(write(torch_writer, tmp_path, program))


@pytest.mark.parametrize("legacy", [False, True])
def test_file_cut_anywhere_is_refused_in_one_sentence(tmp_path, torch_writer, state, legacy):
    whole = torch_writer.write_state(tmp_path / "whole.pth", state, legacy=legacy).read_bytes()
    cut = tmp_path / "cut.pth"
    for length in range(0, len(whole) - 1, 7):
        cut.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"cut\.pth` cannot be read as PyTorch weights"):
            read_state_dict(cut)


@pytest.mark.parametrize("legacy", [False, True])
def test_damaged_files_raise_nothing_but_a_value_error(tmp_path, torch_writer, state, legacy, rng):
    whole = torch_writer.write_state(tmp_path / "whole.pth", state, legacy=legacy).read_bytes()
    damaged = tmp_path / "damaged.pth"
    refused = 0
    for _ in range(600):
        content = bytearray(whole)
        for position in rng.integers(0, len(whole), rng.integers(1, 4)):
            content[position] = rng.integers(256)
        damaged.write_bytes(content)
        try:
            for array in read_state_dict(damaged).values():
                array.sum()  # touches every number: none lies outside the file
        except ValueError:
            refused += 1
    assert refused > 100


def test_tensor_beyond_its_storage_is_refused(tmp_path, torch_writer):
    storage = torch_writer.storage("0", "FloatStorage", 4)
    for offset, shape, strides in [(0, (5,), (1,)), (1, (4,), (1,)), (0, (2, 2), (3, 1)), (0, (2**40,), (1,))]:
        program = torch_writer.mapping({"x": torch_writer.tensor(storage, offset, shape, strides)})
        with pytest.raises(ValueError, match="'x' reaches beyond its storage"):
            read_state_dict(write(torch_writer, tmp_path, program, {"0": bytes(16)}))
    for offset, shape, strides in [(-1, (1,), (1,)), (0, (-1,), (1,)), (3, (2,), (-1,)), (0, (2,), (1, 1))]:
        program = torch_writer.mapping({"x": torch_writer.tensor(storage, offset, shape, strides)})
        with pytest.raises(ValueError, match="impossible shape"):
            read_state_dict(write(torch_writer, tmp_path, program, {"0": bytes(16)}))


def test_absurd_sizes_are_refused_before_they_are_allocated(tmp_path, torch_writer):
    program = torch_writer.mapping(
        {"x": torch_writer.tensor(torch_writer.storage("0", "FloatStorage", 2**60), 0, (2**60,), (1,))}
    )
    with pytest.raises(ValueError, match="shorter than its 1152921504606846976 numbers"):
        read_state_dict(write(torch_writer, tmp_path, program, {"0": bytes(16)}))
    legacy = program.replace(b"tQ", b"NtQ")
    with pytest.raises(ValueError, match="cut short or damaged at storage '0'"):
        read_state_dict(torch_writer.write_legacy(tmp_path / "l.pth", legacy, {"0": np.zeros(4, np.float32)}))


def test_zip_bombs_are_refused(tmp_path, torch_writer, state):
    bomb = tmp_path / "bomb.pth"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(10**7))
    with pytest.raises(ValueError, match="compressed"):
        read_state_dict(bomb)
    # Two directory entries over the same bytes.
    content = torch_writer.write_state(tmp_path / "a.pth", {"x": np.zeros(10**5, np.float32)}).read_bytes()
    with zipfile.ZipFile(tmp_path / "a.pth") as archive:
        position = archive.start_dir
    directory, end = content[position:-22], bytearray(content[-22:])
    count = int.from_bytes(end[10:12], "little")
    end[8:12] = 2 * (2 * count).to_bytes(2, "little")
    end[12:16] = (2 * len(directory)).to_bytes(4, "little")
    bomb.write_bytes(content[:position] + 2 * directory + end)
    with pytest.raises(ValueError, match="more bytes than the file has"):
        read_state_dict(bomb)


def test_storage_named_in_two_forms_is_refused(tmp_path, torch_writer):
    first = torch_writer.tensor(torch_writer.storage("0", "FloatStorage", 4), 0, (4,), (1,))
    second = torch_writer.tensor(torch_writer.storage("0", "LongStorage", 2), 0, (2,), (1,))
    program = torch_writer.mapping({"x": first, "y": second})
    with pytest.raises(ValueError, match="named in two forms"):
        read_state_dict(write(torch_writer, tmp_path, program, {"0": bytes(16)}))


def test_other_files_are_refused_with_their_reason(tmp_path, torch_writer):
    other = tmp_path / "other.pth"
    for content in (b"", b"\x89PNG\r\n", b"x" * 100):
        other.write_bytes(content)
        with pytest.raises(ValueError, match=r"not a file of torch\.save"):
            read_state_dict(other)
    with zipfile.ZipFile(other, "w") as archive:
        archive.writestr("readme.txt", "no weights")
    with pytest.raises(ValueError, match=r"needs one data\.pkl"):
        read_state_dict(other)
    with pytest.raises(ValueError, match="but something of type int"):
        read_state_dict(write(torch_writer, tmp_path, torch_writer.number(3)))
    with pytest.raises(FileNotFoundError):
        read_state_dict(tmp_path / "absent.pth")


@pytest.mark.parametrize(
    ("file", "tensors", "numbers"),
    [("sgz_Epoch99.pth", 28, 10_561), ("zero_dce_Epoch99.pth", 14, 79_416), ("zero_dce_pp_Epoch99.pth", 28, 10_561)],
)
def test_published_weights_are_read(shared, file, tensors, numbers):
    read = read_state_dict(shared / "weights" / file)
    assert len(read) == tensors
    assert sum(array.size for array in read.values()) == numbers
    assert all(array.dtype == np.float32 and np.isfinite(array).all() for array in read.values())
