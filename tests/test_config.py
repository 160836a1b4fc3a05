"""``show_config``: what it prints is what it returns, and is true."""

import platform

import numba
import numpy as np
import pytest
from helpers import run_python

import numbaconv as nc
from numbaconv.cpu import cache_folder


def test_sections():
    sections = nc.show_config(mode="dicts")
    assert list(sections) == ["versions", "cpu", "threads", "backends", "settings"]
    assert sections["versions"]["python"] == platform.python_version()
    assert sections["versions"]["numpy"] == np.__version__
    assert sections["versions"]["numba"] == numba.__version__
    assert sections["threads"]["threads"] == numba.get_num_threads()
    assert sections["backends"] == nc.backends()
    assert sections["settings"]["kernel cache"] == cache_folder()


def test_prints_all_of_it(capsys):
    assert nc.show_config() is None
    printed = capsys.readouterr().out
    for title, items in nc.show_config(mode="dicts").items():
        assert f"{title}:\n" in printed
        for name, value in items.items():
            assert f"  {name}: {value}" in printed


def test_follows_the_settings():
    assert nc.show_config("dicts")["settings"]["NUMBACONV_BACKEND"] == "not set"
    code = "import numbaconv as nc; print(nc.show_config('dicts')['settings']['NUMBACONV_BACKEND'])"
    assert run_python(code, env={"NUMBACONV_BACKEND": "reference"}).stdout == "reference\n"
    before = numba.get_num_threads()
    numba.set_num_threads(1)
    try:
        assert nc.show_config("dicts")["threads"]["threads"] == 1
    finally:
        numba.set_num_threads(before)


@pytest.mark.parametrize("mode", ["json", "", None, 3, True])
def test_another_mode(mode):
    with pytest.raises((ValueError, TypeError), match=r"^mode: expected .+, got "):
        nc.show_config(mode)
