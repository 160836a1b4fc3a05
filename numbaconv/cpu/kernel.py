"""A kernel made ready for one kind of problem: what an algorithm of this backend returns from ``prepare``."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from numbaconv.algorithm import Operands
from numbaconv.cpu.threads import Launch, Launcher

__all__ = ["Kernel"]


class Kernel:
    """Runs on the operands of a call, or is bound to arrays of known shapes.

    Parameters
    ----------
    launcher
        Runs the tasks.
    collect
        Returns their arguments: first input, weight, output, bias and residual, or copies of them where no view will do.
    kept
        What has to live as long as the kernel.
    restore
        Returns a copy of the output, as the kernel saw it, in the output's own shape.
    """

    def __init__(
        self,
        launcher: Launcher,
        collect: Callable[[Operands], tuple],
        *kept: object,
        restore: Callable[[np.ndarray, tuple[int, ...]], np.ndarray] = np.reshape,
    ) -> None:
        self._launcher, self._collect, self._kept, self._restore = launcher, collect, kept, restore

    def __call__(self, operands: Operands) -> None:
        """Compute one call."""
        args = self._collect(operands)
        self._launcher(args)
        computed, output = args[2], operands.output
        if not np.may_share_memory(computed, output):
            output[...] = self._restore(computed, output.shape)

    def bind(self, operands: Operands, bases: Sequence[np.ndarray | None]) -> Launch | None:
        """Return what computes with arrays like the bases, which operands are views of, or None."""
        args = self._collect(operands)
        if all(base is None or np.may_share_memory(arg, base) for arg, base in zip(args, bases, strict=False)):
            return self._launcher.bind(args, bases, self)
        return None
