"""Which cases can have their pictures in the graph, and when a plan's picture is wrong."""

from __future__ import annotations

import numpy as np
import pytest

import engines
import reference_models
from bench.case import Request, expand
from bench.picture_plan import asked, difference, in_words, network_of, refusal


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


def test_rounding_is_told_and_more_than_rounding_fails() -> None:
    wanted = np.full((50, 40, 3), 100, np.uint8)
    assert difference(wanted, wanted) == {"most": 0, "share": 0.0}
    shown = wanted.copy()
    shown[:5] = 101
    assert difference(shown, wanted) == {"most": 1, "share": 0.1}
    assert "10.00% of its values, by 1 at most" in in_words(difference(shown, wanted))
    assert "byte for byte" in in_words(difference(wanted, wanted))
    few = wanted.copy()
    few[0, :10] = 255  # classes that changed
    assert difference(few, wanted)["most"] == 155
    shown[:5] = 150
    with pytest.raises(RuntimeError, match=r"24.2 dB .* 10.0% of its values differ"):
        difference(shown, wanted)
    assert difference(replace_dark(wanted), wanted)["most"] == 1


def replace_dark(picture: np.ndarray) -> np.ndarray:
    """One grey value darker, which must not wrap around."""
    return picture - np.uint8(1)
