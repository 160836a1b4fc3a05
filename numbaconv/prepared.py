"""The prepared operators: everything that depends on the weight alone is done once."""

from __future__ import annotations

from collections.abc import Hashable
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from numbaconv import arrays, execute
from numbaconv.arrays import Place, seen
from numbaconv.backend import choose, chosen
from numbaconv.bound import Bound, Memo, Planned, bind, pack
from numbaconv.dispatch import Explanation
from numbaconv.execute import Call, Packer, Request, compute, memory_at, memory_of, move, record
from numbaconv.options import ConvOptions, frozen
from numbaconv.problem import Specs
from numbaconv.recorded import Recorded, look_at
from numbaconv.spec import ArraySpec
from numbaconv.table import Table

__all__ = ["Conv1d", "Conv2d", "Conv3d", "ConvTranspose1d", "ConvTranspose2d", "ConvTranspose3d", "Owned", "Prepared", "owned"]


class Prepared:
    """An operator with its weight: owns copies, and what the algorithms packed of them."""

    operator = "conv"
    ndim: int

    def __init__(self, weight: Any, bias: Any, options: ConvOptions, backend: str | None) -> None:
        options = frozen(options)
        self._options, self._backend = options, backend
        home, memory = arrays.place_of(weight), memory_of(weight)
        view = memory.view(weight, "weight")
        bias_view = None if bias is None else memory.view(bias, "bias")
        spec = ArraySpec(view.shape, view.dtype)
        bias_spec = None if bias_view is None else ArraySpec(bias_view.shape, bias_view.dtype)
        execute.check(self.operator, self.ndim, spec, bias_spec, options, choose(backend, home))
        self._specs = spec, bias_spec
        given = {} if home == "host" else {"weight": weight} | ({} if bias is None else {"bias": bias})
        with memory.session(given, None) as stream:
            owned = _copy(weight, view, stream), _copy(bias, bias_view, stream)
            self._owned: dict[Hashable, tuple[Any, Any]] = {memory.site(weight): owned}
            memory.settle(stream)  # as calls may use other streams
        self._packed: dict[tuple, Any] = {}
        self._bound: Memo[Bound] = Memo()
        self._recorded: Memo[Recorded] = Memo()
        self.table = Table()  # of calls in compiled functions
        self.numba_type: Any = None  # there

    def __call__(self, input: Any, *, residual: Any = None, out: Any = None, stream: Any = None) -> Any:
        """Compute the convolution of `input`, of any batch and spatial size.

        Parameters
        ----------
        input : array_like
            As of the function.
        residual, out, stream
            As of the function.

        Returns
        -------
        array
            As of the function.

        Raises
        ------
        ValueError, TypeError, BackendUnavailableError
            As the function; the arguments are named the same.
        """
        key = None
        if (
            stream is None
            and (first := seen(input)) is not None
            and (more := residual is None or seen(residual)) is not None
            and (to := out is None or seen(out)) is not None
        ):
            key = first, more, to, chosen.get()
            bound = self._bound.get(key)
            if bound is not None and (out is None or bound.takes(out, input, residual)):
                return bound.compute(input, None, None, residual, out)
        home, looks = arrays.place_of(input), None
        if home == "cuda":
            looks = look_at(memory_at("cuda"), None, (input, residual, out))
            if looks is not None:
                given, addresses, alike = looks
                recorded = self._recorded.get(alike)
                if recorded is not None and recorded.takes(addresses):
                    return recorded.compute(given, addresses, stream)
        target = choose(self._backend, home).place
        site, weight, bias = self._at(target, input if home == target else None)
        pack: Packer = partial(self._pack, site)
        call = Call(input, weight, bias, residual, out)
        if home == "cuda":
            asked = Request(self.operator, self.ndim, self._options, self._backend, pack, ("weight", "bias"))
            return record(self._recorded, looks, asked, call, stream)
        result, planned = compute(self.operator, self.ndim, call, self._options, self._backend, stream, pack)
        if key is not None and planned is not None:
            bound = bind(planned, input, weight, bias, residual, out, pack(planned, weight, None))
            if bound is not None:
                self._bound.remember(key, bound)
        return result

    def explain(self, input: Any) -> Explanation:
        """Say which algorithm a call with `input` (an array, or a shape for one of the weight's dtype) takes, and why."""
        backend = choose(self._backend, "host" if issubclass(type(input), tuple) else arrays.place_of(input))
        first = execute.describe(input, self._specs[0].dtype, self.ndim, self._options.layout)
        specs = Specs(first, *self._specs)
        return execute.explain(self.operator, self.ndim, specs, self._options, backend, prepared=True)

    def _at(self, place: Place, input: Any) -> tuple[Hashable, Any, Any]:
        """Where that is, exactly, and the weight and bias there, copied once; None for input is any such place."""
        memory = memory_at(place)
        site = memory.site(input)
        if site not in self._owned:
            pair = next(iter(self._owned.values()))
            with memory.session({} if input is None else {"input": input}, None) as stream:
                moved = [None if a is None else move(a, "weight", place) for a in pair]
                memory.settle(stream)
            self._owned[site] = moved[0], moved[1]
        return site, *self._owned[site]

    def _pack(self, site: Hashable, planned: Planned, weight: np.ndarray, stream: Any) -> list[Any]:
        """What the plan's algorithms made of the weight, made once for each way of taking and computing it."""
        key = (site, planned.packed_form)
        if key not in self._packed:
            self._packed[key] = pack(planned, weight, stream)
            execute.settle(planned, stream)  # as later calls may use other streams
        return self._packed[key]

    def __repr__(self) -> str:
        shape, dtype, _ = self._specs[0]
        changed = {
            name: value
            for name, value in zip(ConvOptions._fields, self._options, strict=True)
            if value != ConvOptions._field_defaults[name]
        }
        options = "".join(f", {name}={value!r}" for name, value in changed.items())
        return f"{type(self).__name__}(weight {'x'.join(map(str, shape))}, {dtype}{options})"


