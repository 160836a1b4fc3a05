"""``explain``: which algorithm a call takes, and why not another."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, cast

import numpy as np

from numbaconv import dtypes, execute, functional
from numbaconv.arrays import place_of
from numbaconv.backend import choose
from numbaconv.dispatch import Explanation
from numbaconv.errors import bad_type, bad_value, shown
from numbaconv.options import ConvOptions
from numbaconv.prepared import Prepared
from numbaconv.problem import Specs

__all__ = ["explain"]

_FUNCTIONS: dict[str, tuple[str, int, Callable]] = {
    "conv1d": ("conv", 1, functional.conv1d),
    "conv2d": ("conv", 2, functional.conv2d),
    "conv3d": ("conv", 3, functional.conv3d),
    "conv_transpose1d": ("conv_transpose", 1, functional.conv_transpose1d),
    "conv_transpose2d": ("conv_transpose", 2, functional.conv_transpose2d),
    "conv_transpose3d": ("conv_transpose", 3, functional.conv_transpose3d),
}


def explain(operator: str | Prepared, input: Any, *args: Any, dtype: Any = np.float32, **kwargs: Any) -> Explanation:
    """Say which algorithm a call takes, what it and the others should cost, and why they were not taken.

    Parameters
    ----------
    operator : str or prepared operator
        ``"conv2d"`` or another function's name, or for example a :class:`numbaconv.Conv2d`.
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
    'winograd4'
    """
    kind = type(operator)  # not isinstance, which asks the object
    if issubclass(kind, Prepared):
        return cast(Prepared, operator).explain(input, *args, **kwargs)
    if not issubclass(kind, str):
        raise bad_type("operator", "the name of a function or a prepared operator", shown(operator))
    name = str.__str__(cast(str, operator))
    if name not in _FUNCTIONS:
        raise bad_value("operator", "one of " + ", ".join(map(repr, _FUNCTIONS)), shown(name))
    action, ndim, function = _FUNCTIONS[name]
    call = inspect.signature(function).bind(input, *args, **kwargs)
    call.apply_defaults()
    given = call.arguments
    options = ConvOptions(*(given.get(name, default) for name, default in ConvOptions._field_defaults.items()))
    shape_dtype = dtypes.check(dtype, "dtype")
    specs = Specs._make(
        None
        if given[name] is None and name in execute.OPTIONAL
        else execute.describe(given[name], shape_dtype, ndim, options.layout, name)
        for name in Specs._fields
    )
    place = "host" if issubclass(type(input), tuple) else place_of(input)
    backend = choose(given["backend"], place)
    return execute.explain(action, ndim, specs, options, backend)
