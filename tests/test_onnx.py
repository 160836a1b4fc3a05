"""The ONNX standard's own tests of Conv, ConvInteger and ConvTranspose, and the models of PyTorch's export that it ships.

All cases whose models have such a node are run, none is skipped. ``onnx.reference`` evaluates the models, with this library's
operators (through ``onnx_conv``) in place of its own; it so computes the few other nodes around a convolution that the expansions
of CausalConvWithState have. DeformConv, which samples between elements, and QLinearConv, which rescales, are other operators.
"""

import importlib
import pathlib
import warnings
from collections import Counter
from unittest import mock

import numpy as np
import onnx
import onnx_conv
import pytest
from onnx import numpy_helper
from onnx.backend.test.case import node
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

SHIPPED = pathlib.Path(onnx.__file__).parent / "backend" / "test" / "data"


def operator(op_type):
    """An operator of onnx.reference that calls this library, and counts its calls."""

    def run(self, *inputs, **attributes):
        calls[op_type] += 1
        given = {name: value for name, value in attributes.items() if value is not None}
        return (onnx_conv.OPERATORS[op_type](*inputs, **given),)

    return type(op_type, (OpRun,), {"op_domain": "", "_run": run})


calls = Counter()
OPERATORS = [operator(op_type) for op_type in onnx_conv.OPERATORS]


def convolutions(model):
    """How many nodes of a model are convolutions."""
    return sum(node.op_type in onnx_conv.OPERATORS for node in model.graph.node)


def import_convolutions(package):
    """Import the modules of cases that speak of convolutions; all of them take half as long as collecting all tests does."""
    for path in pathlib.Path(package.__file__).parent.glob("*.py"):
        if "conv" in path.read_text(encoding="utf-8").lower():
            importlib.import_module(f"{package.__name__}.{path.stem}")


def collect_node_cases():
    with warnings.catch_warnings(), mock.patch.object(node, "import_recursive", import_convolutions):
        warnings.simplefilter("ignore")  # of other operators' cases
        cases = node.collect_testcases(None)
    return {case.name: case for case in cases if convolutions(case.model)}


def collect_shipped_cases():
    folders = sorted(
        path.parent for kind in ("pytorch-converted", "pytorch-operator") for path in SHIPPED.glob(f"{kind}/*/model.onnx")
    )
    models = {f"{folder.parent.name}/{folder.name}": (folder, onnx.load(folder / "model.onnx")) for folder in folders}
    return {name: (folder, model) for name, (folder, model) in models.items() if convolutions(model)}


NODE_CASES = collect_node_cases()
SHIPPED_CASES = collect_shipped_cases()
KINDS = ("input", "output")


def read(path):
    return numpy_helper.to_array(onnx.load_tensor(path))


def check(model, data_sets, rtol, atol):
    evaluator = ReferenceEvaluator(model, new_ops=OPERATORS)
    assert data_sets
    for inputs, outputs in data_sets:
        before = calls.total()
        results = evaluator.run(None, dict(zip([i.name for i in model.graph.input], inputs, strict=False)))
        assert calls.total() - before == convolutions(model)
        for result, expected in zip(results, outputs, strict=True):
            assert result.dtype == expected.dtype
            assert result.shape == expected.shape
            np.testing.assert_allclose(result, expected, rtol=rtol, atol=atol)


def test_cases_are_found():
    """onnx 1.23 has 32 node cases, 13 of them expansions of CausalConvWithState, and ships 30 models."""
    direct = [case for case in NODE_CASES.values() if len(case.model.graph.node) == 1]
    of_type = Counter(case.model.graph.node[0].op_type for case in direct)
    assert of_type["Conv"] >= 6
    assert of_type["ConvInteger"] >= 2
    assert of_type["ConvTranspose"] >= 11
    assert len(SHIPPED_CASES) >= 30


@pytest.mark.parametrize("name", NODE_CASES)
def test_node_cases(name):
    """To the standard's own tolerances, or tighter ones where the data has more digits."""
    case = NODE_CASES[name]
    half = any(a.dtype == np.float16 for inputs, _ in case.data_sets for a in inputs)
    check(case.model, case.data_sets, *((case.rtol, 1e-3) if half else (1e-5, 1e-5)))


@pytest.mark.parametrize("name", SHIPPED_CASES)
def test_models_that_pytorch_exported(name):
    """The expected results are PyTorch's, in float32: sums of up to some hundred products of order one."""
    folder, model = SHIPPED_CASES[name]
    data_sets = []
    for data in sorted(folder.glob("test_data_set_*")):
        data_sets.append([[read(data / f"{kind}_{i}.pb") for i in range(len(list(data.glob(f"{kind}_*.pb"))))] for kind in KINDS])
    check(model, data_sets, 1e-4, 1e-5)


def test_a_wrong_kernel_shape_is_refused():
    with pytest.raises(ValueError, match=r"^kernel_shape"):
        onnx_conv.conv(np.ones((1, 1, 4)), np.ones((1, 1, 2)), kernel_shape=[3])
