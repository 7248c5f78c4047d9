"""Reads the tensors of a PyTorch file (`.pth`, `.pt`) without PyTorch, and without executing anything in it.

Such a file is a pickle, a program for a stack machine, beside raw numbers. Here no unpickler runs: the few operations
that `torch.save` writes for a dict of tensors are carried out on plain data, the four names it needs are recognised
as words and never imported or called, and any other name is refused. Both containers are read: the zip file that
PyTorch writes since version 1.6, and the bare pickles before. Every size is checked against the file's own.
"""

from __future__ import annotations

import io
import os
import pickletools
import struct
import zipfile
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

# torch.BFloat16Storage is read as uint16, then widened: NumPy has no such type.
STORAGE_TYPES = {
    "torch.FloatStorage": "f4",
    "torch.DoubleStorage": "f8",
    "torch.HalfStorage": "f2",
    "torch.BFloat16Storage": "u2",
    "torch.LongStorage": "i8",
    "torch.IntStorage": "i4",
    "torch.ShortStorage": "i2",
    "torch.CharStorage": "i1",
    "torch.ByteStorage": "u1",
    "torch.BoolStorage": "u1",
    "torch.ComplexFloatStorage": "c8",
    "torch.ComplexDoubleStorage": "c16",
}
TENSOR = ("torch._utils._rebuild_tensor_v2",)
PARAMETER = ("torch._utils._rebuild_parameter", "torch._utils._rebuild_parameter_with_state")
MAPPING = ("collections.OrderedDict",)
ALLOWED = frozenset((*STORAGE_TYPES, *TENSOR, *PARAMETER, *MAPPING))

# Keys under which training programs keep the state dict, in the order they are tried.
NESTED_KEYS = ("state_dict", "model_state_dict", "model", "params_ema", "params", "net", "network")
_LEGACY_MAGIC = b"\x80\x02\x8a\n\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19."
_MAX_PICKLE = 256 * 2**20  # bytes; a state dict of 100,000 tensors needs 20 MB
_MAX_RANK = 16
# What the standard library raises on damaged files, besides ValueError.
_DAMAGE = (
    ValueError,
    OSError,
    OverflowError,
    EOFError,
    RuntimeError,
    NotImplementedError,
    struct.error,
    zipfile.BadZipFile,
)


class _Global(NamedTuple):
    name: str


class _Storage(NamedTuple):
    kind: str
    key: str
    length: int


