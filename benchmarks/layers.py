"""Convolution problems to measure on, as literal shapes: imports nothing of the package, so that it serves every commit.

A problem: input (N, C, H, W), weight (O, C / groups, kh, kw), and the other arguments of ``conv2d``; with one spatial axis or
three likewise. The weight of a transposed one is (C, O / groups, kh, kw).
"""

LAYERS = {
    "corr2d.multi_in": ((1, 2, 3, 3), (1, 2, 2, 2), {}),
    "corr2d.multi_in_out": ((1, 2, 3, 3), (3, 2, 2, 2), {}),
    "1x1.64-128": ((1, 64, 28, 28), (128, 64, 1, 1), {}),
    "1x1.32-16": ((1, 32, 32, 32), (16, 32, 1, 1), {}),
    "1x1.256-64": ((1, 256, 14, 14), (64, 256, 1, 1), {}),
    "1x1.64-256": ((1, 64, 14, 14), (256, 64, 1, 1), {}),
    "3x3.64-64": ((1, 64, 14, 14), (64, 64, 3, 3), {"padding": 1}),
    "resnet50.conv1": ((1, 3, 224, 224), (64, 3, 7, 7), {"stride": 2, "padding": 3}),
    "resnet50.2.1x1": ((1, 64, 56, 56), (64, 64, 1, 1), {}),
    "resnet50.2.3x3": ((1, 64, 56, 56), (64, 64, 3, 3), {"padding": 1}),
    "resnet50.2.1x1.up": ((1, 64, 56, 56), (256, 64, 1, 1), {}),
    "resnet50.3.3x3.s2": ((1, 128, 56, 56), (128, 128, 3, 3), {"stride": 2, "padding": 1}),
    "resnet50.3.1x1.s2": ((1, 256, 56, 56), (512, 256, 1, 1), {"stride": 2}),
    "resnet50.3.3x3": ((1, 128, 28, 28), (128, 128, 3, 3), {"padding": 1}),
    "resnet50.4.3x3": ((1, 256, 14, 14), (256, 256, 3, 3), {"padding": 1}),
    "resnet50.4.1x1": ((1, 1024, 14, 14), (256, 1024, 1, 1), {}),
    "resnet50.5.3x3": ((1, 512, 7, 7), (512, 512, 3, 3), {"padding": 1}),
    "resnet50.5.1x1": ((1, 512, 7, 7), (2048, 512, 1, 1), {}),
    "vgg16.1.3x3": ((1, 64, 224, 224), (64, 64, 3, 3), {"padding": 1}),
    "vgg16.3.3x3": ((1, 256, 56, 56), (256, 256, 3, 3), {"padding": 1}),
    "mobilenetv2.dw1": ((1, 32, 112, 112), (32, 1, 3, 3), {"padding": 1, "groups": 32}),
    "mobilenetv2.dw2.s2": ((1, 96, 112, 112), (96, 1, 3, 3), {"stride": 2, "padding": 1, "groups": 96}),
    "mobilenetv2.dw3": ((1, 144, 56, 56), (144, 1, 3, 3), {"padding": 1, "groups": 144}),
    "convnext.dw": ((1, 96, 56, 56), (96, 1, 7, 7), {"padding": 3, "groups": 96}),
    "batch8.3x3": ((8, 128, 28, 28), (128, 128, 3, 3), {"padding": 1}),
    "resnext.3x3": ((1, 128, 56, 56), (128, 4, 3, 3), {"padding": 1, "groups": 32}),
    "image.3x3": ((1, 1, 1024, 1024), (1, 1, 3, 3), {"padding": 1}),
    "photo.5x5": ((1, 3, 512, 512), (8, 3, 5, 5), {"padding": 2}),
}

# Where what a call takes beside its kernels still counts.
SMALL = {
    "small.3x3": ((1, 16, 32, 32), (16, 16, 3, 3), {"padding": 1}),
}

BATCHES = {
    "batch64.resnet50.2.3x3": ((64, 64, 56, 56), (64, 64, 3, 3), {"padding": 1}),
    "batch64.resnet50.3.3x3": ((64, 128, 28, 28), (128, 128, 3, 3), {"padding": 1}),
    "batch64.resnet50.4.3x3": ((64, 256, 14, 14), (256, 256, 3, 3), {"padding": 1}),
    "batch64.resnet50.5.3x3": ((64, 512, 7, 7), (512, 512, 3, 3), {"padding": 1}),
    "batch64.resnet50.2.1x1.up": ((64, 64, 56, 56), (256, 64, 1, 1), {}),
    "batch64.resnet50.3.1x1.s2": ((64, 256, 56, 56), (512, 256, 1, 1), {"stride": 2}),
    "batch64.resnet50.5.1x1.s2": ((64, 1024, 14, 14), (2048, 1024, 1, 1), {"stride": 2}),
    "batch64.vgg16.3.3x3": ((64, 256, 56, 56), (256, 256, 3, 3), {"padding": 1}),
    "batch64.vgg16.5.3x3": ((64, 512, 14, 14), (512, 512, 3, 3), {"padding": 1}),
    "batch64.mobilenetv2.dw3": ((64, 144, 56, 56), (144, 1, 3, 3), {"padding": 1, "groups": 144}),
}

