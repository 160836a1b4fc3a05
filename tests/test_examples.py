"""The examples: a page read by three networks, and the graphs that they are cut out of."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import read_page
from onnx import TensorProto, helper, numpy_helper
from onnx_network import Network

COMMAND = Path(read_page.__file__)
CONVOLUTIONS = {"detection": 62 + 2, "classification": 53, "recognition": 38}  # two are transposed
THREADS = 2


def reader():
    """rapidocr, or skip."""
    return pytest.importorskip("rapidocr_onnxruntime", reason="rapidocr-onnxruntime is for Python before 3.13")


def rms(difference):
    return np.sqrt(np.mean(np.square(difference, dtype=np.float64)))


def noise(path, peer):
    """What rounding does to a network, by onnxruntime itself: plain kernels, and inputs off by half an ulp."""
    settings = ort.SessionOptions()
    settings.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    plain = ort.InferenceSession(str(path), settings, ["CPUExecutionProvider"])
    found = []
    for given in peer.given:
        (expected,) = peer.run(given)
        nudge = 1 + 2.0**-24 * np.random.default_rng(0).uniform(-1, 1, given.shape)
        others = plain.run(None, {plain.get_inputs()[0].name: given})[0], peer.run((given * nudge).astype(np.float32))[0]
        found.append([rms(other - expected) for other in others])
    return np.max(found)


def test_the_page_is_read(tmp_path):
    """Every convolution of the three networks is ours; the text is the same, and so are the outputs.

    Those may differ by 4 times as much as rounding alone makes them differ, which is what a fast algorithm may add.
    """
    reader()
    paths = read_page.model_paths()
    picture = read_page.page(None)
    peers = {name: read_page.Peer(path, THREADS, tmp_path) for name, path in paths.items()}
    networks = {name: Network(path, THREADS) for name, path in paths.items()}
    expected, lines = (read_page.read(picture, engines, THREADS) for engines in (peers, networks))
    assert lines == expected
    text = " ".join(lines)
    for words in ("Let us first determine markers of the coins", "pixels that we can label", "unambiguously", "background"):
        assert words in text
    for name, path in paths.items():
        nodes = [node for node in onnx.load(path).graph.node if node.op_type.startswith("Conv")]
        assert len(networks[name].convolutions) == len(nodes) == CONVOLUTIONS[name]
        row = read_page.compare(name, networks[name], peers[name])
        assert row.calls >= 1
        assert max(rms(d) for d in row.differences) <= 4 * noise(path, peers[name])
        read_page.measure(row, networks[name], peers[name], rounds=2)
        assert len(row.ours) == len(row.theirs) == 2
        assert all(0 < part < whole for part, whole in zip(row.ours, row.ours_whole, strict=True))
        assert all(0 < part < whole for part, whole in zip(row.theirs, row.theirs_whole, strict=True))


@pytest.mark.slow
def test_the_command_prints_text_agreement_and_times():
    reader()
    result = command("--threads", 1, "--rounds", 1)
    assert result.returncode == 0, result.stderr
    for part in ("Let us first determine markers", "reads the same", "detection", "rms, relative", "ratio", "the whole networks"):
        assert part in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["--threads", 0], "--threads"), (["--rounds", "x"], "--rounds"), (["no.png"], "no.png"), ([COMMAND], COMMAND.name)],
)
def test_the_command_refuses(arguments, message):
    reader()
    result = command(*arguments)
    assert result.returncode == 2
    assert message in result.stderr.splitlines()[-1]
    assert "Traceback" not in result.stderr


def test_the_command_names_the_extra_that_is_missing(tmp_path):
    (tmp_path / "rapidocr_onnxruntime.py").write_text("raise ImportError('not here')")
    result = command(PYTHONPATH=str(tmp_path))
    assert result.returncode == 2
    assert 'pip install "numbaconv[examples]"' in result.stderr
    assert len(result.stderr.splitlines()) == 1


def command(*arguments, **environment):
    return subprocess.run(
        [sys.executable, COMMAND, *map(str, arguments)],
        capture_output=True, text=True, env={**os.environ, **environment}, timeout=240,
    )  # fmt: skip


# ---------------------------------------------------------------- graphs

RNG = np.random.default_rng(0)
X = RNG.standard_normal((2, 4, 9, 8)).astype(np.float32)


def node(op_type, *inputs, output="y", **attributes):
    return helper.make_node(op_type, inputs, [output], **attributes)


def hardswish(shift, top):
    """x * clip(x + shift, 0, top) / 6 of "a", in four nodes."""
    return [node("Add", "a", shift, output="b"), node("Clip", "b", "zero", top, output="c"), node("Mul", "a", "c", output="d"),
            node("Div", "d", "six")]  # fmt: skip


CONSTANTS = {
    "w": RNG.standard_normal((6, 4, 3, 3)), "w2": RNG.standard_normal((6, 2, 3, 2)), "wt": RNG.standard_normal((4, 3, 3, 2)),
    "bias": RNG.standard_normal(6), "scalar": 1.5, "one": [0.5], "channels": RNG.standard_normal((1, 6, 1, 1)),
    "columns": RNG.standard_normal((6,)), "gamma": RNG.standard_normal(6), "beta": RNG.standard_normal(6),
    "mean": RNG.standard_normal(6), "variance": RNG.uniform(0.5, 2, 6), "zero": 0.0, "three": 3.0, "five": 5.0, "six": 6.0,
}  # fmt: skip
NORMALISATION = ("gamma", "beta", "mean", "variance")

# What there is, and how many nodes the operator stands for.
GRAPHS = {
    "pads, strides, groups": ([node("Conv", "x", "w2", "bias", pads=[0, 1, 2, 1], strides=[2, 1], group=2)], 1),
    "dilations": ([node("Conv", "x", "w", dilations=[2, 1], pads=[1, 0, 3, 2])], 1),
    "same upper": ([node("Conv", "x", "w2", auto_pad="SAME_UPPER", strides=[2, 2], group=2)], 1),
    "same lower": ([node("Conv", "x", "w2", auto_pad="SAME_LOWER", group=2)], 1),
    "valid": ([node("Conv", "x", "w", auto_pad="VALID")], 1),
    "transposed": (
        [node("ConvTranspose", "x", "wt", "bias", group=2, strides=[2, 3], pads=[1, 0, 0, 1], output_padding=[1, 2])], 1,
    ),
    "scaled, shifted": (
        [node("Conv", "x", "w", "bias", output="a"), node("Mul", "a", "one", output="c"), node("Add", "scalar", "c", output="d"),
         node("Relu", "d")], 4,
    ),
    "transposed, scaled, shifted, normalised": (
        [node("ConvTranspose", "x", "wt", group=2, output="a"), node("Mul", "channels", "a", output="c"),
         node("Add", "c", "channels", output="d"), node("BatchNormalization", "d", *NORMALISATION, output="e", epsilon=0.1),
         node("Sigmoid", "e")], 5,
    ),
    "hardswish": ([node("Conv", "x", "w", output="a"), *hardswish("three", "six")], 5),
    "another top": ([node("Conv", "x", "w", output="a"), *hardswish("three", "five")], 1),
    "another shift": ([node("Conv", "x", "w", output="a"), *hardswish("five", "six")], 1),
    "hard sigmoid": ([node("Conv", "x", "w", output="a"), node("HardSigmoid", "a", alpha=0.1, beta=0.3)], 2),
    "hard sigmoid by default": ([node("Conv", "x", "w", output="a"), node("HardSigmoid", "a")], 2),
    "silu": ([node("Conv", "x", "w", output="a"), node("Sigmoid", "a", output="c"), node("Mul", "c", "a")], 3),
    "sigmoid, scaled": ([node("Conv", "x", "w", output="a"), node("Sigmoid", "a", output="c"), node("Mul", "c", "scalar")], 2),
    "sigmoid, and a product": (
        [node("Conv", "x", "w", output="a"), node("Sigmoid", "a", output="c"), node("Mul", "a", "columns", output="d"),
         node("Sub", "c", "d")], 1,
    ),
    "silu, and a square": (
        [node("Conv", "x", "w", output="a"), node("Mul", "a", "a", output="s"), node("Sigmoid", "a", output="c"),
         node("Mul", "c", "a", output="d"), node("Sub", "s", "d")], 1,
    ),
    "one scale a column": ([node("Conv", "x", "w", output="a"), node("Mul", "a", "columns")], 1),
    "used twice": ([node("Conv", "x", "w", output="a"), node("Relu", "a", output="c"), node("Sub", "c", "a")], 1),
    "a size in the graph": (
        [node("Conv", "x", "w", output="a"), node("Shape", "a", output="s"), node("Relu", "x", output="r"),
         node("ConstantOfShape", "s", output="z"), node("Add", "a", "z", output="e"), node("Sub", "e", "r1"),
         node("ReduceMean", "r", output="r1", axes=[1, 2, 3])], 1,
    ),
}  # fmt: skip


def saved(nodes, path):
    """A model of these nodes in a file, in an order that ONNX allows, of data of any size."""
    made, ordered = {"x", *CONSTANTS}, []
    while waiting := [n for n in nodes if n not in ordered]:
        ordered.append(next(n for n in waiting if made.issuperset(n.input)))
        made.update(ordered[-1].output)
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", c, "h", "w"]) for name, c in (("x", 4), ("y", "c"))]
    used = {name for n in nodes for name in n.input}
    tensors = [numpy_helper.from_array(np.array(CONSTANTS[name], np.float32), name) for name in sorted(used & {*CONSTANTS})]
    graph = helper.make_graph(ordered, "test", ends[:1], ends[1:], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


@pytest.mark.parametrize("name", GRAPHS)
def test_a_convolution_takes_in_what_it_can(name, tmp_path):
    """It gives what onnxruntime gives, to sums of some dozens of products in float32, for data of two sizes."""
    nodes, together = GRAPHS[name]
    path = saved(nodes, tmp_path / "model.onnx")
    network = Network(path, 1)
    assert [len(c.nodes) for c in network.convolutions] == [together]
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    for x in (X, X[:1, :, :7]):
        (expected,) = session.run(None, {"x": x})
        (result,) = network(x)
        assert result.dtype == np.float32
        np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-5)


def test_what_is_no_constant_or_depends_on_the_size_is_refused(tmp_path):
    shaped = [node("ConvTranspose", "x", "wt", group=2, output_shape=[12, 12])]
    with pytest.raises(ValueError, match="expected pads, not output_shape"):
        Network(saved(shaped, tmp_path / "shaped.onnx"), 1)
    computed = [node("Relu", "x", output="r"), node("Conv", "x", "r")]
    with pytest.raises(ValueError, match="expected a constant weight"):
        Network(saved(computed, tmp_path / "computed.onnx"), 1)
