"""What a user waits for: importing the package, and the first call, with and without compiled kernels in the cache."""

import shutil
import subprocess
import sys
import tempfile

from benchmarks.common import ROUNDS, some
from benchmarks.layers import LAYERS

BEFORE = """
import os, tempfile
os.environ["NUMBA_CACHE_DIR"] = os.environ["NUMBACONV_CACHE_DIR"] = {folder}
import numpy as np
import numbaconv as nc
x, weight = np.ones({shape}, np.float32), np.ones({weight}, np.float32)
"""
CALL = "nc.conv2d(x, weight, **{options})"


class Import:
    """Seconds of importing in a fresh process, once the files are in the system's cache."""

    repeat = 3
    rounds = ROUNDS

    def timeraw_import(self):
        return "import numbaconv"

    def timeraw_import_numba(self):
        return "import numba"

    def timeraw_import_numpy(self):
        return "import numpy"


class FirstCall:
    """Seconds of the first call in a fresh process, after the import; cold is with an empty folder for what is compiled."""

    params = (some(("resnet50.2.3x3", "resnet50.4.1x1"), ("resnet50.2.3x3", "resnet50.4.1x1", "mobilenetv2.dw3", "image.3x3")),)
    param_names = ("layer",)
    timeout = 300
    warmup_time = 0
    rounds = ROUNDS
    repeat = 1
    min_run_count = 1

    def setup(self, layer):
        self.folder = tempfile.mkdtemp()

    def teardown(self, layer):
        shutil.rmtree(self.folder)

    def timeraw_cold(self, layer):
        return self.code(layer, f"tempfile.mkdtemp(dir={self.folder!r})")

    def timeraw_warm(self, layer):
        call, before = self.code(layer, repr(self.folder))
        subprocess.run([sys.executable, "-c", before + call], check=True)
        return call, before

    def code(self, layer, folder):
        shape, weight, options = LAYERS[layer]
        return CALL.format(options=options), BEFORE.format(folder=folder, shape=shape, weight=weight)
