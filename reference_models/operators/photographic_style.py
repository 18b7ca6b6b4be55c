"""Photographic style transfer: tones and local contrast of a model photograph, given to a picture. Grey comes out."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from reference_models.errors import UserError
from reference_models.operators.local_laplacian import local_laplacian
from reference_models.operators.operator import Operator
from reference_models.pictures import Picture, read_picture

Plane = NDArray[np.float32]
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)
_BINS = 256


def transfer(picture: Picture, model: str, references: int, rounds: int) -> Plane:
    """The picture in the model's style, grey (H, W, 3) float32 in [0, 1].

    Each round maps the histogram of gradients to the model's by a local Laplacian filter, then that of tones.

    Args:
        model: a picture file's name in scikit-image's wheel.
        references: intensities of the filter.

    Source: Aubry, Paris, Hasinoff, Kautz, Durand, section 5 and its algorithm; the model is ours, since the one that
        the paper of the networks used is not published.
    """
    wanted = _model_luma(model)
    slopes = np.sort(gradient_lengths(wanted), axis=None)
    tones = np.sort(wanted, axis=None)
    made = matched(picture @ _LUMA / np.float32(255), tones)
    for _ in range(rounds):
        lengths = gradient_lengths(made)
        if not lengths.size or np.ptp(made) == 0:
            break
        made = matched(_with_gradients(made, lengths, slopes, references), tones)
    return made[..., None].repeat(3, axis=2)


def gradient_lengths(plane: Plane) -> Plane:
    """Of the differences to the next pixels down and to the right, (H - 1, W - 1)."""
    corner = plane[:-1, :-1]
    out: Plane = np.hypot(corner - plane[1:, :-1], corner - plane[:-1, 1:])
    return out


def matched(values: Plane, wanted: Plane) -> Plane:
    """Values in the order they have, with the distribution of `wanted` (sorted): the transfer of tones."""
    low, high = values.min(), values.max()
    if low == high:
        return np.full_like(values, np.median(wanted))
    levels = ((values - low) / (high - low) * (_BINS * 16 - 1)).astype(np.int32)
    share = np.cumsum(np.bincount(levels.ravel(), minlength=_BINS * 16)) / values.size
    table = wanted[np.clip(np.ceil(share * wanted.size).astype(np.int64) - 1, 0, wanted.size - 1)]
    return table[levels]


def _with_gradients(plane: Plane, lengths: Plane, wanted: Plane, references: int) -> Plane:
    """The plane, its local differences brought to the distribution of gradients that is wanted."""
    own = np.sort(lengths, axis=None)
    share = np.linspace(0, 1, _BINS)
    before, after = (np.quantile(values, share).astype(np.float32) for values in (own, wanted))

    def curve(values: Plane, reference: float) -> Plane:
        difference = values - np.float32(reference)
        size = np.abs(difference)
        # Beyond the largest gradient there is nothing to learn: the difference stays.
        grown = np.where(size <= before[-1], np.interp(size, before, after), size)
        return (np.sign(difference) * grown - difference).astype(np.float32)

    return local_laplacian(plane, curve, references)


def _model_luma(name: str) -> Plane:
    package = importlib.util.find_spec("skimage")
    for folder in (package.submodule_search_locations if package else None) or ():
        if (path := Path(folder, "data", name)).is_file():
            out: Plane = read_picture(path) @ _LUMA / np.float32(255)
            return out
    raise UserError(
        f"operator `photographic_style`: this installation of scikit-image does not hold {name}",
        "skimage/data as in scikit-image's wheels",
        "Install scikit-image from its wheel",
    )


OPERATOR = Operator(
    name="photographic_style",
    title="Photographic style transfer",
    source="Aubry, Paris, Hasinoff, Kautz, Durand: Fast Local Laplacian Filters: Theory and Applications, ACM TOG "
    "33(5), 2014, https://doi.org/10.1145/2629645",
    parameters={"model": "astronaut.png", "references": 20, "rounds": 3},
    compute=transfer,
)
