"""LLVM's IR to machine code in this process, and kept on disk.

For functions that are written in IR from their first instruction to their last, Numba's compiler has nothing to do, and it
takes longer to wrap one than LLVM to compile it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cache
from itertools import count
from typing import Any, NamedTuple

import llvmlite.binding as llvm
import numba
from llvmlite import ir
from numba.core import event
from numba.core.compiler_lock import global_compiler_lock
from numba.core.registry import cpu_target

from numbaconv.cpu.cache import read, write
from numbaconv.cpu.interrupts import uninterrupted

__all__ = ["MachineCode", "machine_code"]

_numbers = count()
_known: dict[str, MachineCode] = {}


class MachineCode:
    """A function with C's calling convention, of 64-bit integers, which returns nothing.

    Attributes
    ----------
    address : int
        Of its code, which stays as long as the process.
    """

    def __init__(self, address: int, symbol: str, emit: Callable, words: int) -> None:
        self.address, self._made_of = address, (symbol, emit, words)

    @global_compiler_lock
    def inspect_asm(self) -> str:
        """The assembly."""
        return _target().machine.emit_assembly(_optimised(*self._made_of))


@uninterrupted()
@global_compiler_lock
def machine_code(name: str | None, emit: Callable[[ir.IRBuilder], None], words: int) -> MachineCode:
    """Compile a function, once.

    Parameters
    ----------
    name
        All that its code depends on beside the sources and this machine; None for what nobody else has.
    emit
        Writes its body.
    words
        How many arguments it has.
    """
    if name is not None and name in _known:
        return _known[name]
    target = _target()
    key = f"{name} {target.key}" if name is not None else f"unnamed {next(_numbers)}"
    symbol = f"numbaconv.{hashlib.sha256(key.encode()).hexdigest()}"
    data = None if name is None else read(key)
    if data is None:
        with event.trigger_event("numba:compile", data={"dispatcher": key, "args": (), "return_type": None}):
            data = target.machine.emit_object(_optimised(symbol, emit, words))
        if name is not None:
            write(key, data)
    target.engine.add_object_file(llvm.ObjectFileRef.from_data(data))
    target.engine.finalize_object()
    code = MachineCode(target.engine.get_function_address(symbol), symbol, emit, words)
    if name is not None:
        _known[name] = code
    return code


class _Target(NamedTuple):
    machine: Any
    engine: Any
    key: tuple  # what it generates code for


@cache
def _target() -> _Target:
    """What code is generated for, and where it goes: as Numba's is, in an engine of its own."""
    triple, cpu, features = key = cpu_target.target_context.codegen().magic_tuple()
    reloc = "static" if triple.startswith(("x86", "i686")) else "default"

    def machine() -> Any:
        return llvm.Target.from_triple(triple).create_target_machine(
            cpu=cpu, features=features, opt=3, reloc=reloc, codemodel="jitdefault", jit=True
        )

    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine(), use_lmm=numba.config.USE_LLVMLITE_MEMORY_MANAGER)
    if numba.config.ENABLE_PROFILING:
        engine.enable_jit_events()
    return _Target(machine(), engine, key)


def _optimised(symbol: str, emit: Callable, words: int) -> Any:
    """The module that has the function alone."""
    target = _target()
    module = ir.Module(symbol)
    module.triple, module.data_layout = target.key[0], str(target.engine.target_data)
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [ir.IntType(64)] * words), symbol)
    builder = ir.IRBuilder(function.append_basic_block())
    emit(builder)
    builder.ret_void()
    parsed = llvm.parse_assembly(str(module))
    parsed.verify()
    options = llvm.create_pipeline_tuning_options(speed_level=3)
    options.loop_vectorization = options.slp_vectorization = False  # it is vector code already
    passes = llvm.create_pass_builder(target.machine, options)
    passes.getModulePassManager().run(parsed, passes)
    return parsed
