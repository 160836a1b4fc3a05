"""The user's own folder: where it is, and files in it that are whole or not there at all."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

__all__ = ["ENVIRONMENT", "check_owner", "folder", "replace_whole"]

ENVIRONMENT = "NUMBACONV_CACHE_DIR"


def folder() -> Path:
    """Where the files are: ``NUMBACONV_CACHE_DIR``, or numbaconv's part of the user's cache folder.

    Raises
    ------
    FileNotFoundError
        If the user has no home.
    """
    chosen = os.environ.get(ENVIRONMENT)
    if chosen:
        return Path(chosen)
    if sys.platform == "win32":
        base, default = os.environ.get("LOCALAPPDATA"), "~/AppData/Local"
    elif sys.platform == "darwin":
        base, default = None, "~/Library/Caches"
    else:
        base, default = os.environ.get("XDG_CACHE_HOME"), "~/.cache"
    try:
        return Path(base if base and os.path.isabs(base) else default).expanduser() / "numbaconv"
    except RuntimeError as error:
        raise FileNotFoundError(f"{error} Set {ENVIRONMENT}.") from None


def check_owner(path: Path) -> None:
    """Raise PermissionError for what another user could have written."""
    if path.stat().st_uid != getattr(os, "geteuid", lambda: 0)():  # on Windows both are 0
        raise PermissionError(f"{path} belongs to another user")


def replace_whole(path: Path, data: bytes) -> None:
    """Put a whole file in the place of the old one."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
    try:
        with open(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(handle)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
