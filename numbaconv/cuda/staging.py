"""How a block of the depthwise kernel uses its shared memory: the weights, then the input of a tile, in elements.

Weights lie channel by channel. A channel's taps are cut into bands of `taps` rows, the taps of a column of a band lie together,
from a multiple of four on where there are several, and channels lie so that a warp reads eight of them from different banks.
"""

from __future__ import annotations

__all__ = ["extent", "neighbours", "padded", "row_pitch", "tap_place", "weight_pitch", "weight_space"]


def neighbours(itemsize: int, compound: bool) -> int:
    """How many elements are 16 bytes; 1 of complex numbers, which no instruction loads as vectors."""
    return 1 if compound else 16 // itemsize


def extent(outputs: int, kernel: int, stride: int, dilation: int) -> int:
    """How many inputs so many neighbouring outputs read."""
    return (outputs - 1) * stride + (kernel - 1) * dilation + 1


def row_pitch(columns: int, many: int) -> int:
    """The room for a row of columns, wherever between two multiples of `many` it begins."""
    return (columns + 2 * (many - 1)) // many * many


def padded(taps: int) -> int:
    """The room for the taps that lie together."""
    return 1 if taps == 1 else (taps + 3) // 4 * 4


def tap_place(kh: int, kw: int, kernel_w: int, taps: int, room: int) -> int:
    """Where a tap of a channel lies."""
    return (kh // taps * kernel_w + kw) * room + kh % taps


def weight_pitch(kernel_h: int, kernel_w: int, taps: int, room: int) -> int:
    """The distance of channels: an odd number of what is read at once."""
    return kernel_h // taps * kernel_w * room | min(room, 4)


def weight_space(channels: int, pitch: int) -> int:
    """The room for all weights, a multiple of 16 elements."""
    return (channels * pitch + 15) // 16 * 16
