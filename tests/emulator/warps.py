"""Instructions that the lanes of a warp, or the threads of a warpgroup, run together."""

from collections.abc import Callable

import numpy as np

from emulator import tensor
from emulator.block import Block, Products
from emulator.code import Code, special
from emulator.memory import FaultError
from emulator.parser import Operation

Step = Callable[[Block], None]


@special
def ldmatrix(code: Code, operation: Operation) -> Step:
    assert operation.parts == ("ldmatrix", "sync", "aligned", "m8n8", "x4", "shared", "b16"), operation.text
    targets, source = operation.operands
    address, writes = code.address(source), [code.writer(one) for one in targets]

    def load(b: Block) -> None:
        lanes = b.whole(tensor.WARP, operation.text).ravel()
        rows = address(b).reshape(-1, 4, 8)
        if (rows % 16).any():
            raise FaultError(f"a row is not aligned: {operation.text}")
        for i, write in enumerate(writes):
            at = rows[:, i, tensor.ROW] + 4 * tensor.COLUMN
            values = np.zeros(b.count, np.uint32)
            values[lanes] = b.shared.read(at.ravel(), np.uint32, lanes, operation.text)
            write(b, values)

    return load


@special
def mma(code: Code, operation: Operation) -> Step:
    shape, kind = operation.parts[3], operation.parts[7]
    assert operation.parts == ("mma", "sync", "aligned", shape, "row", "col", "f32", kind, kind, "f32"), operation.text
    assert (shape, kind) in (("m16n8k8", "tf32"), ("m16n8k16", "f16"), ("m16n8k16", "bf16")), operation.text
    targets, *sources = operation.operands
    dtypes = np.uint32, np.uint32, np.float32
    reads = [[code.reader(one, dtype) for one in part] for part, dtype in zip(sources, dtypes, strict=True)]
    writes = [code.writer(one) for one in targets]

    def multiply(b: Block) -> None:
        warps = b.whole(tensor.WARP, operation.text)
        result = tensor.mma(kind, *(np.stack([np.broadcast_to(read(b), b.count)[warps] for read in part], 1) for part in reads))
        for i, write in enumerate(writes):
            values = np.zeros(b.count, np.float32)
            values[warps] = result[:, i]
            write(b, values)

    return multiply


@special
def wgmma(code: Code, operation: Operation) -> Step:
    if operation.parts[1] == "mma_async":
        return _products(code, operation)

    def order(b: Block) -> None:
        for threads in b.whole(tensor.WARPGROUP, operation.text):
            number = threads[0] // tensor.WARPGROUP
            if operation.parts[1] == "commit_group":
                b.product_groups[number] += 1
            elif operation.parts[1] == "wait_group":
                b.settle(number, operation.operands[0])
            else:
                assert operation.parts[1] == "fence", operation.text

    return order


def _products(code: Code, operation: Operation) -> Step:
    _, _, _, _, shape, _, kind, again = operation.parts
    sums, a, c, keep, *flags = operation.operands
    assert kind == again
    assert flags == ([1, 1] if kind == "tf32" else [1, 1, 0, 0]), "no negation, K-major"
    reads, writes = [code.reader(one, np.float32) for one in sums], [code.writer(one) for one in sums]
    given = [code.reader(one, np.uint64) for one in (a, c)]
    kept = code.reader(keep, np.bool_)

    def multiply(b: Block) -> None:
        values = np.stack([read(b) for read in reads])
        for threads in b.whole(tensor.WARPGROUP, operation.text):
            assert kept(b)[threads].all()
            descriptors = np.array([np.broadcast_to(read(b), b.count)[threads] for read in given])
            if (descriptors != descriptors[:, :1]).any():
                raise FaultError(f"threads of a warpgroup have several descriptors: {operation.text}")
            words = [tensor.matrix(int(one), n) for one, n in zip(descriptors[:, 0], (tensor.M, 2 * len(reads)), strict=True)]
            number = int(threads[0]) // tensor.WARPGROUP
            for one in words:
                b.shared.begin_use(one.ravel(), operation.text)
                b.products.append(Products(number, int(b.product_groups[number]), one.ravel()))
            values[:, threads] = tensor.wgmma(kind, *(b.shared.bytes.view(np.uint32)[one] for one in words), values[:, threads])
        for one, write in zip(values, writes, strict=True):
            write(b, one)

    assert shape.startswith(f"m64n{2 * len(reads)}k")
    return multiply