# Beside what LAYERS has of the article: one channel, the edge detector, and 1x1 as a matrix product.
ARTICLE = {
    "corr2d": ((1, 1, 3, 3), (1, 1, 2, 2), {}),
    "corr2d.edge": ((1, 1, 6, 8), (1, 1, 1, 2), {}),
    "corr2d.multi_in": LAYERS["corr2d.multi_in"],
    "corr2d.multi_in_out": LAYERS["corr2d.multi_in_out"],
    "corr2d.1x1": ((1, 3, 3, 3), (2, 3, 1, 1), {}),
}

FILTERS = {
    "filter.grey.3x3": ((1, 1, 1080, 1920), (1, 1, 3, 3), {"padding": 1}),
    "filter.grey.5x5": ((1, 1, 1080, 1920), (1, 1, 5, 5), {"padding": 2}),
    "filter.grey.11x11": ((1, 1, 1080, 1920), (1, 1, 11, 11), {"padding": 5}),
    "filter.row.1x21": ((1, 1, 1080, 1920), (1, 1, 1, 21), {"padding": (0, 10)}),
    "filter.column.21x1": ((1, 1, 1080, 1920), (1, 1, 21, 1), {"padding": (10, 0)}),
    "filter.rgb.5x5": ((1, 3, 1080, 1920), (3, 1, 5, 5), {"padding": 2, "groups": 3}),
    "filter.bank.7x7": ((1, 1, 512, 512), (16, 1, 7, 7), {"padding": 3}),
}

AUDIO = {
    "audio.fir.101": ((1, 1, 160000), (1, 1, 101), {"padding": 50}),
    "audio.stem.10.s5": ((1, 1, 160000), (512, 1, 10), {"stride": 5}),
    "audio.3.s2": ((1, 512, 3199), (512, 512, 3), {"stride": 2}),
    "audio.dilated.3": ((1, 64, 16000), (64, 64, 3), {"padding": 16, "dilation": 16}),
    "audio.dw.31": ((1, 256, 1000), (256, 1, 31), {"padding": 15, "groups": 256}),
}

VOLUMES = {
    "volume.ct.3x3x3": ((1, 1, 64, 128, 128), (1, 1, 3, 3, 3), {"padding": 1}),
    "volume.unet.3x3x3": ((1, 32, 32, 64, 64), (32, 32, 3, 3, 3), {"padding": 1}),
    "volume.video.3x3x3": ((1, 64, 16, 56, 56), (64, 64, 3, 3, 3), {"padding": 1}),
    "volume.video.3x3x3.s2": ((1, 64, 16, 56, 56), (128, 64, 3, 3, 3), {"stride": 2, "padding": 1}),
    "volume.1x1x1": ((1, 256, 8, 14, 14), (64, 256, 1, 1, 1), {}),
}

TRANSPOSED = {
    "up.2x2.s2": ((1, 128, 64, 64), (128, 64, 2, 2), {"stride": 2}),
    "up.4x4.s2": ((1, 256, 16, 16), (256, 128, 4, 4), {"stride": 2, "padding": 1}),
    "up.3x3": ((1, 64, 56, 56), (64, 64, 3, 3), {"padding": 1}),
    "up.3x3.s2": ((1, 64, 56, 56), (64, 64, 3, 3), {"stride": 2, "padding": 1, "output_padding": 1}),
    "up.dw.4x4.s2": ((1, 64, 56, 56), (64, 1, 4, 4), {"stride": 2, "padding": 1, "groups": 64}),
}

# All distinct convolutions of networks, in numbaconv/networks.py's words: input, output channels, kernel; stride, padding, groups
# where they are not 1, 0 and 1; *N where the network has N of them. That file says more on each; a test holds the two together.
WORDS = {
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
}
OPTIONS = {"s": "stride", "p": "padding", "g": "groups"}


def _numbers(word):
    return tuple(map(int, word.split("x")))


def _problem(word):
    input, channels, kernel, *rest = word.split(",")
    input, options = _numbers(input), {OPTIONS[w[0]]: _numbers(w[1:]) for w in rest}
    options = {name: value[0] if len(value) == 1 else value for name, value in options.items()}
    return input, (int(channels), input[1] // options.get("groups", 1), *_numbers(kernel)), options


# Network: {word: how often}, and every word a problem by the name of "network word".
COUNTS = {
    network: {word: int(count or 1) for word, _, count in (w.partition("*") for w in words.split())}
    for network, words in WORDS.items()
}
NETWORKS = {f"{network} {word}": _problem(word) for network, counts in COUNTS.items() for word in counts}

FORWARD = {**LAYERS, **ARTICLE, **FILTERS, **AUDIO, **VOLUMES, **NETWORKS}
