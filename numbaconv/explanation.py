"""``explain``: which algorithm a call takes, and why not another."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np

from numbaconv import dtypes, execute
from numbaconv.arrays import place_of
from numbaconv.backend import choose
from numbaconv.dispatch import Explanation
from numbaconv.dispatch import explain as explain_spec
from numbaconv.errors import bad_type, bad_value
from numbaconv.functional import conv2d
from numbaconv.prepared import Conv2d
from numbaconv.spec import ConvOptions

__all__ = ["explain"]

_FUNCTIONS = {"conv2d": (2, conv2d)}


def explain(operator: str | Conv2d, input: Any, *args: Any, dtype: Any = np.float32, **kwargs: Any) -> Explanation:
    """Say which algorithm a call takes, what it and the others should cost, and why they were not taken.

    Parameters
    ----------
    operator : str or prepared operator
        ``"conv2d"``, or for example a :class:`numbaconv.Conv2d`.
    input : array or tuple of ints
        The data, or its shape.
    *args, **kwargs
        The other arguments of the function, in its order and with its names; arrays or their shapes. A prepared
        operator takes none.
    dtype : dtype, default float32
        Of what is given as a shape.

    Returns
    -------
    Explanation
        Print it; it also has ``backend``, ``algorithm`` and ``rows``.

    Raises
    ------
    ValueError, TypeError, BackendUnavailableError
        As the call itself would.

    Examples
    --------
    >>> import numbaconv as nc
    >>> nc.explain("conv2d", (1, 64, 56, 56), (64, 64, 3, 3), padding=1).algorithm
    'direct'
    """
    if not isinstance(operator, str):
        if not hasattr(operator, "explain"):
            raise bad_type("operator", "the name of a function or a prepared operator", repr(operator))
        return operator.explain(input, *args, **kwargs)
    if operator not in _FUNCTIONS:
        raise bad_value("operator", "one of " + ", ".join(map(repr, _FUNCTIONS)), repr(operator))
    ndim, function = _FUNCTIONS[operator]
    call = inspect.signature(function).bind(input, *args, **kwargs)
    call.apply_defaults()
    given = call.arguments
    options = ConvOptions(*(given.get(name) for name in ConvOptions._fields))
    shape_dtype = dtypes.check(dtype, "dtype")
    specs = execute.Specs._make(
        None if given[name] is None else execute.describe(given[name], shape_dtype, ndim, options.layout, name)
        for name in execute.Specs._fields
    )
    place = "host" if isinstance(input, tuple) else place_of(input)
    backend = choose(given["backend"], place)
    plan, _ = execute.plan_specs(ndim, specs, options, backend)
    return explain_spec(plan.spec, backend)
