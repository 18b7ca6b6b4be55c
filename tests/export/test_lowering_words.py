"""What a person reads about a lowered network, word for word."""

from __future__ import annotations

import pytest

from export.lowering_words import lowering_in_words

FACTS = {
    "recipe": {},
    "layers": {"first": "int8", "second": "int8", "last": "fp16"},
    "low_mac_share": 0.876,
    "scheme": "Q/DQ on inputs, activations int8",
    "tried": [
        {"step": "rounded to nearest", "calibration_psnr_db": 35.04},
        {"step": "errors cancelled", "calibration_psnr_db": 43.26},
    ],
    "calibration": {"pictures": 3, "side": 512},
    "chosen": "errors cancelled",
}


def test_fp32_and_plain_halves_say_nothing_or_what_stayed():
    assert lowering_in_words(None) == []
    assert lowering_in_words({"recipe": {}, "kept_fp32": []}) == []
    kept = {"recipe": {}, "kept_fp32": ["mean", "variance"]}
    assert lowering_in_words(kept) == ["kept in FP32, sums over the picture: 2 nodes"]


def test_a_quantised_network():
    assert lowering_in_words(FACTS) == [
        "2 of 3 layers in int8, 1 of 3 layers in fp16 (88% of the multiply-accumulates quantised); "
        "Q/DQ on inputs, activations int8",
        "against FP32 on 3 calibration pictures: rounded to nearest 35.0 dB; errors cancelled 43.3 dB",
        "taken: errors cancelled",
    ]


@pytest.mark.parametrize(
    ("recipe", "said"),
    [({"shifted": True}, True), ({"shifted": True, "weight_bits": 7}, False), ({"shifted": False}, False)],
)
def test_weights_of_8_bits_are_said_where_a_processor_may_run_them(recipe, said):
    lines = lowering_in_words({**FACTS, "recipe": recipe})
    assert ("weights of 8 bits" in lines[1]) is said


def test_a_searched_network():
    search = {"floor_db": 42.0, "held_back": 2, "curve": [{}, {}, {}], "cost": "measured time"}
    assert lowering_in_words({**FACTS, "search": search})[3] == (
        "searched for 42 dB on 2 held-back pictures: 3 plans, cost measured time"
    )


def test_nothing_quantised():
    facts = {**FACTS, "layers": {"only": "fp32"}, "low_mac_share": 0.0, "tried": [], "chosen": "nothing is quantised"}
    assert lowering_in_words(facts) == [
        "1 of 1 layers in fp32 (0% of the multiply-accumulates quantised); Q/DQ on inputs, activations int8"
    ]
