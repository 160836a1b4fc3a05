"""Libraries whose arrays live on the GPU, seen alike."""

from contextlib import nullcontext

import ml_dtypes
import numpy as np
import pytest
from on_gpu import upload


class Numba:
    def __init__(self):
        from numba import cuda

        self.cuda, self.kind = cuda, type(cuda.device_array(1))

    def put(self, array):
        return upload(array)

    def back(self, array):
        return array.copy_to_host()

    def empty(self, shape, dtype):
        return self.cuda.device_array(shape, dtype)

    def fill(self, array, values):
        array.copy_to_device(values)

    def address(self, array):
        return array.__cuda_array_interface__["data"][0]

    def stream(self):
        return self.cuda.stream()

    def pointer(self, stream):
        return int(stream)

    def on(self, stream):
        """Numba has no current stream: calls name theirs."""
        return nullcontext()

    def count_allocations(self, monkeypatch):
        return counted(monkeypatch, self.cuda, "device_array")


class CuPy:
    def __init__(self):
        self.cupy = pytest.importorskip("cupy")
        self.kind = self.cupy.ndarray

    def put(self, array):
        return self.cupy.asarray(array)

    def back(self, array):
        return array.get()

    def empty(self, shape, dtype):
        return self.cupy.empty(shape, dtype)

    def fill(self, array, values):
        array.set(values)

    def address(self, array):
        return array.data.ptr

    def stream(self):
        return self.cupy.cuda.Stream(non_blocking=True)

    def pointer(self, stream):
        return stream.ptr

    def on(self, stream):
        return stream

    def count_allocations(self, monkeypatch):
        return counted(monkeypatch, self.cupy, "empty")


class Torch:
    def __init__(self):
        self.torch = pytest.importorskip("torch")
        if not self.torch.cuda.is_available():
            pytest.skip("this torch finds no GPU")
        self.kind = self.torch.Tensor

    def put(self, array):
        if array.dtype == ml_dtypes.bfloat16:
            return self.torch.from_numpy(array.view(np.int16)).cuda().view(self.torch.bfloat16)
        return self.torch.from_numpy(array).cuda()

    def back(self, array):
        if array.dtype == self.torch.bfloat16:
            return array.contiguous().view(self.torch.int16).cpu().numpy().view(ml_dtypes.bfloat16)
        return array.cpu().numpy()

    def empty(self, shape, dtype):
        return self.torch.empty(shape, dtype=getattr(self.torch, np.dtype(dtype).name), device="cuda")

    def fill(self, array, values):
        array.copy_(self.torch.from_numpy(values))

    def address(self, array):
        return array.data_ptr()

    def stream(self):
        return self.torch.cuda.Stream()

    def pointer(self, stream):
        return stream.cuda_stream

    def on(self, stream):
        return self.torch.cuda.stream(stream)

    def count_allocations(self, monkeypatch):
        return lambda: self.torch.cuda.memory_stats()["allocation.all.allocated"]


def counted(monkeypatch, module, name):
    """Count the calls of a function from now on."""
    usual, calls = getattr(module, name), []

    def counting(*args, **kwargs):
        calls.append(name)
        return usual(*args, **kwargs)

    monkeypatch.setattr(module, name, counting)
    return lambda: len(calls)


FAMILIES = {"numba": Numba, "cupy": CuPy, "torch": Torch}
