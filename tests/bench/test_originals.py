"""Which original a network is judged by, what goes in and should come out, and in which channels they are compared."""

from __future__ import annotations

import dataclasses
import hashlib
import json

import numpy as np
import pytest

from bench.case import Request, expand
from bench.originals import baseline, compare_pictures, convention, judge_original, originals_of, pair
from reference_models import tasks
from reference_models.colour import tensor_from_picture
from reference_models.errors import UserError
from reference_models.pictures import default_picture
from reference_models.spec import Evaluation

PICTURE = default_picture()


def case_of(model: str, resolution: str = "60x40"):
    return expand(Request([model], [resolution], ["null"], device="cpu"))[0][0]


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / np.mean((a.astype(float) - b) ** 2)))


def test_the_option_names_an_operator_or_a_task():
    assert originals_of([case_of("can24")], "l0_smoothing") == {"can24": "l0_smoothing"}
    assert originals_of([case_of("can24")], "l0-smoothing") == {"can24": "l0_smoothing"}
    assert originals_of([case_of("red10")], "denoising mixed") == {"red10": "denoising sigma 30"}


def test_without_option_and_weights_there_is_none():
    assert originals_of([case_of("can32_bn")], None) == {}


@pytest.mark.parametrize(
    ("model", "word", "message"),
    [
        ("can24", "l0_smooth", "`--original l0_smooth`: not a known operator or task.*Did you mean l0_smoothing"),
        ("espcn_x3", "super-resolution x2", "not for `espcn_x3`: it enlarges 3 times"),
        ("espcn_x3", "l0_smoothing", "not for `espcn_x3`"),
        ("pixel_dcn", "segmentation", "maps of classes are not pictures.*none: no --original|has none"),
    ],
)
def test_what_does_not_exist_or_fit_is_refused(model, word, message):
    with pytest.raises(UserError, match=message):
        originals_of([case_of(model)], word)


def test_the_card_beside_the_weights_says_it(tmp_path):
    weights = tmp_path / "mine.safetensors"
    weights.write_bytes(b"")
    names = ("options", "data", "settings", "versions")
    card = {
        "schema": 1, "task": "pencil", "model": "can24",
        "sha256": hashlib.sha256(b"").hexdigest(), "steps": 1, "seconds": 1.0, "seed": 0,
        "commit": "", "machine": "", "figures": [], "licence": "", "resume": "", **{name: {} for name in names},
    }  # fmt: skip
    weights.with_suffix(".json").write_text(json.dumps(card))
    case = dataclasses.replace(case_of("can24"), weights=str(weights))
    assert originals_of([case], None) == {"can24": "pencil"}
    assert originals_of([case], "rof") == {"can24": "rof"}


def test_noise_has_the_named_deviation_and_is_the_same_every_time():
    case, task = case_of("red10", "300x200"), tasks.get("denoising sigma 30")
    given, target = pair(task, case, PICTURE)
    assert target.shape == given.shape == (200, 300, 3)
    inner = (target > 100) & (target < 155)  # far from clipping
    assert 27 < (given.astype(float) - target)[inner].std() < 33
    np.testing.assert_array_equal(pair(task, case, PICTURE)[0], given)


def test_the_baseline_of_super_resolution_is_bicubic_and_that_of_others_the_input():
    case, task = case_of("espcn_x3", "61x40"), tasks.get("super-resolution x3")
    given, target = pair(task, case, PICTURE)
    name, plain = baseline(task, case.spec, given, target.shape[:2])
    assert name == "bicubic"
    assert plain.shape == target.shape == (40, 61, 3)
    nearest = given.repeat(3, axis=0).repeat(3, axis=1)[:40, :61]
    assert psnr(plain, target) > psnr(nearest, target)
    name, plain = baseline(tasks.get("pencil"), case_of("can24").spec, PICTURE, PICTURE.shape[:2])
    assert name == "the input"
    np.testing.assert_array_equal(plain, PICTURE)


def test_channels_and_border_are_those_of_the_paper():
    target = PICTURE[:40, :60].copy()
    made = target.copy()
    made[0] = 255 - made[0]
    inner = compare_pictures(made, target, Evaluation("RGB", border_px=1))
    assert inner["identical"]
    assert not compare_pictures(made, target, Evaluation("RGB"))["identical"]
    chroma = target.copy()
    chroma[..., 2] ^= 8
    rgb, luma = (compare_pictures(chroma, target, Evaluation(word))["psnr_db"] for word in ("RGB", "Y"))
    assert luma > rgb + 10
    assert convention(Evaluation("none"))["channels"] == "RGB"
    assert compare_pictures(target[:1], target[:1], Evaluation(border_px=3))["identical"]  # no border left to cut


def test_an_output_is_judged_as_it_would_be_displayed_and_a_broken_one_as_broken(tmp_path):
    case = case_of("can24")
    picture = PICTURE[:40, :60]
    np.save(tmp_path / "picture-0.npy", picture)
    np.save(tmp_path / "target-0.npy", picture)
    job = {
        "original": "rof", "inputs": [str(tmp_path / "0.npy")], "sources": [str(tmp_path / "picture-0.npy")]
    }  # fmt: skip
    output = tensor_from_picture(picture, case.spec)
    figures, (name, plain) = judge_original(job, case.spec, output, 0)
    assert figures["identical"]
    assert plain["identical"]
    assert name == "the input"
    output[0, 0, 0, 0] = np.nan
    assert judge_original(job, case.spec, output, 0)[0]["finite"] is False
