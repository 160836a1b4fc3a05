"""Which backends there are, whether they can run here, and which one a call goes to."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from importlib import import_module
from typing import Any, NamedTuple

from numbaconv.algorithm import Algorithm
from numbaconv.arrays import Place
from numbaconv.errors import BackendUnavailableError, bad_type, bad_value, shown

__all__ = ["BACKENDS", "ENVIRONMENT", "SETTING", "Backend", "backends", "choose", "chosen", "use_backend"]

ENVIRONMENT = "NUMBACONV_BACKEND"
SETTING = os.environ.get(ENVIRONMENT, "")  # once: looking it up takes as long as all else that a small call does


class Backend(NamedTuple):
    """A backend: where its arrays live. The module of its name has the rest, and is imported when it is asked for."""

    name: str
    place: Place

    @property
    def module(self) -> Any:
        """What has its algorithms."""
        return import_module(f"numbaconv.{self.name}")

    @property
    def algorithms(self) -> tuple[Algorithm, ...]:
        """Its algorithms, in order of preference among equals."""
        return self.module.ALGORITHMS

    def why_unavailable(self) -> str | None:
        """A sentence on what is missing and how to get it, or None."""
        return self.module.why_unavailable()


BACKENDS = {
    "cpu": Backend("cpu", "host"),
    "cuda": Backend("cuda", "cuda"),
    "reference": Backend("reference", "host"),
}
# The backend that calls go to which name none: the with block's, or else the environment's.
chosen: ContextVar[str | None] = ContextVar("numbaconv_backend", default=SETTING or None)


def backends() -> dict[str, str]:
    """Return for each backend ``"available"``, or the reason why it is not.

    Examples
    --------
    >>> import numbaconv as nc
    >>> nc.backends()["cpu"]
    'available'
    """
    return {name: backend.why_unavailable() or "available" for name, backend in BACKENDS.items()}


@contextmanager
def use_backend(backend: str) -> Iterator[None]:
    """Send the calls inside a ``with`` block to one backend, in this thread or task only.

    A call's own ``backend=`` goes before it; it goes before the environment variable ``NUMBACONV_BACKEND``, which is read when
    the package is imported. Arrays that live elsewhere are copied there, and results back.

    Parameters
    ----------
    backend : {"cpu", "cuda", "reference"}

    Raises
    ------
    ValueError
        If there is no such backend.
    BackendUnavailableError
        If it cannot run here; the message says why.
    """
    token = chosen.set(_available("backend", backend).name)
    try:
        yield
    finally:
        chosen.reset(token)


def choose(backend: str | None, place: Place) -> Backend:
    """Return the backend for data that lives in `place`: the call's, the ``with`` block's, the environment's, or the data's."""
    if backend is not None:
        found = _available("backend", backend)
    elif (name := chosen.get()) is not None:
        found = _available(ENVIRONMENT, name)  # a with block's was found available when it was entered
    else:
        found = _available("backend", "cuda") if place == "cuda" else BACKENDS["cpu"]
    if found.name == "cpu":
        found.module.thread_limit()  # raises for one that makes no sense, before any plan asks for it
    return found


def _available(argument: str, name: Any) -> Backend:
    if not issubclass(type(name), str):
        raise bad_type(argument, "None or a str", shown(name))
    name = str.__str__(name)
    if name not in BACKENDS:
        raise bad_value(argument, "one of " + ", ".join(map(repr, BACKENDS)), shown(name))
    reason = BACKENDS[name].why_unavailable()
    if reason is not None:
        raise BackendUnavailableError(f"{argument}: the {name} backend cannot run here: {reason}")
    return BACKENDS[name]
