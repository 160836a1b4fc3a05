"""The threading layers of Numba's that are installed, and the environment in which a process takes one."""

import importlib.util
import os
import sys
from pathlib import Path

import pytest

LIBRARIES = Path(sys.prefix) / "lib"  # where the package tbb puts its own, and no loader looks

INSTALLED = [
    layer
    for layer, module in [("workqueue", "workqueue"), ("omp", "omppool"), ("tbb", "tbbpool")]
    if importlib.util.find_spec(f"numba.np.ufunc.{module}") and (layer != "tbb" or (LIBRARIES / "libtbb.so.12").exists())
]
every_layer = pytest.mark.parametrize("layer", INSTALLED)
forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork")


def settings(layer):
    path = os.pathsep.join(filter(None, [os.environ.get("LD_LIBRARY_PATH"), str(LIBRARIES)]))
    return {"NUMBA_THREADING_LAYER": layer, "NUMBA_NUM_THREADS": "2", "LD_LIBRARY_PATH": path}
