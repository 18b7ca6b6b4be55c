"""Names of pictures; what tells cases apart is tested with the runs that write them (test_run.py)."""

from __future__ import annotations

from dataclasses import replace

from bench.case import Request, expand
from bench.picture_names import picture_files


def test_weights_of_other_bits_write_pictures_of_their_own() -> None:
    names = {
        picture_files(expand(Request(["espcn_x2"], ["64x48"], ["openvino"], ["int8"], lowering=asked))[0][0])["output"]
        for asked in ({}, {"weight_bits": 7}, {"weight_bits": 8})
    }
    assert len(names) == 2
    assert sum("7bit" in name or "8bit" in name for name in names) == 1


def test_tiles_of_one_case_write_pictures_of_their_own() -> None:
    (case,), _ = expand(Request(["can24"], ["64x48"], ["onnxruntime"], statistics=["frozen"]))
    whole, tiled = picture_files(case), picture_files(replace(case, tile="48"))
    assert whole["output"] != tiled["output"]
    assert whole["input"] == tiled["input"]
    assert whole["reference"] == tiled["reference"]
