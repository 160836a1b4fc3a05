"""Convolution problems to measure on, as literal shapes: imports nothing of the package, so that it serves every commit.

Each row: input (N, C, H, W), weight (O, C / groups, kh, kw), and the other arguments of ``conv2d``.
"""

LAYERS = {
    "corr2d.multi_in": ((1, 2, 3, 3), (1, 2, 2, 2), {}),
    "corr2d.multi_in_out": ((1, 2, 3, 3), (3, 2, 2, 2), {}),
    "1x1.64-128": ((1, 64, 28, 28), (128, 64, 1, 1), {}),
    "1x1.32-16": ((1, 32, 32, 32), (16, 32, 1, 1), {}),
    "resnet50.conv1": ((1, 3, 224, 224), (64, 3, 7, 7), {"stride": 2, "padding": 3}),
    "resnet50.2.3x3": ((1, 64, 56, 56), (64, 64, 3, 3), {"padding": 1}),
    "resnet50.4.3x3": ((1, 256, 14, 14), (256, 256, 3, 3), {"padding": 1}),
    "resnet50.5.1x1": ((1, 512, 7, 7), (2048, 512, 1, 1), {}),
    "mobilenetv2.dw1": ((1, 32, 112, 112), (32, 1, 3, 3), {"padding": 1, "groups": 32}),
    "image.3x3": ((1, 1, 1024, 1024), (1, 1, 3, 3), {"padding": 1}),
    "photo.5x5": ((1, 3, 512, 512), (8, 3, 5, 5), {"padding": 2}),
}
