"""The CPU backend: kernels compiled by Numba for the machine they run on."""

from __future__ import annotations

from numbaconv.cpu.direct import DIRECT

__all__ = ["ALGORITHMS", "why_unavailable"]

ALGORITHMS = (DIRECT,)


def why_unavailable() -> str | None:
    """There is always a CPU."""
    return None
