"""Requests: what cannot be trained is refused, with what would fit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from reference_models import get, tasks
from reference_models.errors import UserError
from reference_models.training.labelled import Labels
from reference_models.training.loop import Settings
from reference_models.training.request import Request, check

SEGMENTATION: dict[str, Any] = {
    "spec": get("pixel_dcn"),
    "task": tasks.get("segmentation"),
    "loss": "cross-entropy",
}


@pytest.fixture
def request_to(tmp_path: Path) -> Callable[..., Request]:
    def make(name: str, **changes: Any) -> Request:
        plain: dict[str, Any] = {
            "spec": get("espcn_x2"),
            "task": tasks.get("super-resolution x2"),
            "output": tmp_path / f"{name}.safetensors",
            "settings": Settings(steps=60),
            "batch": 2,
            "crop_px": 32,
        }
        return Request(**(plain | changes))

    return make


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"task": tasks.get("super-resolution x3")}, "it enlarges 2 times, not 3.*Expected super-resolution x2"),
        ({"crop_px": 33}, "--crop 33.*a multiple of 2"),
        ({"loss": "cross-entropy"}, "--loss cross-entropy.*not a loss of.*mse"),
        ({"labels": Labels({}, 21)}, "--labels.*segmentation"),
        (SEGMENTATION | {"loss": "mse"}, "--loss mse.*Expected cross-entropy"),
        (SEGMENTATION | {"images": ["photos"]}, "--images without --labels"),
        (SEGMENTATION | {"labels": Labels({}, 21)}, "--labels without --images"),
        (SEGMENTATION | {"images": ["photos"], "labels": Labels({}, 21)}, "--generated 0.1.*classes of their own"),
        (SEGMENTATION | {"spec": get("pixel_dcn", {"classes": 256})}, "256 classes, and 255 stands for"),
        (SEGMENTATION | {"spec": get("pixel_dcn", {"classes": 4})}, "scores 4 classes, and generated scenes have 21"),
        (
            SEGMENTATION | {"validation": [("a.png", np.zeros((32, 32, 3), np.uint8))]},
            "--validation.*a.png: maps of classes are missing",
        ),
        ({"crop_px": 0}, "--crop 0"),
        ({"loss": "vgg"}, "--loss vgg.*mse, l1, psnr"),
        ({"spec": get("can32_multi"), "task": tasks.get("rof")}, "none: no task fits it"),
    ],
)
def test_what_does_not_fit_is_refused(request_to: Callable[..., Request], changes: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        check(request_to("a", **changes))


def test_a_precision_that_nothing_is_trained_for(request_to: Callable[..., Request]) -> None:
    with pytest.raises(UserError, match="--precision fp8"):
        check(request_to("a", precision="fp8"))
    with pytest.raises(UserError, match="--autocast"):
        check(request_to("a", precision="int8", settings=Settings(steps=1, autocast=True)))


def test_a_gpu_that_is_not_there_is_said(request_to: Callable[..., Request], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(UserError, match=r"--device cuda.*finds 0 CUDA devices"):
        check(request_to("a", device="cuda"))
    with pytest.raises(UserError, match=r"--device tpu.*cpu, cuda or cuda:N"):
        check(request_to("a", device="tpu"))
