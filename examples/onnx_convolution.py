"""A convolution of an ONNX graph, with what follows it, as one prepared operator of numbaconv.

What follows is taken in where it only rescales channels (that goes into weight and bias), and where it is an activation,
which the operator applies before its result leaves the cache. The sum with a residual stays outside.
"""

from __future__ import annotations

import functools
from collections import defaultdict
from typing import Any, NamedTuple

import numba
import numpy as np
from onnx import ModelProto, NodeProto, helper, numpy_helper

import numbaconv as nc

CONVOLUTIONS = ("Conv", "ConvTranspose")
AUTO_PAD = {"VALID": "valid", "SAME_UPPER": "same", "SAME_LOWER": "same_lower"}


class Graph:
    """The nodes of a model in order, its constants, and who takes each result (None: the caller)."""

    def __init__(self, model: ModelProto) -> None:
        self.nodes = list(model.graph.node)
        self.constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
        self.takers: dict[str, list[NodeProto | None]] = defaultdict(list)
        for node in self.nodes:
            for name in node.input:
                self.takers[name].append(node)
        for output in model.graph.output:
            self.takers[output.name].append(None)

    def followers(self, name: str, *op_types: str) -> list[NodeProto] | None:
        """The nodes that take a result, in the order of these types, if there are just these."""
        found = {node.op_type: node for node in self.takers[name] if node is not None}
        if len(self.takers[name]) != len(op_types) or set(found) != set(op_types):
            return None
        return [found[op_type] for op_type in op_types]

    def holds(self, node: NodeProto, *values: float) -> bool:
        """Whether the constants among a node's inputs are these numbers."""
        constants = [self.constants[name] for name in node.input if name in self.constants]
        return len(constants) == len(values) and all(np.all(c == v) for c, v in zip(constants, values, strict=True))


class Convolution(NamedTuple):
    """An operator, the names of its input and its result in the graph, and the nodes that it stands for."""

    operator: Any
    input: str
    output: str
    nodes: list[NodeProto]


def convolution(graph: Graph, node: NodeProto) -> Convolution:
    """Prepare the operator of a Conv or ConvTranspose node and of what it can take in.

    Raises
    ------
    ValueError
        For a weight that is computed, and for a transposed convolution whose padding depends on the data's size.
    """
    if not graph.constants.keys() >= set(node.input[1:]):
        raise ValueError(f"node {node.name or node.output[0]!r}: expected a constant weight and bias")
    parameters = [graph.constants[name] for name in node.input[1:]]
    given = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    transposed, groups = node.op_type == "ConvTranspose", given.get("group", 1)
    weight = parameters[0].astype(np.float64)
    channels = weight.shape[1] * groups if transposed else weight.shape[0]
    bias = parameters[1].astype(np.float64) if len(parameters) > 1 else np.zeros(channels)
    output, nodes = node.output[0], [node]
    while (found := rescaling(graph, output, channels)) is not None:
        follower, scale, shift = found
        weight, bias = scaled(weight, scale, groups, transposed), bias * scale + shift
        output = follower.output[0]
        nodes.append(follower)
    function, after = activation(graph, output)
    kind = getattr(nc, f"Conv{'Transpose' * transposed}{weight.ndim - 2}d")
    dtype = parameters[0].dtype
    operator = kind(weight.astype(dtype), bias.astype(dtype), groups=groups, activation=function, **options(given, transposed))
    nodes += after
    return Convolution(operator, node.input[0], nodes[-1].output[0], nodes)


