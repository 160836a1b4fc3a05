"""How a problem is written in one word, and the distinct convolutions of networks that everybody knows."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from numbaconv.errors import bad_value
from numbaconv.options import Size

__all__ = ["NETWORKS", "Layer", "layers"]

# Batch 1 and images of 224x224; every size and stride once.
NETWORKS = {
    "resnet50": """
        1x3x224x224,64,7x7,s2,p3
        1x64x56x56,64,1x1  1x64x56x56,64,3x3,p1  1x64x56x56,256,1x1  1x256x56x56,64,1x1
        1x256x56x56,128,1x1  1x128x56x56,128,3x3,s2,p1  1x256x56x56,512,1x1,s2
        1x128x28x28,512,1x1  1x512x28x28,128,1x1  1x128x28x28,128,3x3,p1
        1x512x28x28,256,1x1  1x256x28x28,256,3x3,s2,p1  1x512x28x28,1024,1x1,s2
        1x256x14x14,1024,1x1  1x1024x14x14,256,1x1  1x256x14x14,256,3x3,p1
        1x1024x14x14,512,1x1  1x512x14x14,512,3x3,s2,p1  1x1024x14x14,2048,1x1,s2
        1x512x7x7,2048,1x1  1x2048x7x7,512,1x1  1x512x7x7,512,3x3,p1""",
    "mobilenetv2": """
        1x3x224x224,32,3x3,s2,p1
        1x32x112x112,32,3x3,p1,g32  1x32x112x112,16,1x1
        1x16x112x112,96,1x1  1x96x112x112,96,3x3,s2,p1,g96  1x96x56x56,24,1x1
        1x24x56x56,144,1x1  1x144x56x56,144,3x3,p1,g144  1x144x56x56,24,1x1
        1x144x56x56,144,3x3,s2,p1,g144  1x144x28x28,32,1x1
        1x32x28x28,192,1x1  1x192x28x28,192,3x3,p1,g192  1x192x28x28,32,1x1
        1x192x28x28,192,3x3,s2,p1,g192  1x192x14x14,64,1x1
        1x64x14x14,384,1x1  1x384x14x14,384,3x3,p1,g384  1x384x14x14,64,1x1  1x384x14x14,96,1x1
        1x96x14x14,576,1x1  1x576x14x14,576,3x3,p1,g576  1x576x14x14,96,1x1
        1x576x14x14,576,3x3,s2,p1,g576  1x576x7x7,160,1x1
        1x160x7x7,960,1x1  1x960x7x7,960,3x3,p1,g960  1x960x7x7,160,1x1  1x960x7x7,320,1x1
        1x320x7x7,1280,1x1""",
    "vgg16": """
        1x3x224x224,64,3x3,p1  1x64x224x224,64,3x3,p1  1x64x112x112,128,3x3,p1  1x128x112x112,128,3x3,p1
        1x128x56x56,256,3x3,p1  1x256x56x56,256,3x3,p1  1x256x28x28,512,3x3,p1  1x512x28x28,512,3x3,p1
        1x512x14x14,512,3x3,p1""",
}
_SIZES = r"\d+(?:x\d+)*"
_SHAPE = re.compile(rf"({_SIZES}),(\d+),({_SIZES})((?:,[spd]{_SIZES}|,g[1-9]\d*)*)", re.ASCII)
_OPTIONS = {"s": "stride", "p": "padding", "d": "dilation", "g": "groups"}


class Layer(NamedTuple):
    """A convolution without its data: shapes, channels first, and other arguments of ``conv1d``, ``conv2d`` or ``conv3d``."""

    input: Size  # (N, C, H, W)
    weight: Size  # (O, C / groups, kh, kw)
    options: dict[str, Any]

    @property
    def ndim(self) -> int:
        """How many spatial axes it has."""
        return len(self.input) - 2


def layers(text: str) -> list[Layer]:
    """Return the layers of a network, by its name, or the one that is written as ``"1x64x56x56,64,3x3,s1,p1,g1,d1"``.

    Parameters
    ----------
    text : str
        Input NxCxHxW, output channels, kernel; then stride, padding, groups and dilation, where they are not 1, 0, 1 and 1.
        With one spatial axis or three likewise. ``s2x1`` is a stride for each axis.

    Raises
    ------
    ValueError
        For anything else.
    """
    if text in NETWORKS:
        return [_layer(word) for word in NETWORKS[text].split()]
    return [_layer(text)]


def _layer(text: str) -> Layer:
    match = _SHAPE.fullmatch(text)
    words = match[4].split(",")[1:] if match else []
    once = len({word[0] for word in words}) == len(words)
    if not match or not once or match[1].count("x") not in (2, 3, 4) or match[1].count("x") - match[3].count("x") != 2:
        names = ", ".join(NETWORKS)
        raise bad_value("SHAPE", f"one such as 1x64x56x56,64,3x3,s1,p1,g1,d1, or one of {names}", repr(text))
    input, kernel = _numbers(match[1]), _numbers(match[3])
    options = {_OPTIONS[word[0]]: _numbers(word[1:]) for word in words}
    groups = options.pop("groups", (1,))[0]
    return Layer(input, (int(match[2]), input[1] // groups, *kernel), {**options, "groups": groups})


def _numbers(text: str) -> Size:
    return tuple(map(int, text.split("x")))
