"""JAX on the CPU: ``lax.conv_general_dilated``, compiled, in the layout asked for.

Its threads cannot be set: it takes as many as the process may use cores, so that the process is kept on that many.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from numbaconv.bench.case import Case, Prepared, UnableError, number_type

__all__ = ["prepare"]


def prepare(case: Case) -> Prepared:
    """Return a layer compiled by XLA."""
    _keep_on_cores(case.threads)
    os.environ["JAX_PLATFORMS"] = "cpu"
    import jax

    jax.config.update("jax_enable_x64", True)
    x, weight = case.operands()
    x = np.moveaxis(x, 1, -1) if case.channels_last else x
    space = "DHW"[-case.ndim :]
    order = f"N{space}C" if case.channels_last else f"NC{space}"
    wide = np.dtype(np.int32) if number_type(case.dtype).kind in "iu" and x.itemsize < 4 else None

    @jax.jit
    def convolve(x: Any, weight: Any) -> Any:
        return jax.lax.conv_general_dilated(
            x, weight, case.stride, [(p, p) for p in case.padding], rhs_dilation=case.dilation,
            dimension_numbers=(order, f"OI{space}", order), feature_group_count=case.groups, preferred_element_type=wide,
        )  # fmt: skip

    data, kernels = jax.device_put(x), jax.device_put(weight)

    def call() -> Any:
        return convolve(data, kernels).block_until_ready()

    def result() -> np.ndarray:
        y = np.asarray(call())
        return np.moveaxis(y, -1, 1) if case.channels_last else y

    return Prepared(call, result)


def _keep_on_cores(threads: int) -> None:
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    elif threads != os.cpu_count():
        raise UnableError("JAX's threads cannot be set, nor can the process be kept on some cores by this system")
