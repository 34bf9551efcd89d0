"""Messages between a simulation and its worker processes, through pipes.

Arrays follow the message as they lie in memory, so that numbers are copied and
never converted; a pipe needs no shared memory, of which containers have little.
"""

from __future__ import annotations

import io
import pickle
import struct
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor, nn

_COUNT = struct.Struct("<Q")


@dataclass(frozen=True)
class Packed:
    """An object as bytes.

    Attributes:
        head: the object without its arrays.
        arrays: bytes of the arrays, in order.
    """

    head: bytes
    arrays: tuple[bytes, ...]


class _Pickler(pickle.Pickler):
    """Takes arrays and tensors out of band, and refuses what only ``__main__`` knows."""

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, type) or callable(obj):
            if getattr(obj, "__module__", None) == "__main__" and hasattr(obj, "__qualname__"):
                raise pickle.PicklingError(
                    f"{obj.__qualname__} is defined in the script itself; put it into a module "
                    "that can be imported"
                )
            if isinstance(obj, type):
                return NotImplemented
        if type(obj) is nn.Parameter and _is_plain(obj):
            return _parameter, (obj.detach().numpy(), obj.requires_grad)
        if type(obj) is Tensor and _is_plain(obj) and not obj.requires_grad:
            return _tensor, (obj.detach().numpy(),)
        return NotImplemented


def _is_plain(tensor: Tensor) -> bool:
    return (
        tensor.device.type == "cpu"
        and tensor.layout == torch.strided
        and tensor.dtype != torch.bfloat16
        and tensor.is_contiguous()
        and not tensor.is_conj()
        and not tensor.is_neg()
    )


def _tensor(array: np.ndarray) -> Tensor:
    # In memory of PyTorch's own, whose alignment kernels may depend on.
    return torch.from_numpy(np.asarray(array)).clone()


def _parameter(array: np.ndarray, requires_grad: bool) -> nn.Parameter:
    return nn.Parameter(_tensor(array), requires_grad=requires_grad)


def pack(message: object) -> Packed:
    """A message as bytes.

    Raises:
        Exception: of whatever kind pickling raises, if it can't leave this process.
    """
    stream = io.BytesIO()
    buffers: list[pickle.PickleBuffer] = []
    _Pickler(stream, protocol=5, buffer_callback=buffers.append).dump(message)
    return Packed(stream.getvalue(), tuple(bytes(buffer.raw()) for buffer in buffers))


def unpack(packed: Packed) -> Any:
    """The message that was packed, with arrays of its own."""
    return pickle.loads(packed.head, buffers=[bytearray(a) for a in packed.arrays])


def send(stream: BinaryIO, packed: Packed) -> None:
    """Write a packed message.

    Raises:
        OSError: the other side is gone.
    """
    parts = (packed.head, *packed.arrays)
    stream.write(_COUNT.pack(len(parts)))
    for part in parts:
        stream.write(_COUNT.pack(len(part)))
        stream.write(part)
    stream.flush()


def receive(stream: BinaryIO) -> Packed:
    """Read the next message.

    Raises:
        EOFError: the other side is gone.
    """
    (n_parts,) = _COUNT.unpack(_read(stream, _COUNT.size))
    head, *arrays = (_part(stream) for _ in range(n_parts))
    return Packed(head, tuple(arrays))


def _part(stream: BinaryIO) -> bytes:
    return _read(stream, _COUNT.unpack(_read(stream, _COUNT.size))[0])


def _read(stream: BinaryIO, n_bytes: int) -> bytes:
    found = stream.read(n_bytes)
    if len(found) < n_bytes:
        raise EOFError("the other process has closed its end of the pipe")
    return found
