"""Train a network on scikit-learn's digits, all of it in one compiled function: ``python examples/train_digits.py``.

Two convolutions, 3 x 3 with relu and then one as large as what is left, whose results are the scores of the ten digits. ``train``
runs through all epochs: it shuffles, computes forward, the gradients by ``numbaconv.grad``, and updates, without Python.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numba import njit

import numbaconv as nc

CLASSES, HIDDEN = 10, 16
BATCH = 32
RATE, MOMENTUM = np.float32(0.05), np.float32(0.9)
TESTED = 0.25  # of the digits


class Parameters(NamedTuple):
    """Of both layers: weights ``(16, 1, 3, 3)`` and ``(10, 16, 6, 6)``, and a bias each; float32."""

    weight1: np.ndarray
    bias1: np.ndarray
    weight2: np.ndarray
    bias2: np.ndarray


class Digits(NamedTuple):
    """Pictures ``(N, 1, 8, 8)``, float32 from 0 to 1, and what they show."""

    pictures: np.ndarray
    labels: np.ndarray


@njit
def train(digits: Digits, parameters: Parameters, epochs: int, rng: np.random.Generator) -> np.ndarray:
    """Train the parameters, in place, and return the mean loss of each epoch."""
    weight1, bias1, weight2, bias2 = parameters
    speed1, speed2 = np.zeros_like(weight1), np.zeros_like(weight2)
    bias_speed1, bias_speed2 = np.zeros_like(bias1), np.zeros_like(bias2)
    losses = np.zeros(epochs)
    order = np.arange(len(digits.labels))
    for epoch in range(epochs):
        shuffle(order, rng)
        for start in range(0, len(order), BATCH):
            chosen = order[start : start + BATCH]
            x = digits.pictures[chosen]

            hidden = nc.conv2d(x, weight1, bias1, activation="relu")
            scores = nc.conv2d(hidden, weight2, bias2)
            loss, slope2 = cross_entropy(scores, digits.labels[chosen])
            losses[epoch] += loss * len(chosen) / len(order)

            slope1 = nc.grad.conv2d_input(hidden.shape, weight2, slope2)
            through_relu(hidden, slope1)
            update(weight2, speed2, nc.grad.conv2d_weight(hidden, weight2.shape, slope2))
            update(weight1, speed1, nc.grad.conv2d_weight(x, weight1.shape, slope1))
            update(bias2, bias_speed2, channel_sums(slope2))
            update(bias1, bias_speed1, channel_sums(slope1))
    return losses


@njit
def shuffle(order: np.ndarray, rng: np.random.Generator) -> None:
    """Put numbers into a random order, in place (Fisher and Yates)."""
    for i in range(len(order) - 1, 0, -1):
        j = int(rng.random() * (i + 1))
        order[i], order[j] = order[j], order[i]


@njit
def cross_entropy(scores: np.ndarray, labels: np.ndarray) -> tuple[float, np.ndarray]:
    """Return the mean cross-entropy of softmax, and its gradient with respect to the scores ``(N, 10, 1, 1)``."""
    slope, total = np.empty_like(scores), 0.0
    for n, label in enumerate(labels):
        highest, powers = scores[n].max(), 0.0
        for c in range(CLASSES):
            slope[n, c, 0, 0] = math.exp(scores[n, c, 0, 0] - highest)
            powers += slope[n, c, 0, 0]
        total += math.log(powers) + highest - scores[n, label, 0, 0]
        for c in range(CLASSES):
            share = slope[n, c, 0, 0] / powers
            slope[n, c, 0, 0] = (share - (c == label)) / len(labels)
    return total / len(labels), slope


@njit
def through_relu(result: np.ndarray, slope: np.ndarray) -> None:
    """Make the gradient with respect to a result of relu the one with respect to what it was given, in place."""
    for i in np.ndindex(result.shape):
        if result[i] == 0:
            slope[i] = 0


@njit
def channel_sums(slope: np.ndarray) -> np.ndarray:
    """Return the gradient with respect to the bias."""
    sums = np.zeros(slope.shape[1], slope.dtype)
    for n, c, h, w in np.ndindex(slope.shape):
        sums[c] += slope[n, c, h, w]
    return sums


@njit
def update(parameter: np.ndarray, speed: np.ndarray, slope: np.ndarray) -> None:
    """Take a step of gradient descent with momentum, in place."""
    for i in np.ndindex(parameter.shape):
        speed[i] = MOMENTUM * speed[i] - RATE * slope[i]
        parameter[i] += speed[i]


@njit
def accuracy(digits: Digits, parameters: Parameters) -> float:
    """Return the share of digits that have the highest score."""
    weight1, bias1, weight2, bias2 = parameters
    scores = nc.conv2d(nc.conv2d(digits.pictures, weight1, bias1, activation="relu"), weight2, bias2)
    right = 0
    for n, label in enumerate(digits.labels):
        right += scores[n].argmax() == label
    return right / len(digits.labels)


def initial(rng: np.random.Generator) -> Parameters:
    """Return random parameters, by whose size results are as large as what the layers are given (He 2015)."""

    def normal(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape, np.float32) * np.float32(np.sqrt(2 / np.prod(shape[1:])))

    zeros = np.zeros(HIDDEN, np.float32), np.zeros(CLASSES, np.float32)
    return Parameters(normal(HIDDEN, 1, 3, 3), zeros[0], normal(CLASSES, HIDDEN, 6, 6), zeros[1])


def load() -> tuple[Digits, Digits]:
    """Return digits to train with, and others to test with."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    found = load_digits()
    pictures = (found.images[:, None] / 16).astype(np.float32)
    parts = train_test_split(pictures, found.target, test_size=TESTED, random_state=0, stratify=found.target)
    return Digits(parts[0], parts[2]), Digits(parts[1], parts[3])


def run(epochs: int, seed: int) -> float:
    """Train and test, print how that went, and return the share of test digits that are recognised."""
    trained, tested = load()
    rng = np.random.default_rng(seed)
    parameters = initial(rng)
    start = time.perf_counter()
    losses = train(trained, parameters, epochs, rng)
    seconds = time.perf_counter() - start
    right = accuracy(tested, parameters)
    print(f"{len(trained.labels)} digits, {epochs} epochs, {seconds:.1f} s: loss {losses[0]:.3f}, {losses[-1]:.4f}")
    print(f"{right:.1%} of {len(tested.labels)} other digits are recognised")
    return right


def positive(text: str) -> int:
    """Read a number of at least one."""
    if (number := int(text)) < 1:
        raise ValueError
    return number


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command, and return its exit status: 2 where scikit-learn is missing."""
    parser = argparse.ArgumentParser(description=__doc__.split(":")[0])
    parser.add_argument("--epochs", type=positive, default=20, metavar="N", help="runs through the digits (default: %(default)s)")
    parser.add_argument("--seed", type=positive, default=1, metavar="N", help="of the random numbers (default: %(default)s)")
    options = parser.parse_args(arguments)
    try:
        run(options.epochs, options.seed)
    except ImportError as error:
        print(f'train_digits: error: {error}: pip install "numbaconv[examples]"', file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
