"""What a user waits for before the first result."""


class Import:
    """Seconds of importing the package in a fresh process, numba among it."""

    def timeraw_import(self):
        return "import numbaconv"

    def timeraw_import_numba(self):
        return "import numba"
