"""A GGUF file, read with suspicion: its metadata, and its tensors as float32.

Here: the header parser and dequantisation over the `gguf` package's block formats.  Not here: what names and keys mean
(gguf_convert.py).  Every count, length and offset in the file is compared with what the file can hold before it is
used: a damaged or hostile file ends in one ModelLoadError, not in a huge allocation or a read outside the mapping.  The
layout is that of ggml's docs/gguf.md, versions 2 and 3, little-endian."""

from __future__ import annotations

import mmap
import struct
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import ModelLoadError

_MAX_DIMENSIONS = 4  # ggml's own limit
_MAX_ALIGNMENT = 1 << 16
_STRING, _ARRAY = 8, 9
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_DAMAGED = "The file is truncated or damaged: download it again."


@dataclass(frozen=True)
class TensorInfo:
    """Where a tensor lies and how it is stored."""

    name: str
    shape: tuple[int, ...]  # slowest axis first, as torch has it (the file has it the other way round)
    type_id: int  # ggml's number of the block format
    offset: int  # in bytes, from the start of the file
    num_bytes: int


class GgufFile:
    """Metadata and tensors of one file; a context manager, as it keeps the file mapped."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with path.open("rb") as file:
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except FileNotFoundError:
            raise ModelLoadError(path, "no such file", "Check the path.") from None
        except OSError as error:
            raise ModelLoadError(
                path, f"can't be read: {error.strerror}", "Check the path and its permissions."
            ) from None
        except ValueError:  # an empty file can't be mapped
            raise self.fail("is empty") from None
        try:
            reader = _Reader(self)
            self.metadata, self.tensors = reader.metadata, reader.tensors
        except BaseException:
            self._map.close()
            raise

    def __enter__(self) -> GgufFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._map.close()

    def fail(self, message: str, remedy: str = _DAMAGED) -> ModelLoadError:
        return ModelLoadError(self.path, message, remedy)

    def __len__(self) -> int:
        return len(self._map)

    def bytes_at(self, offset: int, count: int) -> bytes:
        return self._map[offset : offset + count]

    def load(self, name: str) -> npt.NDArray[np.float32]:
        """The tensor, dequantised: float32 of its shape, a copy."""
        from gguf import GGMLQuantizationType, dequantize

        info = self.tensors[name]
        raw = np.frombuffer(self.bytes_at(info.offset, info.num_bytes), dtype=np.uint8)
        kind = GGMLQuantizationType(info.type_id)
        try:
            values = dequantize(raw.reshape(*info.shape[:-1], -1), kind)
        except NotImplementedError:
            raise self.fail(
                f"tensor {name} is stored as {kind.name}, which the gguf package can't dequantise",
                "Use a file of another quantisation, such as Q8_0, Q4_K_M or F16.",
            ) from None
        result: npt.NDArray[np.float32] = values.reshape(info.shape).astype(np.float32, copy=False)
        return result


class _Reader:
    """One pass over the header. `position` never passes the end of the file."""

    def __init__(self, file: GgufFile) -> None:
        self._file, self._position = file, 0
        if file.bytes_at(0, 4) != b"GGUF":
            raise file.fail(
                "is not a GGUF file: it does not begin with the letters GGUF", "Give the path of a .gguf file."
            )
        self._position = 4
        version = self._number("I")
        if version not in (2, 3):
            raise file.fail(f"is GGUF version {version}", "Versions 2 and 3, little-endian, can be read.")
        num_tensors, num_values = self._number("Q"), self._number("Q")
        self.metadata = self._read_metadata(num_values)
        self.tensors = self._read_tensors(num_tensors)

    def _read_metadata(self, count: int) -> dict[str, Any]:
        self._check_count(count, least_bytes=13, what="metadata entries")
        metadata: dict[str, Any] = {}
        for _ in range(count):
            key = self._string()
            if key in metadata:
                raise self._file.fail(f"has the metadata key {key!r} twice")
            metadata[key] = self._value(self._number("I"), key)
        return metadata

    def _read_tensors(self, count: int) -> dict[str, TensorInfo]:
        self._check_count(count, least_bytes=32, what="tensors")
        entries = []
        for _ in range(count):
            name = self._string()
            num_dimensions = self._number("I")
            if not 1 <= num_dimensions <= _MAX_DIMENSIONS:
                raise self._file.fail(f"tensor {name!r} has {num_dimensions} dimensions")
            shape = tuple(self._number("Q") for _ in range(num_dimensions))[::-1]
            entries.append((name, shape, self._number("I"), self._number("Q")))
        alignment = self.metadata.get("general.alignment", 32)
        if not isinstance(alignment, int) or not 1 <= alignment <= _MAX_ALIGNMENT or alignment & (alignment - 1):
            raise self._file.fail(f"general.alignment is {alignment!r}")
        data_start = -(-self._position // alignment) * alignment
        tensors: dict[str, TensorInfo] = {}
        for name, shape, type_id, offset in entries:
            if name in tensors:
                raise self._file.fail(f"has the tensor {name!r} twice")
            tensors[name] = self._tensor(name, shape, type_id, data_start + offset)
        return tensors

    def _tensor(self, name: str, shape: tuple[int, ...], type_id: int, offset: int) -> TensorInfo:
        from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

        sizes = {int(kind): size for kind, size in GGML_QUANT_SIZES.items()}
        if type_id not in sizes:
            known = type_id in {int(kind) for kind in GGMLQuantizationType}
            remedy = "Update the gguf package, or use a file of another quantisation." if not known else _DAMAGED
            raise self._file.fail(f"tensor {name!r} has the unknown type {type_id}", remedy)
        block_length, block_bytes = sizes[type_id]
        num_elements = 1
        for size in shape:
            num_elements *= size
        if num_elements == 0 or shape[-1] % block_length:
            raise self._file.fail(f"tensor {name!r} has the impossible shape {list(shape)}")
        num_bytes = num_elements // block_length * block_bytes
        if offset + num_bytes > len(self._file):
            raise self._file.fail(
                f"tensor {name!r} ends at byte {offset + num_bytes}, but the file has {len(self._file)}"
            )
        return TensorInfo(name, shape, type_id, offset, num_bytes)

    def _value(self, kind: int, key: str) -> Any:
        if kind in _SCALARS:
            return self._number(_SCALARS[kind])
        if kind == _STRING:
            return self._string()
        if kind != _ARRAY:
            raise self._file.fail(f"metadata {key!r} has the unknown type {kind}")
        element, count = self._number("I"), self._number("Q")
        if element == _STRING:
            self._check_count(count, least_bytes=8, what=f"strings in {key!r}")
            return [self._string() for _ in range(count)]
        if element not in _SCALARS:
            raise self._file.fail(f"metadata {key!r} is an array of the unsupported type {element}")
        code = _SCALARS[element]
        size = struct.calcsize("<" + code)
        self._check_count(count, least_bytes=size, what=f"values in {key!r}")
        return list(struct.unpack(f"<{count}{code}", self._take(count * size)))

    def _number(self, code: str) -> Any:
        return struct.unpack("<" + code, self._take(struct.calcsize("<" + code)))[0]

    def _string(self) -> str:
        length = self._number("Q")
        self._check_count(length, least_bytes=1, what="bytes in a string")
        try:
            return self._take(length).decode("utf-8")
        except UnicodeDecodeError:
            raise self._file.fail(f"has a string that is not UTF-8 before byte {self._position}") from None

    def _take(self, count: int) -> bytes:
        if count > len(self._file) - self._position:
            raise self._file.fail(f"ends inside its header, at byte {len(self._file)}")
        self._position += count
        return self._file.bytes_at(self._position - count, count)

    def _check_count(self, count: int, least_bytes: int, what: str) -> None:
        if count * least_bytes > len(self._file) - self._position:
            raise self._file.fail(f"claims {count} {what}, more than the rest of the file can hold")
