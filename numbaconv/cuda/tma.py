"""PTX of sm_90's Tensor Memory Accelerator (TMA): one thread asks for a tile of an array, and a barrier tells when it is there.

A barrier, 8 bytes in shared memory, goes through phases: a phase is over when as many threads as were said have arrived, and
all bytes have come that those of them which ``expect`` some have named. The k-th phase is waited for with the parity k % 2;
before the first one is over a parity of 1 does not wait. As in :mod:`numbaconv.cuda.ptx` each instruction says in NumPy what it
means; there tiles come as late as they may.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numba.cuda import cgutils, types
from numba.cuda.extending import intrinsic

from numbaconv.cuda.ptx import SHARED, instruction
from numbaconv.cuda.target import simulated
from numbaconv.cuda.tensor_map import WORDS, Pixels, Rows, described
from numbaconv.cuda.warpgroup import ROW

__all__ = [
    "LOAD", "OFFSETS", "acquire", "arrive", "expect", "fence_barriers", "load_pixels", "load_rows", "prepare", "put_words",
    "release", "wait",
]  # fmt: skip

PATIENCE = 60  # seconds after which a simulated thread says that what it waits for does not come


class _Barrier:
    """A barrier of the simulator's, for so many arrivals a phase."""

    def __init__(self, count: int) -> None:
        self.count = self.pending = count
        self.over = 0  # phases
        self.expected = 0  # bytes
        self.coming: list[tuple[int, Callable[[], None]]] = []

    def arrive(self, count: int) -> None:
        """Note that a thread is there, which expects so many bytes."""
        self.passed(self.over % 2)
        if not self.pending:
            raise RuntimeError("a phase is not over, and the next one begins")
        self.pending, self.expected = self.pending - 1, self.expected + count

    def passed(self, parity: int) -> bool:
        if self.over % 2 == parity and not self.pending:
            bytes_coming = sum(count for count, _ in self.coming)
            if bytes_coming > self.expected:
                raise RuntimeError(f"{bytes_coming} bytes come where {self.expected} are expected")
            if bytes_coming == self.expected:
                for _, copy in self.coming:
                    copy()
                self.over, self.pending, self.expected, self.coming = self.over + 1, self.count, 0, []
        return self.over % 2 != parity


_barriers: dict[int, _Barrier] = {}
_changed = threading.Condition()  # a barrier did


def _prepare(address: Any, count: Any) -> None:
    _barriers[int(address[0])] = _Barrier(int(count[0]))


def _arrive(address: Any) -> None:
    _expect(address, np.zeros(1, int))


def _expect(address: Any, count: Any) -> None:
    with _changed:
        _barriers[int(address[0])].arrive(int(count[0]))
        _changed.notify_all()


def _wait(address: Any, parity: Any) -> None:
    barrier = _barriers[int(address[0])]
    with _changed:
        if not _changed.wait_for(lambda: barrier.passed(int(parity[0])), PATIENCE):
            raise RuntimeError("what a barrier waits for does not come")


prepare = instruction("mbarrier.init.shared::cta.b64 [$0], $1;", "", f"{SHARED}r", _prepare, effects=True)
expect = instruction("mbarrier.arrive.expect_tx.shared::cta.b64 _, [$0], $1;", "", f"{SHARED}r", _expect, effects=True)
arrive = instruction("mbarrier.arrive.shared::cta.b64 _, [$0];", "", SHARED, _arrive, effects=True)
_WAITING = "again: mbarrier.try_wait.parity.shared::cta.b64 over, [$0], $1; @!over bra again;"
wait = instruction(f"{{ .reg .pred over; {_WAITING} }}", "", f"{SHARED}r", _wait, effects=True)
fence_barriers = instruction("fence.mbarrier_init.release.cluster;", "", "", lambda: None, effects=True)

# Tensor maps that a kernel writes are read past its caches: what was written comes out, and is read anew.
release = instruction("fence.proxy.tensormap::generic.release.gpu;", "", "", lambda: None, effects=True)
acquire = instruction("fence.proxy.tensormap::generic.acquire.gpu [$0], 128;", "", "l", lambda address: None, effects=True)


def _put_words(pointer: Any, first: Any, words: Any) -> None:
    for i, word in enumerate(words):
        pointer[first + i] = word


