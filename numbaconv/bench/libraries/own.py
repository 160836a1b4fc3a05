"""numbaconv itself: a prepared operator, or the function."""

from __future__ import annotations

import numpy as np

import numbaconv as nc
from numbaconv.bench.case import Case, Prepared
from numbaconv.options import LAYOUTS

__all__ = ["prepare"]


def prepare(case: Case) -> Prepared:
    """Return a layer on NumPy arrays in the layout asked for."""
    x, weight = case.operands()
    x = np.ascontiguousarray(np.moveaxis(x, 1, -1)) if case.channels_last else x
    layout = LAYOUTS[case.ndim][case.channels_last]
    options = {**case.layer.options, "layout": layout, "algorithm": case.algorithm, "backend": "cpu"}
    name = f"conv{case.ndim}d"
    if case.mode == "prepared":
        op = getattr(nc, name.capitalize())(weight, **options)
        taken = op.explain(x)

        def call() -> np.ndarray:
            return op(x)
    else:
        function = getattr(nc, name)
        taken = nc.explain(name, x, weight, **options)

        def call() -> np.ndarray:
            return function(x, weight, **options)

    return Prepared(call, lambda: np.moveaxis(call(), -1, 1) if case.channels_last else call(), taken.algorithm)
