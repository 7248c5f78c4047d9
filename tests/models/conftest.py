"""Writes PyTorch files without PyTorch: the pickle operations, byte by byte, as `torch.save` emits them."""

from __future__ import annotations

import importlib.util
import pathlib
import struct
import zipfile
from collections.abc import Mapping

import numpy as np
import pytest

KINDS = {
    "float32": "FloatStorage",
    "float64": "DoubleStorage",
    "float16": "HalfStorage",
    "int64": "LongStorage",
    "int32": "IntStorage",
    "int16": "ShortStorage",
    "int8": "CharStorage",
    "uint8": "ByteStorage",
    "bool": "BoolStorage",
    "complex64": "ComplexFloatStorage",
}
EMPTY: Mapping[str, bytes] = {}
MAGIC = b"\x80\x02\x8a\n\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19."


class TorchWriter:
    """Pickle operations as bytes, and the two containers."""

    def text(self, word: str) -> bytes:
        return b"X" + struct.pack("<I", len(word.encode())) + word.encode()

    def number(self, value: int) -> bytes:
        if -(2**31) <= value < 2**31:
            return b"J" + struct.pack("<i", value)
        return b"\x8a\x09" + value.to_bytes(9, "little", signed=True)

    def name(self, module: str, attribute: str) -> bytes:
        return f"c{module}\n{attribute}\n".encode()

    def tuple(self, *items: bytes) -> bytes:
        return b"(" + b"".join(items) + b"t"

    def storage(self, key: str, kind: str, count: int, *view: bytes) -> bytes:
        words = (self.text("storage"), self.name("torch", kind), self.text(key), self.text("cpu"), self.number(count))
        return self.tuple(*words, *view) + b"Q"

    def tensor(self, storage: bytes, offset: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> bytes:
        sides = self.tuple(*map(self.number, shape))
        steps = self.tuple(*map(self.number, strides))
        hooks = self.name("collections", "OrderedDict") + b")R"
        arguments = self.tuple(storage, self.number(offset), sides, steps, b"\x89", hooks)
        return self.name("torch._utils", "_rebuild_tensor_v2") + arguments + b"R"

    def parameter(self, tensor: bytes) -> bytes:
        hooks = self.name("collections", "OrderedDict") + b")R"
        return self.name("torch._utils", "_rebuild_parameter") + self.tuple(tensor, b"\x88", hooks) + b"R"

    def mapping(self, items: Mapping[str, bytes], *, ordered: bool = True) -> bytes:
        start = self.name("collections", "OrderedDict") + b")R" if ordered else b"}"
        return start + b"(" + b"".join(self.text(key) + value for key, value in items.items()) + b"u"

    def array(self, key: str, array: np.ndarray, *view: bytes) -> bytes:
        """A tensor that is contiguous in a storage of its own."""
        strides = [1] * array.ndim
        for axis in range(array.ndim - 2, -1, -1):
            strides[axis] = strides[axis + 1] * array.shape[axis + 1]
        storage = self.storage(key, KINDS[array.dtype.name], array.size, *view)
        return self.tensor(storage, 0, array.shape, tuple(strides))

    def write_zip(
        self,
        path: pathlib.Path,
        program: bytes,
        storages: Mapping[str, bytes],
        extra: Mapping[str, bytes] = EMPTY,
    ) -> pathlib.Path:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
            archive.writestr("archive/data.pkl", b"\x80\x02" + program + b".")
            for key, raw in storages.items():
                archive.writestr(f"archive/data/{key}", raw)
            for name, raw in extra.items():
                archive.writestr(f"archive/{name}", raw)
        return path

    def write_legacy(self, path: pathlib.Path, program: bytes, storages: Mapping[str, np.ndarray]) -> pathlib.Path:
        system = b"\x80\x02}(" + self.text("little_endian") + b"\x88u."
        keys = b"\x80\x02](" + b"".join(map(self.text, storages)) + b"e."
        blocks = b"".join(struct.pack("<q", array.size) + array.tobytes() for array in storages.values())
        path.write_bytes(MAGIC + b"\x80\x02M\xe9\x03." + system + b"\x80\x02" + program + b"." + keys + blocks)
        return path

    def write_state(self, path: pathlib.Path, state: Mapping[str, np.ndarray], *, legacy: bool = False) -> pathlib.Path:
        """A plain state dict, in either container."""
        view = (b"N",) if legacy else ()
        keys = {name: str(number) for number, name in enumerate(state)}
        program = self.mapping({name: self.array(keys[name], array, *view) for name, array in state.items()})
        if legacy:
            return self.write_legacy(path, program, {keys[name]: array for name, array in state.items()})
        return self.write_zip(path, program, {keys[name]: array.tobytes() for name, array in state.items()})


@pytest.fixture
def torch_writer() -> TorchWriter:
    return TorchWriter()


@pytest.fixture(scope="session")
def torchvision_state():
    """The module `torchvision_state.py`."""
    path = pathlib.Path(__file__).parent / "torchvision_state.py"
    spec = importlib.util.spec_from_file_location("tests_models_torchvision_state", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def state(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """A small state dict."""
    return {
        "conv.weight": rng.standard_normal((4, 3, 3, 3)).astype(np.float32),
        "conv.bias": rng.standard_normal(4).astype(np.float32),
    }