def options(given: dict[str, Any], transposed: bool) -> dict[str, Any]:
    """What the attributes of a node mean as arguments; the number of groups aside."""
    words = given.get("auto_pad", b"NOTSET").decode()
    if transposed and ("output_shape" in given or words.startswith("SAME")):
        raise ValueError("ConvTranspose: expected pads, not output_shape or auto_pad")
    pads = given.get("pads")  # all low sides first
    explicit = 0 if pads is None else tuple(zip(pads[: len(pads) // 2], pads[len(pads) // 2 :], strict=True))
    found = {"padding": AUTO_PAD.get(words, explicit)}
    for theirs, ours in (("strides", "stride"), ("dilations", "dilation"), ("output_padding", "output_padding")):
        if theirs in given:
            found[ours] = tuple(given[theirs])
    return found


def rescaling(graph: Graph, name: str, channels: int) -> tuple[NodeProto, np.ndarray, np.ndarray] | None:
    """The node that does nothing to a result but ``scale * result + shift`` for each channel, ``(channels,)`` each."""
    takers = graph.takers[name]
    if len(takers) != 1 or takers[0] is None:
        return None
    node, zeros, ones = takers[0], np.zeros(channels), np.ones(channels)
    constants = [graph.constants[n].astype(np.float64) for n in node.input if n in graph.constants]
    if node.op_type == "BatchNormalization" and len(constants) == 4:
        epsilon = next((a.f for a in node.attribute if a.name == "epsilon"), 1e-5)
        gamma, beta, mean, variance = constants
        scale = gamma / np.sqrt(variance + epsilon)
        return node, scale, beta - mean * scale
    if node.op_type not in ("Mul", "Add") or len(constants) != 1:
        return None
    (constant,) = constants
    if constant.size != 1 and (constant.size != channels or constant.ndim < 3 or constant.shape[-3] != channels):
        return None
    values = np.broadcast_to(constant.ravel(), channels)
    return (node, values, zeros) if node.op_type == "Mul" else (node, ones, values)


def scaled(weight: np.ndarray, scale: np.ndarray, groups: int, transposed: bool) -> np.ndarray:
    """The weight whose results are `scale` times as large."""
    space = (1,) * (weight.ndim - 2)
    if not transposed:
        return weight * scale.reshape(-1, 1, *space)
    grouped = weight.reshape(groups, -1, *weight.shape[1:])  # groups, inputs, outputs of a group
    return (grouped * scale.reshape(groups, 1, -1, *space)).reshape(weight.shape)


def activation(graph: Graph, name: str) -> tuple[Any, list[NodeProto]]:
    """The activation of a result, as numbaconv takes it, and its nodes in order; None and none if there is none."""
    for op_type, function in (("Relu", "relu"), ("Sigmoid", "sigmoid"), ("Tanh", "tanh")):
        if (nodes := graph.followers(name, op_type)) is not None:
            return function, nodes
    if (nodes := graph.followers(name, "HardSigmoid")) is not None:
        given = {attribute.name: attribute.f for attribute in nodes[0].attribute}
        return hard_sigmoid(given.get("alpha", 0.2), given.get("beta", 0.5)), nodes
    if (nodes := graph.followers(name, "Sigmoid", "Mul")) is not None and nodes[0].output[0] in nodes[1].input:
        return "silu", nodes
    if (nodes := hardswish(graph, name)) is not None:
        return "hardswish", nodes
    return None, []


@functools.cache
def hard_sigmoid(alpha: float, beta: float) -> Any:
    """An activation that numbaconv does not know by name: any scalar function compiled by Numba is one."""

    @numba.njit
    def hard_sigmoid(x: Any) -> Any:
        return min(max(alpha * x + beta, 0), 1)

    return hard_sigmoid


def hardswish(graph: Graph, name: str) -> list[NodeProto] | None:
    """The four nodes of ``x * clip(x + 3, 0, 6) / 6``, which models from before opset 14 write out."""
    first = graph.followers(name, "Add", "Mul")
    if first is None:
        return None
    add, multiply = first
    clip = graph.followers(add.output[0], "Clip")
    divide = graph.followers(multiply.output[0], "Div")
    if clip is None or divide is None or clip[0].output[0] not in multiply.input:
        return None
    numbers = graph.holds(add, 3) and graph.holds(clip[0], 0, 6) and graph.holds(divide[0], 6)
    return [add, *clip, multiply, *divide] if numbers else None
