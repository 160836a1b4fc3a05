"""Compiling CUDA kernels and assembling them, without a GPU."""

import re

import ml_dtypes  # noqa: F401  (names bfloat16)
import numpy as np
from cuda import core as linking
from numba.core.typing import Signature
from offline import ptx_of

from numbaconv.algorithm import Operands
from numbaconv.cuda import launch
from numbaconv.cuda.binary import linker_options
from numbaconv.cuda.geometry import geometry

SHARED = re.compile(r"\.shared \.align .*\[(\d+)\];", re.MULTILINE)


def assembled(function, args, cc):
    """Compile a kernel for a compute capability and arguments, or their types; return its PTX and what the assembler says."""
    ptx = ptx_of(function, args if isinstance(args, Signature) else launch.signature(args), cc)
    options = linker_options(function, cc, ptxas_options=["-v"])
    linker = linking.Linker(linking.ObjectCode.from_ptx(ptx.encode()), options=options)
    linker.link("cubin")
    return ptx, linker.get_info_log()


def check_assembly(function, args, cc):
    """Its PTX, registers a thread, and bytes of shared memory of a block, static and dynamic."""
    ptx, log = assembled(function, args, cc)
    assert "Potential Performance Loss" not in log, log
    assert re.search(r"\bst\.global\b", ptx), "the kernel stores nothing in global memory"
    assert not re.search(r"\b(ld|st)\.local\b", ptx)
    assert not re.search(r"^\s*(ld|st)(\.[vbfus]\d+)+\s", ptx, re.MULTILINE), "an address of unknown kind"
    assert re.search(r"\b0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads", log), log
    shared = sum(map(int, SHARED.findall(ptx))) + getattr(function, "shared_bytes", 0)
    return ptx, int(re.search(r"Used (\d+) registers", log)[1]), shared


def example(dtype, packed=False):
    """The arguments of a kernel for one spec of a dtype, with everything in it; a weight packed or as it is."""
    from numbaconv.options import ConvOptions
    from numbaconv.spec import ArraySpec, normalise

    shapes = ((1, 2, 5, 5), (3, 2, 3, 3), (3,), (1, 3, 3, 3))
    spec, _ = normalise(2, *(ArraySpec(shape, np.dtype(dtype)) for shape in shapes), ConvOptions())
    empty = np.zeros((1,) * 6, dtype)
    weight = empty.astype(spec.dtypes.compute) if packed else empty
    ops = Operands(empty, weight, empty[0, 0, 0, 0], empty, np.zeros((1,) * 6, spec.dtypes.out))
    return launch.arguments(ops, geometry(spec)), spec.dtypes.compute
