"""The tables of networks are those networks."""

from dataclasses import replace

import pytest

from numbaconv import measure
from numbaconv.networks import NETWORKS, USUAL, layers

# Distinct convolutions, all of them, their multiply-adds; outputs and inputs of the fully connected layers, and the 10^9
# multiply-adds with these that torchvision publishes for its models. The hooks of its Conv2d modules counted the same.
KNOWN = {
    "resnet50": (23, 53, 4_087_136_256, 1000 * 2048, 4.089),
    "vgg16": (9, 13, 15_346_630_656, 4096 * 25088 + 4096 * 4096 + 1000 * 4096, 15.47),
    "mobilenetv2": (30, 52, 299_494_272, 1000 * 1280, 0.301),
    "efficientnetb0": (46, 81, 384_534_752, 1000 * 1280, 0.386),
    "convnexttiny": (16, 58, 4_454_763_264, 1000 * 768, 4.456),
    "inceptionv3": (43, 94, 5_711_168_096, 1000 * 2048, 5.713),
    "unet": (15, 19, 45_948_600_320, 0, None),
}


def test_every_network_is_known():
    assert set(NETWORKS) == {*KNOWN, "selection"}
    assert set(USUAL) <= set(KNOWN)


@pytest.mark.parametrize("network", KNOWN)
def test_networks_have_their_convolutions(network):
    distinct, total, multiply_adds, fully_connected, published = KNOWN[network]
    found = layers(network)
    specs = [measure.problem(layer) for layer in found]
    assert len(set(specs)) == len(specs) == distinct
    assert sum(layer.count for layer in found) == total
    assert sum(layer.count * spec.multiply_adds for layer, spec in zip(found, specs, strict=True)) == multiply_adds
    assert published is None or (multiply_adds + fully_connected) / 1e9 == pytest.approx(published, abs=5e-4)


@pytest.mark.parametrize("network", ["resnet50", "vgg16", "mobilenetv2", "efficientnetb0", "convnexttiny"])
def test_layers_fit_together(network):
    """Each reads a picture or as many channels as another one writes; the other two networks join channels."""
    specs = [measure.problem(layer) for layer in layers(network)]
    written = {s.out_channels for s in specs}
    assert {s.in_channels for s in specs} <= written | {3}
    assert max(s.input_size for s in specs) == (1, 224, 224)


def test_channels_are_joined():
    """A U-Net's decoder reads the encoder's channels beside as many of its own."""
    unet = [measure.problem(layer) for layer in layers("unet")]
    for size, channels in zip((256, 128, 64, 32), (64, 128, 256, 512), strict=True):
        assert {(2 * channels, channels), (channels, channels)} < {
            (s.in_channels, s.out_channels) for s in unet if s.input_size == (1, size, size)
        }


def test_a_word_may_say_how_often():
    [layer], [one] = layers("1x64x56x56,64,3x3,p0x3,s2*12"), layers("1x64x56x56,64,3x3,p0x3,s2")
    assert layer.count == 12
    assert one.count == 1
    assert replace(layer, count=1) == one
    assert one.options["padding"] == (0, 3)


def test_the_selection_is_28_problems():
    assert len({measure.problem(layer) for layer in layers("selection")}) == len(layers("selection")) == 28


@pytest.mark.parametrize("network", NETWORKS)
def test_layers_say_the_word_that_they_are_written_as(network):
    written = [word.partition("*")[0] for word in NETWORKS[network].split()]
    assert [layer.word for layer in layers(network)] == written


def test_words_name_no_defaults():
    assert layers("2x4x9,8,3,s1,p0,d2,g4*3")[0].word == "2x4x9,8,3,d2,g4"