if simulated():
    put_words = _put_words
else:

    @intrinsic
    def put_words(typing_context: Any, pointer: Any, first: Any, words: Any) -> Any:
        """Write a tuple of words from pointer[first] on. In a loop over a tuple every word is looked for."""

        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            for i, word in enumerate(cgutils.unpack_tuple(builder, args[2])):
                builder.store(word, builder.gep(args[0], [builder.add(args[1], args[1].type(i))]))
            return context.get_dummy_value()

        return types.void(pointer, types.int64, words), codegen


# ---------------------------------------------------------------- tiles


def _form(tensor_map: Any) -> tuple[Any, int]:
    return described((ctypes.c_int64 * WORDS).from_address(int(tensor_map[0])))


def _bring(form: Pixels | Rows, to: int, barrier: int, c: int, rows: Iterator[int | None]) -> None:
    """Copy the channels from c on of rows at addresses, or zeros, in rows of 128 bytes whose parts are exchanged."""
    size = ROW // form.channels

    def copy() -> None:
        for r, row in enumerate(rows):
            line = np.zeros(ROW, np.uint8)
            if row is not None and 0 <= c < form.sizes[0]:
                count = min(form.channels, form.sizes[0] - c) * size
                line[:count] = np.ctypeslib.as_array((ctypes.c_uint8 * count).from_address(row + c * size))
            for part in range(0, ROW, 16):
                place = to + r * ROW + part
                ctypes.memmove(place ^ (place >> 7 & 7) << 4, line[part : part + 16].ctypes.data, 16)

    with _changed:
        many = form.pixels if isinstance(form, Pixels) else form.rows
        _barriers[barrier].coming.append((many * ROW, copy))
        _changed.notify_all()


def _load_pixels(to: Any, tensor_map: Any, c: Any, w: Any, h: Any, n: Any, barrier: Any, right: Any, down: Any) -> None:
    form, address = _form(tensor_map)
    at_w, at_h, at_n = (int(column.view(np.int32)[0]) for column in (w, h, n))

    def rows() -> Iterator[int | None]:
        x, y, image = at_w, at_h, at_n
        for _ in range(form.pixels):
            position = x + int(right[0]), y + int(down[0]), image
            there = all(0 <= p < size for p, size in zip(position, form.sizes[1:], strict=True))
            yield address + sum(p * s for p, s in zip(position, form.strides, strict=True)) if there else None
            x += form.steps[0]
            if x > form.sizes[1] - 1 + form.upper[0]:
                x, y = form.lower[0], y + form.steps[1]
                if y > form.sizes[2] - 1 + form.upper[1]:
                    y, image = form.lower[1], image + 1

    _bring(form, int(to[0]), int(barrier[0]), int(c[0]), rows())


def _load_rows(to: Any, tensor_map: Any, c: Any, tap: Any, row: Any, barrier: Any) -> None:
    form, address = _form(tensor_map)
    first, start = int(row[0]), address + int(tap[0]) * form.strides[0]
    rows = (start + r * form.strides[1] if r < form.sizes[2] else None for r in range(first, first + form.rows))
    _bring(form, int(to[0]), int(barrier[0]), int(c[0]), rows)


LOAD = "cp.async.bulk.tensor.{}.shared::cluster.global.{}.mbarrier::complete_tx::bytes"
OFFSETS = ".reg .b16 right, down; cvt.u16.u32 right, $7; cvt.u16.u32 down, $8;"
_PIXELS = f"{LOAD.format('4d', 'im2col')} [$0], [$1, {{$2, $3, $4, $5}}], [$6], {{right, down}};"
_ROWS = f"{LOAD.format('3d', 'tile')} [$0], [$1, {{$2, $3, $4}}], [$5];"

# To shared memory by the map: the channels from c on of pixels from (w, h) of image n on, what is read lying `right` and `down`;
# of a tap of several rows, from one on.
load_pixels = instruction(f"{{ {OFFSETS} {_PIXELS} }}", "", f"{SHARED}lrrrr{SHARED}rr", _load_pixels, effects=True)
load_rows = instruction(_ROWS, "", f"{SHARED}lrrr{SHARED}", _load_rows, effects=True)
