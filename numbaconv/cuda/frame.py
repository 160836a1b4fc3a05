"""The arguments of launches as words in memory, where the driver reads them: between calls only addresses change.

Kernels take words of 8 bytes, and the driver is told where each lies: so arguments that begin at the same place share a word.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from numbaconv.cuda.driver import Configuration, check, launcher
from numbaconv.cuda.shadow import Place, place_of
from numbaconv.cuda.tensor_map import WORDS, TensorMap, encoded

__all__ = ["Call", "Frame", "Word"]

Word = np.ndarray | TensorMap | int  # what a word of an argument stands for; those of a tensor map are it and zeros


class Call(NamedTuple):
    """One launch."""

    kernel: Any  # the driver's handle
    blocks: int
    block: tuple[int, int, int]
    shared: int
    words: Sequence[Word]


class Frame:
    """Launches, with their arguments in memory. One thread may have it at a time."""

    def __init__(self, calls: Sequence[Call]) -> None:
        shadows = [word for call in calls for word in call.words if isinstance(word, np.ndarray)]
        self._places = [*dict.fromkeys(place for shadow in shadows if (place := place_of(shadow)) is not None)]
        self._words = (ctypes.c_int64 * (len(self._places) + sum(len(call.words) for call in calls)))()
        self._put = partial(struct.Struct(f"{len(self._places)}q").pack_into, self._words, 0)
        self._used = len(self._places)
        self._maps: list[_MovingMap] = []
        self._parameters = [self._parameters_of(call.words) for call in calls]
        self._configurations = [Configuration((call.blocks, 1, 1), call.block, call.shared) for call in calls]
        self._stream = 0
        self._launchers = [
            launcher(configuration, call.kernel, ctypes.addressof(parameters))
            for configuration, call, parameters in zip(self._configurations, calls, self._parameters, strict=True)
        ]

    def _parameters_of(self, words: Sequence[Word]) -> Any:
        """Give each word its place in memory; return these places' addresses, in memory as well."""
        begin = ctypes.addressof(self._words)
        return (ctypes.c_uint64 * len(words))(*(begin + 8 * self._index_of(word) for word in words))

    def _index_of(self, word: Word) -> int:
        if isinstance(word, np.ndarray) and (place := place_of(word)) is not None:
            return self._places.index(place)
        index, self._used = self._used, self._used + 1
        if isinstance(word, TensorMap):
            self._maps.append(_MovingMap(self._words, index, word))
        else:
            self._words[index] = word.ctypes.data if isinstance(word, np.ndarray) else int(word)
        return index

    def launch(self, stream: int, bases: Sequence[int] = ()) -> None:
        """Launch all of it on a stream, given where the arrays of the regions of imagined arguments begin."""
        if stream != self._stream:
            self._go_to(stream)
        self._put(*[bases[region] + offset for region, offset in self._places])
        for one in self._maps:
            one.move(bases)
        for launch in self._launchers:
            error = launch()
            if error:
                check(error, "launching a CUDA kernel")

    def _go_to(self, stream: int) -> None:
        for configuration in self._configurations:
            configuration.stream = stream
        self._stream = stream


class _MovingMap:
    """The words of a tensor map, which are encoded when its array lies elsewhere than before."""

    def __init__(self, words: Any, index: int, argument: TensorMap) -> None:
        self._words, self._slice, self._form = words, slice(index, index + WORDS), argument.form
        self._place = place_of(argument.array) or Place(-1, argument.array.ctypes.data)
        self._address: int | None = None

    def move(self, bases: Sequence[int]) -> None:
        """Encode it for where its array is now."""
        region, offset = self._place
        address = offset if region < 0 else bases[region] + offset
        if address != self._address:
            self._words[self._slice] = encoded(self._form, address)
            self._address = address