class _Tensor(NamedTuple):
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def read_state_dict(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Reads the state dict in a file written by `torch.save`, executing nothing.

    The dict may be nested under one of `NESTED_KEYS`; a prefix `module.` on every name (DataParallel) is removed;
    entries that are not tensors are left out.

    Args:
      path: a `.pth` or `.pt` file, of the zip kind or the older kind.

    Returns:
      Name -> array in PyTorch's layout, in the file's order. bfloat16 comes as float32. The arrays are read-only and
      may share memory, as the tensors did.

    Raises:
      ValueError: if the file is cut short or damaged, is not such a file, names anything but tensors and dicts (the
        message has the name), or holds no state dict.
      OSError: if it cannot be read.
    """
    path = os.fspath(path)
    with open(path, "rb") as file:
        start = file.read(len(_LEGACY_MAGIC))
        file.seek(0)
        try:
            if start == _LEGACY_MAGIC:
                content, load = _read_legacy(file)
            elif start.startswith(b"PK"):
                content, load = _read_zip(file, os.path.getsize(path))
            else:
                raise ValueError("it is not a file of torch.save, neither its zip kind nor the older one")
            return _arrays(_find_state_dict(content), load)
        except _DAMAGE as error:
            raise ValueError(f"`{path}` cannot be read as PyTorch weights: {error}.") from error


def _find_state_dict(content: Any) -> dict[str, _Tensor]:
    """Finds the dict of tensors, at the top or under a known key, and removes the prefix of DataParallel."""
    seen: list[str] = []
    while isinstance(content, dict):
        tensors = {name: value for name, value in content.items() if isinstance(value, _Tensor)}
        if tensors:
            for name in tensors:
                if not isinstance(name, str):
                    raise ValueError(f"a tensor's name must be text, received {name!r:.60}")
            if all(name.startswith("module.") for name in tensors):
                tensors = {name.removeprefix("module."): value for name, value in tensors.items()}
            return tensors
        key = next((key for key in NESTED_KEYS if key in content), None)
        if key is None or len(seen) == len(NESTED_KEYS):
            keys = ", ".join(f"{key!r:.40}" for key in list(content)[:10])
            raise ValueError(f"it holds no tensors; its keys are {keys or '(none)'}")
        seen.append(key)
        content = content[key]
    raise ValueError(f"it holds no dict of tensors, but something of type {type(content).__name__.lstrip('_').lower()}")


def _arrays(tensors: dict[str, _Tensor], load: Callable[[_Storage], np.ndarray]) -> dict[str, np.ndarray]:
    """Turns tensor records into read-only views of their storages, each storage read once."""
    storages: dict[_Storage, np.ndarray] = {}
    arrays = {}
    for name, tensor in tensors.items():
        if tensor.storage not in storages:
            storages[tensor.storage] = _decode(load(tensor.storage), tensor.storage.kind)
        arrays[name] = _view(name, tensor, storages[tensor.storage])
    return arrays


def _decode(storage: np.ndarray, kind: str) -> np.ndarray:
    if kind == "torch.BFloat16Storage":  # the upper half of a float32
        return (storage.astype(np.uint32) << 16).view(np.float32)
    return storage.view(bool) if kind == "torch.BoolStorage" else storage


def _view(name: str, tensor: _Tensor, storage: np.ndarray) -> np.ndarray:
    """Lays a tensor over its storage, after checking that it stays inside: the one place where memory is at stake."""
    shape, strides, offset = tensor.shape, tensor.strides, tensor.offset
    whole = all(type(number) is int and number >= 0 for number in (offset, *shape, *strides))
    if not whole or len(shape) != len(strides) or len(shape) > _MAX_RANK:
        raise ValueError(f"tensor {name!r:.80} has an impossible shape")
    if 0 in shape:
        return np.zeros(shape, storage.dtype)
    last = offset + sum((side - 1) * stride for side, stride in zip(shape, strides, strict=True))
    if last >= storage.size:
        raise ValueError(f"tensor {name!r:.80} reaches beyond its storage ({last} of {storage.size})")
    steps = [stride * storage.itemsize if side > 1 else 0 for side, stride in zip(shape, strides, strict=True)]
    return np.lib.stride_tricks.as_strided(storage[offset:], shape, steps, writeable=False)


def _read_zip(file: Any, size: int) -> tuple[Any, Callable[[_Storage], np.ndarray]]:
    """Opens the zip kind: `<folder>/data.pkl`, and one entry `<folder>/data/<key>` for each storage, not compressed."""
    try:
        archive = zipfile.ZipFile(file)
    except zipfile.BadZipFile:
        raise ValueError("it is a zip file cut short or damaged: its directory, at the end, is missing") from None
    entries = {entry.filename: entry for entry in archive.infolist()}
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries.values()):
        raise ValueError("its zip entries are compressed, which torch.save never does")
    if sum(entry.file_size for entry in archive.infolist()) > size:
        raise ValueError("its zip directory claims more bytes than the file has")
    programs = [name for name in entries if name.count("/") == 1 and name.endswith("/data.pkl")]
    if len(programs) != 1:
        raise ValueError("it is a zip file, but not of torch.save: it needs one data.pkl in one folder")
    folder = programs[0].removesuffix("data.pkl")
    order = folder + "byteorder"
    big = order in entries and entries[order].file_size == 3 and archive.read(order) == b"big"

    def load(storage: _Storage) -> np.ndarray:
        name = f"{folder}data/{storage.key}"
        kind = np.dtype(STORAGE_TYPES[storage.kind])
        if name not in entries:
            raise ValueError(f"its zip entry {name!r:.80} is missing")
        if entries[name].file_size < storage.length * kind.itemsize:
            raise ValueError(f"its zip entry {name!r:.80} is shorter than its {storage.length} numbers")
        return _numbers(archive.read(name), kind, storage.length, big)

    if entries[programs[0]].file_size > _MAX_PICKLE:
        raise ValueError(f"its data.pkl is larger than {_MAX_PICKLE} bytes")
    return _interpret(io.BytesIO(archive.read(programs[0]))), load


def _read_legacy(file: Any) -> tuple[Any, Callable[[_Storage], np.ndarray]]:
    """Opens the kind before PyTorch 1.6: five pickles one after another, then count (int64) and numbers by storage."""
    buffer = io.BytesIO(file.read())
    _interpret(buffer)  # the magic number
    version, system = _interpret(buffer), _interpret(buffer)
    if version != 1001 or not isinstance(system, dict):
        raise ValueError(f"it is of the older kind in the unknown version {version!r:.40}")
    big = system.get("little_endian") is False
    declared: dict[str, _Storage] = {}
    content = _interpret(buffer, declared)
    keys = _interpret(buffer)
    raw = buffer.getbuffer()
    position = buffer.tell()
    places: dict[str, int] = {}
    for key in keys if isinstance(keys, list) else []:
        if not isinstance(key, str) or key not in declared:
            raise ValueError(f"its storage {key!r:.40} belongs to no tensor")
        count = int(np.frombuffer(raw[position : position + 8], "<i8")[0]) if position + 8 <= len(raw) else -1
        position += 8
        length = declared[key].length * np.dtype(STORAGE_TYPES[declared[key].kind]).itemsize
        if count != declared[key].length or position + length > len(raw):
            raise ValueError(f"it is cut short or damaged at storage {key!r:.40}")
        places[key] = position
        position += length

    def load(storage: _Storage) -> np.ndarray:
        if storage.key not in places or declared[storage.key] != storage:
            raise ValueError(f"its storage {storage.key!r:.40} is missing")
        kind = np.dtype(STORAGE_TYPES[storage.kind])
        start = places[storage.key]
        return _numbers(bytes(raw[start : start + storage.length * kind.itemsize]), kind, storage.length, big)

    return content, load


def _numbers(raw: bytes, kind: np.dtype, count: int, big: bool) -> np.ndarray:
    """Numbers from bytes, in this machine's byte order."""
    return np.frombuffer(raw, kind.newbyteorder(">" if big else "<"), count).astype(kind, copy=False)


def _interpret(file: io.BytesIO, declared: dict[str, _Storage] | None = None) -> Any:
    """Carries out one pickle on plain data; the file is left behind its end.

    Args:
      file: at the pickle's first byte.
      declared: filled with the storages that it names, by key.

    Raises:
      ValueError: at an operation or a name that a dict of tensors does not need.
    """
    machine = _Machine({} if declared is None else declared)
    try:
        for operation, argument, position in pickletools.genops(file):
            if operation.name == "STOP":
                return machine.stack.pop()
            try:
                machine.step(operation.name, argument)
            except (IndexError, KeyError, TypeError) as error:
                raise ValueError(f"its pickle is damaged at byte {position} ({operation.name})") from error
    except IndexError as error:
        raise ValueError("its pickle ends with nothing") from error
    raise ValueError("its pickle has no end")


class _Machine:
    """The stack machine of pickle, without the operations that import, call or build objects."""

    def __init__(self, declared: dict[str, _Storage]):
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        self.declared = declared

    def step(self, name: str, argument: Any) -> None:
        """Carries out one operation."""
        stack = self.stack
        if name in _PUSHED:
            stack.append(argument)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name]())
        elif name in ("BINPUT", "LONG_BINPUT", "PUT"):
            self.memo[argument] = stack[-1]
        elif name == "MEMOIZE":
            self.memo[len(self.memo)] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET", "GET"):
            stack.append(self.memo[argument])
        elif name == "MARK":
            self.marks.append(len(stack))
        elif name in _TUPLES:
            stack.append(tuple(self._take(_TUPLES[name])))
        elif name in ("TUPLE", "LIST", "DICT", "APPENDS", "APPEND", "SETITEMS", "SETITEM"):
            self._collect(name)
        elif name == "GLOBAL":
            stack.append(_check_global(argument.replace(" ", ".", 1)))
        elif name == "STACK_GLOBAL":
            stack.append(_check_global(".".join(self._take(2))))
        elif name in ("REDUCE", "NEWOBJ"):
            stack.append(_rebuild(*self._take(2)))
        elif name == "BINPERSID":
            stack.append(self._declare(stack.pop()))
        elif name in ("BUILD", "POP"):  # BUILD sets attributes; those of a state dict (`_metadata`) are not wanted
            stack.pop()
        elif name not in ("PROTO", "FRAME"):
            raise ValueError(f"its pickle uses the operation {name}, which no dict of tensors needs")

    def _take(self, count: int) -> list[Any]:
        if count > len(self.stack):
            raise IndexError(count)
        taken = self.stack[len(self.stack) - count :]
        del self.stack[len(self.stack) - count :]
        return taken

    def _collect(self, name: str) -> None:
        """TUPLE, LIST, DICT, APPEND(S), SETITEM(S): what lies above the mark goes into one object."""
        fixed = {"APPEND": 1, "SETITEM": 2}
        items = self._take(fixed[name] if name in fixed else len(self.stack) - self.marks.pop())
        if name in ("TUPLE", "LIST"):
            self.stack.append(tuple(items) if name == "TUPLE" else items)
        elif name.startswith("APPEND"):
            if not isinstance(self.stack[-1], list):
                raise TypeError(name)
            self.stack[-1].extend(items)
        else:
            if name == "DICT":
                self.stack.append({})
            if not isinstance(self.stack[-1], dict):
                raise TypeError(name)
            self.stack[-1].update(zip(items[::2], items[1::2], strict=True))

    def _declare(self, identity: Any) -> _Storage:
        """A storage, from ('storage', type, key, device, count) and, in the older kind, a view that must be None."""
        word, kind, key, _, count, *view = identity
        if word != "storage" or not isinstance(kind, _Global) or kind.name not in STORAGE_TYPES:
            raise ValueError("it names a storage of an unknown kind")
        if not isinstance(key, str) or type(count) is not int or count < 0 or view not in ([], [None]):
            raise ValueError(f"its storage {key!r:.40} is of an unknown form")
        storage = _Storage(kind.name, key, count)
        if self.declared.setdefault(key, storage) != storage:
            raise ValueError(f"its storage {key!r:.40} is named in two forms")
        return storage


