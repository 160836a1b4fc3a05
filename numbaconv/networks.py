"""How a problem is written in one word, and the distinct convolutions of networks that everybody knows."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from numbaconv.errors import bad_value
from numbaconv.options import Size

__all__ = ["NETWORKS", "USUAL", "Layer", "layers"]

# Convolutions of one picture (batch 1): every distinct one once, *N where the network has N of them.
# resnet50 strides in its 3x3 (v1.5). efficientnetb0 convolves 1x1 images to weigh channels. convnexttiny writes its 1x1 layers as
# linear ones. unet is the one of 2015, padded to keep 256x256, without its four transposed 2x2. inceptionv3 reads 299x299, and is
# without its auxiliary classifier; the others read 224x224. No network has its fully connected layers.
# "selection" is no network: it is what the result tables are of, and benchmarks/layers.py has names for it.
NETWORKS = {
    "resnet50": """
        1x3x224x224,64,7x7,s2,p3
        1x64x56x56,64,1x1  1x64x56x56,64,3x3,p1*3  1x64x56x56,256,1x1*4  1x256x56x56,64,1x1*2  1x256x56x56,128,1x1
        1x128x56x56,128,3x3,s2,p1  1x256x56x56,512,1x1,s2
        1x128x28x28,512,1x1*4  1x512x28x28,128,1x1*3  1x128x28x28,128,3x3,p1*3  1x512x28x28,256,1x1  1x256x28x28,256,3x3,s2,p1
        1x512x28x28,1024,1x1,s2
        1x256x14x14,1024,1x1*6  1x1024x14x14,256,1x1*5  1x256x14x14,256,3x3,p1*5  1x1024x14x14,512,1x1
        1x512x14x14,512,3x3,s2,p1  1x1024x14x14,2048,1x1,s2
        1x512x7x7,2048,1x1*3  1x2048x7x7,512,1x1*2  1x512x7x7,512,3x3,p1*2""",
    "vgg16": """
        1x3x224x224,64,3x3,p1  1x64x224x224,64,3x3,p1
        1x64x112x112,128,3x3,p1  1x128x112x112,128,3x3,p1
        1x128x56x56,256,3x3,p1  1x256x56x56,256,3x3,p1*2
        1x256x28x28,512,3x3,p1  1x512x28x28,512,3x3,p1*2
        1x512x14x14,512,3x3,p1*3""",
    "mobilenetv2": """
        1x3x224x224,32,3x3,s2,p1
        1x32x112x112,32,3x3,p1,g32  1x32x112x112,16,1x1  1x16x112x112,96,1x1  1x96x112x112,96,3x3,s2,p1,g96
        1x96x56x56,24,1x1  1x24x56x56,144,1x1*2  1x144x56x56,144,3x3,p1,g144  1x144x56x56,24,1x1  1x144x56x56,144,3x3,s2,p1,g144
        1x144x28x28,32,1x1  1x32x28x28,192,1x1*3  1x192x28x28,192,3x3,p1,g192*2  1x192x28x28,32,1x1*2
        1x192x28x28,192,3x3,s2,p1,g192
        1x192x14x14,64,1x1  1x64x14x14,384,1x1*4  1x384x14x14,384,3x3,p1,g384*4  1x384x14x14,64,1x1*3  1x384x14x14,96,1x1
        1x96x14x14,576,1x1*3  1x576x14x14,576,3x3,p1,g576*2  1x576x14x14,96,1x1*2  1x576x14x14,576,3x3,s2,p1,g576
        1x576x7x7,160,1x1  1x160x7x7,960,1x1*3  1x960x7x7,960,3x3,p1,g960*3  1x960x7x7,160,1x1*2  1x960x7x7,320,1x1
        1x320x7x7,1280,1x1""",
    "efficientnetb0": """
        1x3x224x224,32,3x3,s2,p1
        1x32x112x112,32,3x3,p1,g32  1x32x112x112,16,1x1  1x16x112x112,96,1x1  1x96x112x112,96,3x3,s2,p1,g96
        1x32x1x1,8,1x1  1x8x1x1,32,1x1  1x96x1x1,4,1x1  1x4x1x1,96,1x1  1x144x1x1,6,1x1*2  1x6x1x1,144,1x1*2  1x240x1x1,10,1x1*2
        1x10x1x1,240,1x1*2  1x480x1x1,20,1x1*3  1x20x1x1,480,1x1*3  1x672x1x1,28,1x1*3  1x28x1x1,672,1x1*3  1x1152x1x1,48,1x1*4
        1x48x1x1,1152,1x1*4
        1x96x56x56,24,1x1  1x24x56x56,144,1x1*2  1x144x56x56,144,3x3,p1,g144  1x144x56x56,24,1x1  1x144x56x56,144,5x5,s2,p2,g144
        1x144x28x28,40,1x1  1x40x28x28,240,1x1*2  1x240x28x28,240,5x5,p2,g240  1x240x28x28,40,1x1
        1x240x28x28,240,3x3,s2,p1,g240
        1x240x14x14,80,1x1  1x80x14x14,480,1x1*3  1x480x14x14,480,3x3,p1,g480*2  1x480x14x14,80,1x1*2
        1x480x14x14,480,5x5,p2,g480  1x480x14x14,112,1x1  1x112x14x14,672,1x1*3  1x672x14x14,672,5x5,p2,g672*2
        1x672x14x14,112,1x1*2  1x672x14x14,672,5x5,s2,p2,g672
        1x672x7x7,192,1x1  1x192x7x7,1152,1x1*4  1x1152x7x7,1152,5x5,p2,g1152*3  1x1152x7x7,192,1x1*3
        1x1152x7x7,1152,3x3,p1,g1152  1x1152x7x7,320,1x1  1x320x7x7,1280,1x1""",
    "convnexttiny": """
        1x3x224x224,96,4x4,s4
        1x96x56x56,96,7x7,p3,g96*3  1x96x56x56,384,1x1*3  1x384x56x56,96,1x1*3  1x96x56x56,192,2x2,s2
        1x192x28x28,192,7x7,p3,g192*3  1x192x28x28,768,1x1*3  1x768x28x28,192,1x1*3  1x192x28x28,384,2x2,s2
        1x384x14x14,384,7x7,p3,g384*9  1x384x14x14,1536,1x1*9  1x1536x14x14,384,1x1*9  1x384x14x14,768,2x2,s2
        1x768x7x7,768,7x7,p3,g768*3  1x768x7x7,3072,1x1*3  1x3072x7x7,768,1x1*3""",
    "unet": """
        1x1x256x256,64,3x3,p1  1x64x256x256,64,3x3,p1*2  1x128x256x256,64,3x3,p1  1x64x256x256,2,1x1
        1x64x128x128,128,3x3,p1  1x128x128x128,128,3x3,p1*2  1x256x128x128,128,3x3,p1
        1x128x64x64,256,3x3,p1  1x256x64x64,256,3x3,p1*2  1x512x64x64,256,3x3,p1
        1x256x32x32,512,3x3,p1  1x512x32x32,512,3x3,p1*2  1x1024x32x32,512,3x3,p1
        1x512x16x16,1024,3x3,p1  1x1024x16x16,1024,3x3,p1""",
    "inceptionv3": """
        1x3x299x299,32,3x3,s2  1x32x149x149,32,3x3
        1x32x147x147,64,3x3,p1
        1x64x73x73,80,1x1  1x80x73x73,192,3x3
        1x192x35x35,64,1x1*2  1x192x35x35,48,1x1  1x48x35x35,64,5x5,p2*3  1x64x35x35,96,3x3,p1*4  1x96x35x35,96,3x3,p1*3
        1x192x35x35,32,1x1  1x256x35x35,64,1x1*3  1x256x35x35,48,1x1  1x288x35x35,64,1x1*4  1x288x35x35,48,1x1
        1x288x35x35,384,3x3,s2  1x96x35x35,96,3x3,s2
        1x768x17x17,192,1x1*12  1x768x17x17,128,1x1*2  1x128x17x17,128,1x7,p0x3*2  1x128x17x17,192,7x1,p3x0
        1x128x17x17,128,7x1,p3x0*2  1x128x17x17,192,1x7,p0x3  1x768x17x17,160,1x1*4  1x160x17x17,160,1x7,p0x3*4
        1x160x17x17,192,7x1,p3x0*2  1x160x17x17,160,7x1,p3x0*4  1x160x17x17,192,1x7,p0x3*2  1x192x17x17,192,1x7,p0x3*4
        1x192x17x17,192,7x1,p3x0*4  1x192x17x17,320,3x3,s2  1x192x17x17,192,3x3,s2
        1x1280x8x8,320,1x1  1x1280x8x8,384,1x1  1x384x8x8,384,1x3,p0x1*4  1x384x8x8,384,3x1,p1x0*4  1x1280x8x8,448,1x1
        1x448x8x8,384,3x3,p1*2  1x1280x8x8,192,1x1  1x2048x8x8,320,1x1  1x2048x8x8,384,1x1  1x2048x8x8,448,1x1
        1x2048x8x8,192,1x1""",
    "selection": """
        1x2x3x3,1,2x2  1x2x3x3,3,2x2
        1x64x28x28,128,1x1  1x32x32x32,16,1x1  1x256x14x14,64,1x1  1x64x14x14,256,1x1  1x64x14x14,64,3x3,p1
        1x3x224x224,64,7x7,s2,p3  1x64x56x56,64,1x1  1x64x56x56,64,3x3,p1  1x64x56x56,256,1x1
        1x128x56x56,128,3x3,s2,p1  1x256x56x56,512,1x1,s2  1x128x28x28,128,3x3,p1
        1x256x14x14,256,3x3,p1  1x1024x14x14,256,1x1  1x512x7x7,512,3x3,p1  1x512x7x7,2048,1x1
        1x64x224x224,64,3x3,p1  1x256x56x56,256,3x3,p1
        1x32x112x112,32,3x3,p1,g32  1x96x112x112,96,3x3,s2,p1,g96  1x144x56x56,144,3x3,p1,g144
        1x96x56x56,96,7x7,p3,g96  8x128x28x28,128,3x3,p1  1x128x56x56,128,3x3,p1,g32
        1x1x1024x1024,1,3x3,p1  1x3x512x512,8,5x5,p2""",
}
USUAL = ("resnet50", "mobilenetv2", "vgg16")  # what is tuned unless told
_SIZES = r"\d+(?:x\d+)*"
_SHAPE = re.compile(rf"({_SIZES}),(\d+),({_SIZES})((?:,[spd]{_SIZES}|,g[1-9]\d*)*)(?:\*([1-9]\d*))?", re.ASCII)
_OPTIONS = {"s": "stride", "p": "padding", "d": "dilation", "g": "groups"}


@dataclass(frozen=True)
class Layer:
    """A convolution without its data: shapes, channels first, and other arguments of ``conv1d``, ``conv2d`` or ``conv3d``."""

    input: Size  # (N, C, H, W)
    weight: Size  # (O, C / groups, kh, kw)
    options: dict[str, Any]
    count: int = 1  # how often the network has it

    @property
    def ndim(self) -> int:
        """How many spatial axes it has."""
        return len(self.input) - 2

    @property
    def word(self) -> str:
        """The one that it is written as, without how often."""
        options = {letter: self.options.get(name, 1) for letter, name in _OPTIONS.items()}
        given = {**options, "p": self.options.get("padding", 0)}
        sizes = {letter: size if isinstance(size, tuple) else (size,) for letter, size in given.items()}
        said = [letter + _written(size) for letter, size in sizes.items() if set(size) != {letter != "p"}]
        return ",".join([_written(self.input), str(self.weight[0]), _written(self.weight[2:]), *said])


def layers(text: str) -> list[Layer]:
    """Return the layers of a network, by its name, or the one that is written as ``"1x64x56x56,64,3x3,s1,p1,g1,d1*1"``.

    Parameters
    ----------
    text : str
        Input NxCxHxW, output channels, kernel; then stride, padding, groups and dilation, where they are not 1, 0, 1 and 1;
        then ``*N`` for N such layers. With one spatial axis or three likewise. ``s2x1`` is a stride for each axis.

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
    weight = (int(match[2]), input[1] // groups, *kernel)
    return Layer(input, weight, {**options, "groups": groups}, int(match[5] or 1))


def _written(size: Size) -> str:
    return "x".join(map(str, size))


def _numbers(text: str) -> Size:
    return tuple(map(int, text.split("x")))
