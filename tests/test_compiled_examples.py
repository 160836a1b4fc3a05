"""The examples of compiled functions that call numbaconv: a network that is trained, a photograph that is filtered."""

import os
import re
import subprocess
import sys
from pathlib import Path

import image_pipeline
import numba
import numpy as np
import pytest
import train_digits
from skimage.io import imread

EXAMPLES = Path(train_digits.__file__).parent


# ---------------------------------------------------------------- train_digits.py


@pytest.fixture
def one_thread():
    """Numba's: layers this small are finished before a second thread is found, where tests share the cores."""
    threads = numba.get_num_threads()
    numba.set_num_threads(1)
    yield
    numba.set_num_threads(threads)


def trained(function, digits, epochs):
    """Losses and parameters after so many epochs, from the same random numbers."""
    rng = np.random.default_rng(1)
    parameters = train_digits.initial(rng)
    return function(digits, parameters, epochs, rng), *parameters


def test_the_network_learns(capsys, one_thread):
    assert train_digits.main([]) == 0
    found = re.search(r"loss ([\d.]+), ([\d.]+)\n([\d.]+)% of 450 other digits", capsys.readouterr().out)
    first, last, right = map(float, found.groups())
    assert last < 0.1 * first
    assert right > 95


def test_training_needs_no_python(one_thread):
    """It is one function, compiled without objects, that learns what its Python does, bit for bit; the last batch is smaller."""
    digits, _ = train_digits.load()
    digits = train_digits.Digits(*(part[: 3 * train_digits.BATCH + 5] for part in digits))
    compiled, called = trained(train_digits.train, digits, 2), trained(train_digits.train.py_func, digits, 2)
    assert train_digits.train.nopython_signatures
    for ours, theirs in zip(compiled, called, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert not np.array_equal(compiled[1], trained(train_digits.train, digits, 1)[1])


def test_gradients_are_those_of_the_loss(one_thread):
    """Of a single step, by differences in float64, so that what ``train`` does between the convolutions is right too."""
    rng = np.random.default_rng(0)
    parameters = train_digits.initial(rng)
    digits = train_digits.Digits(rng.random((5, 1, 8, 8), np.float32), np.arange(5))
    stepped = train_digits.Parameters(*(p.copy() for p in parameters))
    train_digits.train(digits, stepped, 1, rng)
    for number, (was, now) in enumerate(zip(parameters, stepped, strict=True)):
        slope = (was.astype(float) - now) / float(train_digits.RATE)
        direction = rng.standard_normal(was.shape)
        beyond, before = (loss(digits, parameters, number, sign * 1e-6 * direction) for sign in (1, -1))
        assert np.sum(slope * direction) == pytest.approx((beyond - before) / 2e-6, rel=2e-3, abs=2e-4)


def loss(digits, parameters, number, step):
    """The mean cross-entropy where one parameter is off by a step, in NumPy and float64."""
    weight1, bias1, weight2, bias2 = (p + step if i == number else p.astype(float) for i, p in enumerate(parameters))
    windows = np.lib.stride_tricks.sliding_window_view(digits.pictures[:, 0].astype(float), (3, 3), axis=(1, 2))
    hidden = np.maximum(np.einsum("nyxhw,ohw->noyx", windows, weight1[:, 0]) + bias1[:, None, None], 0)
    scores = np.einsum("nchw,ochw->no", hidden, weight2) + bias2
    return np.mean(np.log(np.exp(scores).sum(axis=1)) - scores[np.arange(len(scores)), digits.labels])


# ---------------------------------------------------------------- image_pipeline.py


@pytest.mark.parametrize("rows", [slice(None), slice(0, 77)], ids=["square", "odd"])
def test_the_pipeline_is_its_steps(rows):
    """Called from Python they give the same bits; with SciPy's filters the same up to rounding, and edges where ours are."""
    photo = image_pipeline.photograph()[rows].copy()
    sharpened, edges = image_pipeline.pipeline(photo, image_pipeline.prepared())
    assert image_pipeline.pipeline.nopython_signatures
    called = image_pipeline.pipeline.py_func(photo, image_pipeline.prepared())
    np.testing.assert_array_equal(sharpened, called[0])
    np.testing.assert_array_equal(edges, called[1])
    of_scipy = image_pipeline.pipeline.py_func(photo, image_pipeline.of_scipy())
    np.testing.assert_allclose(sharpened, of_scipy[0], atol=2e-6)
    assert np.count_nonzero((edges > 0) != (of_scipy[1] > 0)) <= 1e-4 * edges.size
    assert 0.02 < np.mean(edges > 0) < 0.2
    assert sharpened[-1, -1].max() == edges[-1, -1] == 0  # nothing of a pyramid stands there
    assert np.all(sharpened[: photo.shape[0] // 2, photo.shape[1] :].max(axis=(1, 2)) > 0)


def test_the_pipeline_prints_and_draws(tmp_path, capsys):
    path = tmp_path / "pyramids.png"
    assert image_pipeline.main([str(path)]) == 0
    printed = capsys.readouterr().out
    assert "called from Python: the same, bit for bit" in printed
    assert f"picture written to {path}" in printed
    assert imread(path).shape == (2 * 512, 512 + 256, 3)


def test_a_picture_that_cannot_be_written_is_refused(tmp_path, capsys):
    assert image_pipeline.main([str(tmp_path / "no" / "pyramids.png")]) == 2
    assert "OUTPUT" in capsys.readouterr().err


# ---------------------------------------------------------------- both


@pytest.mark.parametrize(("script", "missing"), [("train_digits", "sklearn"), ("image_pipeline", "skimage")])
def test_the_extra_that_is_missing_is_named(script, missing, tmp_path):
    (tmp_path / f"{missing}.py").write_text("raise ImportError('not here')")
    result = subprocess.run(
        [sys.executable, EXAMPLES / f"{script}.py"],
        capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(tmp_path)}, timeout=120,
    )  # fmt: skip
    assert result.returncode == 2
    assert result.stderr == f'{script}: error: not here: pip install "numbaconv[examples]"\n'
