"""Inputs of a run: a file per picture and size, the picture beside it and, where a task degrades it, the target."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bench.case import Request, expand
from bench.inputs import input_key, source_path, target_path, write_inputs
from reference_models.pictures import default_picture

PICTURES = [("coffee", default_picture())]


def cases(model: str, *resolutions: str) -> list:
    return expand(Request([model], resolutions, ["null"], device="cpu"))[0]


def test_without_an_original_the_picture_is_brought_to_the_input_size(tmp_path):
    case = cases("espcn_x3", "60x30")[0]
    (path,) = write_inputs([case], PICTURES, {}, tmp_path)[input_key(case)]
    assert np.load(source_path(Path(path))).shape == (10, 20, 3)
    assert not target_path(Path(path)).exists()


def test_a_ground_truth_is_written_beside_its_degraded_input(tmp_path):
    case = cases("espcn_x3", "61x31")[0]
    found = write_inputs([case], PICTURES, {"espcn_x3": "super-resolution x3"}, tmp_path)
    path = Path(found[input_key(case)][0])
    assert np.load(source_path(path)).shape == (11, 21, 3)
    assert np.load(target_path(path)).shape == (31, 61, 3)


def test_sizes_that_differ_by_what_is_cropped_have_targets_of_their_own(tmp_path):
    pair = cases("espcn_x3", "61x31", "60x31")
    found = write_inputs(pair, PICTURES, {"espcn_x3": "super-resolution x3"}, tmp_path)
    shapes = [np.load(target_path(Path(found[input_key(case)][0]))).shape for case in pair]
    assert shapes == [(31, 61, 3), (31, 60, 3)]


def test_what_is_there_is_not_written_again(tmp_path):
    first, second = cases("espcn_x3", "60x30", "90x60")
    found = write_inputs([first], PICTURES, {}, tmp_path)
    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    more = write_inputs([first, second], PICTURES, {}, tmp_path, found)
    assert set(more) == {input_key(first), input_key(second)}
    assert more[input_key(first)] == found[input_key(first)]
    assert more[input_key(second)] != found[input_key(first)]
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps
    assert np.load(source_path(Path(more[input_key(second)][0]))).shape == (20, 30, 3)
