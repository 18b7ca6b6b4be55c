"""Bicubic resizing as MATLAB's imresize: floating-point planes → planes of another size. Not for uint8 pictures."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

Float = TypeVar("Float", bound=np.floating[Any])

_BLOCK_ROWS = 64
"""Outputs made by one matrix product; with so few, most of the matrix is not zero and temporaries stay small."""


def imresize(planes: NDArray[Float], height: int, width: int) -> NDArray[Float]:
    """Planes (..., H, W) resized to (..., height, width), same dtype, C-contiguous; values are not clipped or rounded.

    Bicubic with a = -0.5; where an axis shrinks, the kernel is stretched by the factor (antialiasing); beyond the
    border the picture is mirrored with its edge repeated. Coefficients and sums are float64.

    MATLAB's imresize(A, [height width]). imresize(A, s) is the same where s times each side is a whole number.
    Besides input and output it needs one array in between, and blocks of some rows.

    Raises:
        ValueError: not floating point, fewer than two axes, or a side below 1.

    Source: Keys, Cubic convolution interpolation for digital image processing, IEEE TASSP 29(6), 1981, equation 15;
        MATLAB's imresize (size, antialiasing, border): https://www.mathworks.com/help/matlab/ref/imresize.html
    """
    if planes.dtype.kind != "f" or planes.ndim < 2:
        raise ValueError(f"planes are {planes.shape} {planes.dtype}; expected (..., H, W) of floating point")
    if min(*planes.shape[-2:], height, width) < 1:
        raise ValueError(f"{planes.shape} to {height} rows and {width} columns; every side must be at least 1")
    # As MATLAB: the axis that shrinks most goes first, which also keeps the array in between small.
    if height / planes.shape[-2] <= width / planes.shape[-1]:
        return _resize_columns(_resize_rows(planes, height), width)
    return _resize_rows(_resize_columns(planes, width), height)


def _resize_rows(planes: NDArray[Float], height: int) -> NDArray[Float]:
    if height == planes.shape[-2]:
        return np.array(planes, order="C")
    out = np.empty((*planes.shape[:-2], height, planes.shape[-1]), planes.dtype)
    for outputs, inputs, matrix in _blocks(planes.shape[-2], height):
        out[..., outputs, :] = matrix @ planes[..., inputs, :].astype(np.float64)
    return out


def _resize_columns(planes: NDArray[Float], width: int) -> NDArray[Float]:
    if width == planes.shape[-1]:
        return np.array(planes, order="C")
    out = np.empty((*planes.shape[:-1], width), planes.dtype)
    for outputs, inputs, matrix in _blocks(planes.shape[-1], width):
        out[..., outputs] = planes[..., inputs].astype(np.float64) @ matrix.T
    return out


def _blocks(size: int, new_size: int) -> Iterator[tuple[slice, slice, NDArray[np.float64]]]:
    """Outputs in turn, the inputs that they need, and the matrix (outputs, inputs) between them."""
    indices, weights = contributions(size, new_size)
    for start in range(0, new_size, _BLOCK_ROWS):
        outputs = slice(start, min(start + _BLOCK_ROWS, new_size))
        first, last = int(indices[outputs].min()), int(indices[outputs].max())
        matrix = np.zeros((outputs.stop - outputs.start, last - first + 1))
        rows = np.arange(len(matrix))[:, None]
        np.add.at(matrix, (rows, indices[outputs] - first), weights[outputs])  # mirrored taps may coincide
        yield outputs, slice(first, last + 1), matrix


def contributions(size: int, new_size: int) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Along one axis, the inputs of every output and their weights, which sum to 1: two of (new_size, taps)."""
    factor = new_size / size
    stretch = max(1.0, 1 / factor)
    # Pixel k covers [k, k + 1): centres of outputs, on the axis of the inputs' centres.
    centres = (np.arange(new_size) + 0.5) / factor - 0.5
    first = np.ceil(centres - 2 * stretch).astype(np.intp)
    taps = first[:, None] + np.arange(math.floor(4 * stretch) + 1)
    weights = cubic((centres[:, None] - taps) / stretch)
    return mirrored(taps, size), weights / weights.sum(1, keepdims=True)


def cubic(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Keys' kernel with a = -0.5: 1 at 0, and 0 at every other whole number and from 2 on."""
    x = np.abs(x)
    near = (1.5 * x - 2.5) * x * x + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return np.where(x <= 1, near, np.where(x < 2, far, 0.0))


def mirrored(indices: NDArray[np.intp], size: int) -> NDArray[np.intp]:
    """Any whole numbers folded into 0 … size - 1, the edge repeated: … 1 0 | 0 1 … n-1 | n-1 n-2 …"""
    folded = indices % (2 * size)
    return np.minimum(folded, 2 * size - 1 - folded)
