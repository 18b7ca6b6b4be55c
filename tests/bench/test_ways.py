"""Ways of use: words in and out, contracts that differ, refusals, and what is said of a run."""

from __future__ import annotations

from typing import Any

import pytest

from bench.ways import BACK_TO_BACK, Way, summary, use_in_words, way_from_word, ways_from_words
from reference_models.errors import UserError

WAYS = [Way(), Way(pace_fps=30.0), Way(pace_fps=23.976), Way(in_flight=4), Way(pictures=True), Way(2.5, 1, True)]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.word)
def test_a_word_leads_back_to_its_way(way: Way) -> None:
    assert way_from_word(way.word) == way


def test_words_are_those_of_tables() -> None:
    assert [way.word for way in WAYS] == [
        BACK_TO_BACK, "30 fps", "23.976 fps", "4 in flight", "picture to picture", "picture to picture, 2.5 fps",
    ]  # fmt: skip


def test_no_two_ways_have_one_contract() -> None:
    contracts = [tuple(sorted(way.contract.items())) for way in WAYS]
    assert len(set(contracts)) == len(WAYS)
    assert WAYS[0].contract == {"in_flight": 1}  # what runs say that know of no ways


def test_every_pace_and_number_is_a_way_of_its_own() -> None:
    assert [w.word for w in ways_from_words(["off", "24", "30", "30.0"], [], False)] == [
        BACK_TO_BACK,
        "24 fps",
        "30 fps",
    ]
    assert [w.word for w in ways_from_words([], ["1", "4"], False)] == [BACK_TO_BACK, "4 in flight"]
    assert [w.word for w in ways_from_words([], [], True)] == ["picture to picture"]


@pytest.mark.parametrize(
    ("pace", "in_flight", "named"),
    [
        (["0"], [], "--pace 0"), (["fast"], [], "--pace fast"), (["nan"], [], "--pace nan"),
        (["1e9"], [], "--pace 1e9"),
        ([], ["0"], "--in-flight 0"), ([], ["1.5"], "--in-flight 1.5"), ([], ["65"], "1 to 64"),
        (["30"], ["2"], "a paced picture is alone"),
    ],
)  # fmt: skip
def test_what_is_no_way_is_refused(pace: list[str], in_flight: list[str], named: str) -> None:
    with pytest.raises(UserError, match=named):
        ways_from_words(pace, in_flight, False)


def test_a_word_of_nobody_is_our_bug() -> None:
    with pytest.raises(ValueError, match="sideways"):
        way_from_word("sideways")


def test_sessions_share_the_threads_of_the_case() -> None:
    assert [Way(in_flight=k).threads(4) for k in (1, 2, 3, 8)] == [4, 2, 1, 1]


def test_counts_of_processes_add_up_and_rates_are_those_of_the_median_process() -> None:
    told = [{"due": 100, "late": 1, "dropped": 0}, {"due": 300, "late": 2, "dropped": 5}]
    assert summary(Way(pace_fps=30.0), told) == {
        "pace_fps": 30.0, "due": 400, "late": 3, "dropped": 5, "missed_share": 0.02, "throughput_fps": 30 * 395 / 400,
    }  # fmt: skip
    rates = [{"throughput_fps": rate} for rate in (10.0, 50.0, 20.0)]
    assert summary(Way(in_flight=2), rates)["throughput_fps"] == 20
    assert summary(Way(), [{}]) == {}
    apart = {"most": 1, "share": 0.25}
    assert summary(Way(), [{"plan_picture": apart}, {"plan_picture": None}, {}]) == {"plan_picture": apart}


def test_what_is_said_of_a_run() -> None:
    runs: list[dict[str, Any]] = [
        {"use": {"pace_fps": 30.0, "due": 200, "late": 1, "dropped": 2, "missed_share": 0.015}},
        {"use": {"throughput_fps": 20.0, "throughput_fps_all": [10.0, 20.0, 50.0]}},
        {"use": {"ends_ms": {"encode_png": 12.34, "decode_png": 5.0}}},
        {"use": {}},
        {},
        {"use": {"plan_picture": {"most": 1, "share": 0.0025}}},
    ]
    assert use_in_words(runs, lambda run: str(runs.index(run))) == [
        "0: 3 of 200 pictures missed at 30 fps (1.5%; 1 late, 2 dropped)",
        "1: 20 pictures per second together (10 to 50)",
        "2: besides, not in it: encode png 12.3 ms, decode png 5 ms (input picture)",
        "5: the plan's picture differs from the host's in 0.25% of its values, by 1 at most",
    ]
