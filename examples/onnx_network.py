"""An ONNX model whose convolutions are prepared operators of numbaconv, and whose other nodes onnxruntime runs.

The convolutions cut the graph into stages: what needs none of them, what needs those of the first stage, and so on. The other
nodes of a stage become a model of their own. Nothing depends on the data's size.
"""

from __future__ import annotations

import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import onnxruntime
from onnx import ModelProto, NodeProto, helper
from onnx_convolution import CONVOLUTIONS, Convolution, Graph, convolution


class Step(NamedTuple):
    """Something to run on named arrays: their names, its results', and those which nobody needs afterwards."""

    kind: str
    run: Callable[..., Sequence[np.ndarray]]
    inputs: list[str]
    outputs: list[str]
    done: list[str]


class Network:
    """A model, called with its input, of any size.

    Parameters
    ----------
    path : path
        Of the model file.
    threads : int
        Of onnxruntime's part; numbaconv's are those of ``numba.set_num_threads``.

    Attributes
    ----------
    convolutions : list of Convolution
        In the order in which they run.
    seconds : defaultdict
        The time spent in ``"convolutions"`` and in ``"other nodes"`` since it was last cleared.
    """

    def __init__(self, path: str | Path, threads: int) -> None:
        model = simplified(path)
        graph = Graph(model)
        self.input, self.outputs = model.graph.input[0].name, [output.name for output in model.graph.output]
        self.convolutions = [convolution(graph, node) for node in graph.nodes if node.op_type in CONVOLUTIONS]
        self.steps = ordered(model, graph, self.convolutions, threads)
        self.seconds: defaultdict[str, float] = defaultdict(float)

    def __call__(self, input: np.ndarray) -> list[np.ndarray]:
        """Return the model's outputs."""
        arrays = {self.input: np.ascontiguousarray(input)}
        for step in self.steps:
            operands = [arrays[name] for name in step.inputs]
            start = time.perf_counter()
            results = step.run(*operands)
            self.seconds[step.kind] += time.perf_counter() - start
            arrays.update(zip(step.outputs, results, strict=True))
            del operands, results
            for name in step.done:  # so that its memory is the next step's
                del arrays[name]
        return [arrays[name] for name in self.outputs]


def simplified(path: str | Path) -> ModelProto:
    """The model after onnxruntime's basic optimisations: constants are computed, batch normalisations are in the weights."""
    with tempfile.TemporaryDirectory() as folder:
        settings = onnxruntime.SessionOptions()
        settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        settings.optimized_model_filepath = str(Path(folder) / "model.onnx")
        onnxruntime.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])
        return onnx.shape_inference.infer_shapes(onnx.load(settings.optimized_model_filepath))


def ordered(model: ModelProto, graph: Graph, convolutions: Sequence[Convolution], threads: int) -> list[Step]:
    """The steps of a network, stage by stage: the other nodes, then the convolutions."""
    inside = {name for c in convolutions for node in c.nodes for name in node.output}
    starts = {c.nodes[0].output[0]: c for c in convolutions}
    stage: Counter[str] = Counter()  # of a result; 0 for what is given
    others: dict[int, list[NodeProto]] = {}
    ours: dict[int, list[Convolution]] = {}
    for node in graph.nodes:
        level = max((stage[name] for name in node.input), default=0)
        if (found := starts.get(node.output[0])) is not None:
            ours.setdefault(level, []).append(found)
            stage[found.output] = level + 1
        elif node.output[0] not in inside:
            others.setdefault(level, []).append(node)
            stage.update(dict.fromkeys(node.output, level))
    steps = []
    for level in sorted({*others, *ours}):
        if level in others:
            steps.append(other_nodes(model, graph, others[level], threads))
        steps += [our_convolution(found) for found in ours.get(level, [])]
    return with_ends(steps, {output.name for output in model.graph.output})


def our_convolution(found: Convolution) -> Step:
    """The step that a convolution is."""
    return Step("convolutions", lambda array: [found.operator(array)], [found.input], [found.output], [])


def other_nodes(model: ModelProto, graph: Graph, nodes: Sequence[NodeProto], threads: int) -> Step:
    """The step of nodes that onnxruntime runs, as a model of their own."""
    made = {name for node in nodes for name in node.output if name}
    taken = list(dict.fromkeys(name for node in nodes for name in node.input if name and name not in made))
    inputs = [name for name in taken if name not in graph.constants]
    mine = {id(node) for node in nodes}
    outputs = [name for name in sorted(made) if any(id(taker) not in mine for taker in graph.takers[name])]
    known = [*model.graph.value_info, *model.graph.input, *model.graph.output]
    types = {value.name: value.type.tensor_type.elem_type for value in known}
    first, last = ([helper.make_tensor_value_info(name, types[name], None) for name in names] for names in (inputs, outputs))
    constants = [tensor for tensor in model.graph.initializer if tensor.name in taken]
    part = helper.make_graph(nodes, "between convolutions", first, last, constants)
    whole = helper.make_model(part, opset_imports=model.opset_import, ir_version=model.ir_version)
    session = onnxruntime.InferenceSession(whole.SerializeToString(), settings(threads, spin=False), ["CPUExecutionProvider"])
    return Step("other nodes", lambda *arrays: session.run(outputs, dict(zip(inputs, arrays, strict=True))), inputs, outputs, [])


def settings(threads: int, spin: bool = True) -> Any:
    """Options of a session on so many threads, which after a call wait busily or asleep."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "01"[spin])
    return options


def with_ends(steps: Sequence[Step], results: set[str]) -> list[Step]:
    """The same steps, each with the names that no later one needs."""
    needed, ended = set(results), []
    for step in reversed(steps):
        names = {*step.inputs, *step.outputs}
        ended.append(step._replace(done=sorted(names - needed)))
        needed |= names
    return ended[::-1]