class Owned(NamedTuple):
    """What an operator on the host has of its own."""

    weight: np.ndarray
    bias: np.ndarray | None
    options: ConvOptions
    backend: str | None
    pack: Packer


def owned(operator: Prepared) -> Owned:
    """Return that."""
    site, weight, bias = operator._at("host", None)
    return Owned(weight, bias, operator._options, operator._backend, partial(operator._pack, site))


def _copy(array: Any, view: np.ndarray | None, stream: Any) -> Any:
    if view is None:
        return None
    memory = memory_of(array)
    owned = memory.empty(view.shape, view.dtype, array, stream)
    memory.copy(owned, memory.restride(array, view), stream)
    return owned


class _Conv(Prepared):
    def __init__(
        self,
        weight: Any,
        bias: Any = None,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
        *,
        padding_mode: str = "zeros",
        layout: str | None = None,
        activation: Any = None,
        out_dtype: Any = None,
        algorithm: str = "auto",
        precision: str = "ieee",
        backend: str | None = None,
    ) -> None:
        options = ConvOptions(
            stride, padding, dilation, groups, padding_mode, layout, activation, out_dtype, algorithm, precision
        )
        super().__init__(weight, bias, options, backend)


class _ConvTranspose(Prepared):
    operator = "conv_transpose"

    def __init__(
        self,
        weight: Any,
        bias: Any = None,
        stride: Any = 1,
        padding: Any = 0,
        output_padding: Any = 0,
        groups: int = 1,
        dilation: Any = 1,
        *,
        layout: str | None = None,
        activation: Any = None,
        out_dtype: Any = None,
        algorithm: str = "auto",
        precision: str = "ieee",
        backend: str | None = None,
    ) -> None:
        options = ConvOptions(
            stride, padding, dilation, groups, "zeros", layout, activation, out_dtype, algorithm, precision, output_padding
        )
        super().__init__(weight, bias, options, backend)


class Conv2d(_Conv):
    """A prepared :func:`numbaconv.conv2d`: checks, chooses and packs once, then only computes.

    Parameters
    ----------
    weight : array_like, ``(C_out, C_in / groups, kh, kw)``
        The kernels. The operator owns a copy: changing the array afterwards changes nothing.
    bias : array_like, ``(C_out,)``, optional
        Copied as well.
    stride, padding, dilation, groups, padding_mode, layout, activation, out_dtype, algorithm, precision, backend
        As of :func:`numbaconv.conv2d`.

    Raises
    ------
    ValueError, TypeError, BackendUnavailableError
        As :func:`numbaconv.conv2d`; what does not depend on the data is checked here already.

    Examples
    --------
    >>> import numpy as np, numbaconv as nc
    >>> op = nc.Conv2d(np.ones((4, 3, 5, 5), np.float32), padding="same")
    >>> op(np.zeros((2, 3, 32, 32), np.float32)).shape
    (2, 4, 32, 32)
    """

    ndim = 2


class Conv1d(_Conv):
    """A prepared :func:`numbaconv.conv1d`; see :class:`Conv2d`."""

    ndim = 1


class Conv3d(_Conv):
    """A prepared :func:`numbaconv.conv3d`; see :class:`Conv2d`."""

    ndim = 3


class ConvTranspose2d(_ConvTranspose):
    """A prepared :func:`numbaconv.conv_transpose2d`: checks, chooses and packs once, then only computes.

    Parameters
    ----------
    weight : array_like, ``(C_in, C_out / groups, kh, kw)``
        The kernels. The operator owns a copy: changing the array afterwards changes nothing.
    bias : array_like, ``(C_out,)``, optional
        Copied as well.
    stride, padding, output_padding, groups, dilation, layout, activation, out_dtype, algorithm, precision, backend
        As of :func:`numbaconv.conv_transpose2d`.

    Raises
    ------
    ValueError, TypeError, BackendUnavailableError
        As :func:`numbaconv.conv_transpose2d`; what does not depend on the data is checked here already.
    """

    ndim = 2


class ConvTranspose1d(_ConvTranspose):
    """A prepared :func:`numbaconv.conv_transpose1d`; see :class:`ConvTranspose2d`."""

    ndim = 1


class ConvTranspose3d(_ConvTranspose):
    """A prepared :func:`numbaconv.conv_transpose3d`; see :class:`ConvTranspose2d`."""

    ndim = 3
