"""Which cases can have their pictures in the graph, and when a plan's picture is wrong."""

from __future__ import annotations

import numpy as np
import pytest

import engines
import reference_models
from bench.case import Request, expand
from bench.picture_plan import (
    CLASSES,
    EXACT,
    ROUNDED,
    Limits,
    asked,
    difference,
    in_words,
    limits_of,
    network_of,
    refusal,
)  # fmt: skip


def test_it_is_a_setting_of_the_engine() -> None:
    assert not asked({})
    assert not asked(engines.get("tensorrt").complete_settings({}))
    assert asked(engines.get("tensorrt").complete_settings({"ends": "picture"}))


@pytest.mark.parametrize(
    ("model", "statistics", "tile", "said"),
    [
        ("can24", "thumbnail", "off", "folded for every picture"),
        ("can24", "frozen", "64", "tiles are cut from tensors"),
        ("colorization", None, "off", "CIE L"),
        ("can24", "frozen", "off", None),
        ("espcn_x3", None, "off", None),
    ],
)
def test_what_cannot_have_it_says_why(model: str, statistics: str | None, tile: str, said: str | None) -> None:
    reason = refusal(reference_models.get(model), statistics, tile)
    assert (said in str(reason)) if said else reason is None


def test_a_case_that_cannot_have_it_is_left_out_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.case.resolve_device", lambda word: "cuda:0")
    for name in ("missing", "device_missing"):
        monkeypatch.setattr(type(engines.get("tensorrt")), name, lambda *_: None)
    words = ["frozen", "thumbnail"]
    asked = Request(["can24"], ["64x48"], ["tensorrt:ends=picture"], statistics=words, device="cuda:0")
    cases, left = expand(asked)
    assert [case.statistics for case in cases] == ["frozen"]
    assert [(case.statistics, "folded for every picture" in reason) for case, reason in left] == [("thumbnail", True)]


def test_the_graph_is_one_that_the_engine_can_read(networks, cache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FULLRES_CACHE", str(cache))
    spec = reference_models.get("can24").to_json()
    made = []
    monkeypatch.setattr("export.picture_graph.picture_network", lambda *words, exact: made.append(exact) or words[0])
    for name, settings in (("tensorrt", {"ends": "picture"}), ("onnxruntime", {"ends": "picture"}), ("tensorrt", {})):
        job = {"network": networks["frozen"].to_json(), "case": {"spec": spec, "settings": settings}}
        assert network_of(job, engines.get(name)) == networks["frozen"]
    assert made == [False, True]


def moved(**where: int) -> tuple[np.ndarray, np.ndarray]:
    """A grey picture of 100 x 50 pixels, and one whose first `count` values are `by` levels off."""
    wanted = np.full((50, 100, 3), 100, np.uint8)
    shown = wanted.copy()
    shown.ravel()[: where["count"]] += np.uint8(where["by"] % 256)
    return shown, wanted


def test_rounding_is_told() -> None:
    wanted = moved(count=0, by=0)[1]
    assert difference(wanted, wanted, EXACT) == {"most": 0, "share": 0.0, "lean": 0.0}
    assert "byte for byte" in in_words(difference(wanted, wanted, EXACT))
    found = difference(*moved(count=150, by=1), EXACT)  # of 15,000
    assert found == {"most": 1, "share": 0.01, "lean": 0.01}
    assert "1.00% of its values, by 1 at most" in in_words(found)


@pytest.mark.parametrize(
    ("count", "by", "limits", "passes"),
    [
        (15000, 1, EXACT, False),  # cut off in place of rounded
        (15000, -1, EXACT, False),
        (15000, 1, ROUNDED, False),
        (3000, 1, ROUNDED, True),  # 16 bits
        (1, 2, EXACT, True),
        (2, 2, EXACT, False),  # a border, or a tile, of which a picture holds little
        (2, 40, ROUNDED, False),
        (1, 40, ROUNDED, True),
        (140, 90, CLASSES, True),
        (160, 90, CLASSES, False),
    ],
)
def test_more_than_rounding_fails(count: int, by: int, limits: Limits, passes: bool) -> None:
    shown, wanted = moved(count=count, by=by)
    if passes:
        assert difference(shown, wanted, limits)["most"] == abs(by)
    else:
        with pytest.raises(RuntimeError, match="the plan's picture is not the host's"):
            difference(shown, wanted, limits)


def test_what_is_allowed_follows_from_the_precision_and_from_what_comes_out() -> None:
    rgb, classes = reference_models.get("can24"), reference_models.get("pixel_dcn")
    found = [limits_of(spec, precision) for spec in (rgb, classes) for precision in ("fp32", "tf32", "fp16", "int8")]
    assert found == [EXACT, ROUNDED, ROUNDED, ROUNDED, *[CLASSES] * 4]
