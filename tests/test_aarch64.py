"""The vector code for another machine: what LLVM makes of it for AArch64, without one."""

import re

import llvmlite.binding
import numpy as np
import pytest
from llvmlite import ir

from numbaconv.cpu import microkernel, target, transforms
from numbaconv.cpu.simd import Code, Value
from numbaconv.toom import Filter

TRIPLE = "aarch64-unknown-linux-gnu"
SPILL = re.compile(r"^\s*(st[rp]|ld[rp])\s+q\d+.*\[sp")


@pytest.fixture(scope="module")
def machine():
    llvmlite.binding.initialize_all_targets()
    llvmlite.binding.initialize_all_asmprinters()
    try:
        found = llvmlite.binding.Target.from_triple(TRIPLE)
    except RuntimeError as error:
        pytest.skip(f"this LLVM has no AArch64: {error}")
    return found.create_target_machine(cpu="neoverse-n1", features="+neon", opt=3)


def assemble(machine, monkeypatch, make):
    """The assembly of the vector function that `make` compiles, for float32 in vectors of 16 bytes."""
    emitted = []
    for module in (microkernel, transforms):
        monkeypatch.setattr(module, "vector_function", lambda emit, *args: emitted.append(emit))
    make()
    [emit] = emitted
    module = ir.Module("vectors")
    module.triple, module.data_layout = TRIPLE, str(machine.target_data)
    word = ir.IntType(64)
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [word] * 8), "vectors")
    builder = ir.IRBuilder(function.append_basic_block())
    code = Code(builder, ir.VectorType(ir.FloatType(), 4), np.dtype(np.float32))
    emit(code, *(Value(code, argument) for argument in function.args[: emit.__code__.co_argcount - 1]))
    builder.ret_void()
    parsed = llvmlite.binding.parse_assembly(str(module))
    parsed.verify()
    options = llvmlite.binding.create_pipeline_tuning_options(speed_level=3)
    passes = llvmlite.binding.create_pass_builder(machine, options)
    passes.getModulePassManager().run(parsed, passes)
    return machine.emit_assembly(parsed).splitlines()


def loop_of(lines):
    """The lines from the label that the last backward branch goes to, to that branch."""
    labels = {line.split(":")[0]: i for i, line in enumerate(lines) if re.match(r"\.L\w+:", line)}
    loops = []
    for i, line in enumerate(lines):
        branch = re.match(r"\s+(b\.\w+|cbn?z|tbn?z|b)\s.*?(\.L\w+)$", line)
        if branch and labels[branch[2]] < i:
            loops.append(lines[labels[branch[2]] : i + 1])
    return max(loops, key=len)


@pytest.mark.parametrize("tile", target._TILES["neon"], ids=str)
@pytest.mark.parametrize(("kernel", "more"), [("along_channels", ()), ("along_positions", ()), ("along_positions", (True,))])
def test_microkernels(kernel, more, tile, machine, monkeypatch):
    make = getattr(microkernel, kernel).__wrapped__
    loop = loop_of(assemble(machine, monkeypatch, lambda: make(tile, np.dtype(np.float32), *more)))
    fused = [line for line in loop if re.match(r"\s+fmla\s+v\d+\.4s", line)]
    assert len(fused) == tile.MR * tile.NR
    assert not [line for line in loop if SPILL.match(line)]


@pytest.mark.parametrize("m", [2, 4])
@pytest.mark.parametrize("name", ["input_transform", "output_transform", "weight_transform"])
def test_transforms(name, m, machine, monkeypatch):
    make = getattr(transforms, name).__wrapped__
    lines = assemble(machine, monkeypatch, lambda: make(Filter(m, 3), Filter(m, 3), np.dtype(np.float32)))
    assert any(re.match(r"\s+fadd\s+v\d+\.4s", line) for line in lines)
    assert m == 2 or any(re.match(r"\s+fml[as]\s+v\d+\.4s", line) for line in lines)
    assert not any(re.match(r"\s+bl\s", line) for line in lines)