# fmt: off
_PUSHED = frozenset((
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT", "UNICODE", "SHORT_BINUNICODE",
    "BINUNICODE", "BINUNICODE8", "STRING", "BINSTRING", "SHORT_BINSTRING", "SHORT_BINBYTES", "BINBYTES", "BINBYTES8",
))
# fmt: on
_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_TUPLE": tuple,
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
    "EMPTY_SET": set,
}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


def _check_global(name: str) -> _Global:
    if name not in ALLOWED:
        raise ValueError(
            f"it names {name!r:.120}, which is not a part of plain weights; nothing was executed. "
            f"Save `model.state_dict()` alone, where you can"
        )
    return _Global(name)


def _rebuild(function: Any, arguments: Any) -> Any:
    """What calling one of the allowed names would give, as plain data."""
    name = function.name if isinstance(function, _Global) else ""
    if name in MAPPING:
        return dict(*arguments)
    if name in PARAMETER and isinstance(arguments[0], _Tensor):
        return arguments[0]
    if name in TENSOR:
        storage, offset, shape, strides = arguments[:4]
        if isinstance(storage, _Storage) and isinstance(shape, tuple) and isinstance(strides, tuple):
            return _Tensor(storage, offset, shape, strides)
    raise ValueError(f"it calls {name or type(function).__name__!r} on what is not a tensor")
