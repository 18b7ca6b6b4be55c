"""Pictures beside a runs file: found by plain names only, measured exactly, bounded in size."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from skimage.metrics import structural_similarity

from reports import pictures
from reports.pictures import Gallery, amplification, collect, enlarged, find, names, ssim_map, worst_crop
from reports.report import Report
from reports.row import Row, row_from_run
from reports.sections import pictures as section

Make = Callable[..., dict[str, Any]]
SIZE = (200, 150)


@pytest.fixture
def row(make_run: Make) -> Row:
    shape = [1, 3, SIZE[1], SIZE[0]]
    return row_from_run(make_run(case={"resolution": "200x150", "input_shape": shape, "output_shape": shape}))


def save(folder: Path, name: str, pixels: np.ndarray) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(folder / name)


def scene(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(30, 200, (SIZE[1], SIZE[0], 3), np.uint8)


def decoded(uri: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))).convert("RGB"))


def test_names_are_those_that_a_run_writes(row: Row) -> None:
    assert names(row) == {
        "input": "can24-200x150-input.png",
        "reference": "can24-200x150-reference.png",
        "output": "can24-200x150-onnxruntime-fp32-image.png",
    }


def test_a_whole_set(row: Row, tmp_path: Path) -> None:
    reference = scene()
    output = reference.copy()
    output[20:60, 50:100] += 3
    for kind, pixels in (("input", scene(1)), ("reference", reference), ("output", output)):
        save(tmp_path / "pictures", names(row)[kind], pixels)
    (found,) = collect([row], [tmp_path], 45).sets
    assert [p.label for p in found.overview] == ["input", "reference", "output"]
    assert found.amplification == 64
    left, top = found.crop_at
    assert left <= 50
    assert left + 128 >= 100
    assert top <= 20
    crops = {p.label: decoded(p.uri) for p in found.crops}
    assert np.array_equal(crops["reference"], reference[top : top + 128, left : left + 128])
    assert crops["difference × 64"].max() == 3 * 64
    assert found.ssim_map is not None
    assert found.size < 500_000


def test_equal_pictures_are_said_to_be_equal(row: Row, tmp_path: Path) -> None:
    save(tmp_path, names(row)["reference"], scene())
    save(tmp_path, names(row)["output"], scene())
    (found,) = collect([row], [tmp_path], 45).sets
    assert "equal in every value" in found.note
    assert found.crops == ()


def test_without_a_reference_there_is_no_difference(row: Row, tmp_path: Path) -> None:
    save(tmp_path, names(row)["output"], scene())
    (found,) = collect([row], [tmp_path], 45).sets
    assert (found.difference, found.ssim_map, len(found.overview)) == (None, None, 1)


def test_super_resolution_has_the_bicubic_beside_it(make_run: Make, tmp_path: Path) -> None:
    case = {"input_shape": [1, 3, 75, 100], "output_shape": [1, 3, 150, 200]}
    row = row_from_run(make_run(case=case))
    small = np.ascontiguousarray(scene()[:75, :100])
    save(tmp_path, names(row)["input"], small)
    save(tmp_path, names(row)["reference"], scene())
    save(tmp_path, names(row)["output"], scene(2))
    (found,) = collect([row], [tmp_path], 45).sets
    assert found.crops[0].label == "input, bicubic"
    left, top = found.crop_at
    expected = np.asarray(Image.fromarray(small).resize(SIZE, Image.Resampling.BICUBIC))
    assert np.array_equal(decoded(found.crops[0].uri), expected[top : top + 128, left : left + 128])


def test_what_cannot_be_shown_is_listed_with_its_reason(row: Row, tmp_path: Path) -> None:
    save(tmp_path, names(row)["reference"], scene()[:100])
    save(tmp_path, names(row)["output"], scene())
    ((title, reason),) = collect([row], [tmp_path], 45).left_out
    assert title == row.title
    assert "is 200x100, not 200x150" in reason
    data = (tmp_path / names(row)["output"]).read_bytes()
    for broken in (data[:200], b"no picture", b""):
        (tmp_path / names(row)["output"]).write_bytes(broken)
        assert "cannot be read" in collect([row], [tmp_path], 45).left_out[0][1]
        assert str(tmp_path) not in collect([row], [tmp_path], 45).left_out[0][1]


def test_words_of_a_run_lead_nowhere_else(make_run: Make, tmp_path: Path) -> None:
    save(tmp_path, "secret-720p-onnxruntime-fp32-image.png", scene())
    folder = tmp_path / "a"
    folder.mkdir()
    for model in ("../secret", "..\\secret", str(tmp_path / "secret"), ".secret"):
        row = row_from_run(make_run(case={"model": model}))
        assert find(row, folder) == {}
    row = row_from_run(make_run())
    (folder / names(row)["output"]).symlink_to(tmp_path / "secret-720p-onnxruntime-fp32-image.png")
    assert find(row, folder) == {}


def test_the_total_is_bounded(make_run: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "TOTAL_BYTES", 150_000)
    shape = [1, 3, SIZE[1], SIZE[0]]
    rows = [
        row_from_run(make_run(f"r{i}", 10 + i, case={"variant": f"e{i}", "input_shape": shape, "output_shape": shape}))
        for i in range(9)
    ]
    for row in rows:
        save(tmp_path, names(row)["output"], scene())
    found = collect(rows, [tmp_path], 45)
    assert 0 < sum(each.size for each in found.sets) <= 150_000
    assert len(found.sets) + len(found.left_out) == 9
    assert found.sets[0].row is rows[0]
    assert "at most" in found.left_out[0][1]


def test_amplification_shows_the_faint_and_does_not_burn_the_strong() -> None:
    assert amplification(np.full((50, 50, 3), 1, np.uint8)) == 64
    assert amplification(np.full((50, 50, 3), 100, np.uint8)) == 2
    assert amplification(np.full((50, 50, 3), 200, np.uint8)) == 1
    one = np.zeros((100, 100, 3), np.uint8)
    one[3, 3] = 5
    assert amplification(one) == 32


def test_the_worst_crop_is_the_worst_of_all_places() -> None:
    difference = np.random.default_rng(4).integers(0, 9, (40, 33, 3), np.uint8)
    squares = np.square(difference.astype(int)).sum(axis=2)
    sums = {(x, y): squares[y : y + 16, x : x + 16].sum() for x in range(18) for y in range(25)}
    assert sums[worst_crop(difference, 16)] == max(sums.values())
    assert worst_crop(difference, 128) == (0, 0)


def test_the_ssim_map_is_that_of_scikit_image() -> None:
    a = scene()
    b = np.clip(a.astype(int) + np.random.default_rng(1).integers(-20, 20, a.shape), 0, 255).astype(np.uint8)
    luma = [p.astype(float) @ [0.299, 0.587, 0.114] / 255 for p in (a, b)]
    _, expected = structural_similarity(
        *luma, data_range=1.0, gaussian_weights=True, use_sample_covariance=False, full=True
    )
    assert np.abs(ssim_map(a, b) - expected).max() < 1e-4


@pytest.mark.parametrize("name", ["x" * 5000, "\ud800.png", "a\x00.png"])
def test_names_that_no_disk_can_hold_are_not_there(make_run: Make, tmp_path: Path, name: str) -> None:
    run = make_run()
    run["picture_files"] = {"output": name}
    assert find(row_from_run(run), tmp_path) == {}
    assert find(row_from_run(make_run(case={"model": "m" * 500})), tmp_path) == {}


def test_the_bicubic_is_enlarged_by_the_networks_factor_then_cut() -> None:
    small = scene()[:75, :67]
    expected = np.asarray(Image.fromarray(small).resize((201, 225), Image.Resampling.BICUBIC))[:223, :200]
    assert np.array_equal(enlarged(small, (200, 223)), expected)
    assert enlarged(small, (67, 75)) is small


def test_the_ssim_map_states_its_scale_and_no_mean(row: Row, tmp_path: Path) -> None:
    save(tmp_path, names(row)["reference"], scene())
    save(tmp_path, names(row)["output"], np.clip(scene() + np.uint8(3), 3, 255))
    (found,) = collect([row], [tmp_path], 45).sets
    assert found.ssim_map is not None
    assert found.ssim_map.label.startswith("1 − SSIM of the luma × ")
    assert "mean" not in found.ssim_map.label


def test_the_sliders_pictures_count(row: Row, tmp_path: Path) -> None:
    save(tmp_path, names(row)["reference"], scene())
    save(tmp_path, names(row)["output"], np.clip(scene() + np.uint8(3), 3, 255))
    (found,) = collect([row], [tmp_path], 45).sets
    html = section.render(Report([row], gallery=Gallery([found])))
    assert sum(map(len, re.findall(r'src="([^"]*)"', html))) == found.size
