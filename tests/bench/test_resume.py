"""What a sweep measures again, and what it finds in its folder."""

from __future__ import annotations

import copy
import dataclasses
import json
from typing import Any

import pytest

from bench import record
from bench.case import Request, expand
from bench.layers import Layers
from bench.resume import Shard, parse_shard, still_to_measure
from reference_models.errors import UserError
from reference_models.own_factory import Geometry, own_spec

SHARED = record.facts(["sweep"], [("a.png", "aa"), ("b.png", "bb")])


def cases_of(*resolutions: str, **choices: Any) -> list[Any]:
    request = Request(["can24"], resolutions, ["null"], device="cpu", threads=1, **choices)
    return expand(request)[0]


def stored(case: Any, **changes: Any) -> dict[str, Any]:
    return record.new_run(case, SHARED) | {"status": "ok", "reason": None} | changes


def test_a_case_that_ended_well_is_held_and_the_others_are_left() -> None:
    small, large = cases_of("64x48", "80x60")
    runs = [stored(small)]
    left, held = still_to_measure([small, large], SHARED, runs)
    assert left == [large]
    assert held == runs


def test_the_latest_of_several_runs_is_the_one_that_is_held() -> None:
    (case,) = cases_of("64x48")
    runs = [stored(case), stored(case)]
    assert still_to_measure([case], SHARED, runs)[1] == [runs[1]]


@pytest.mark.parametrize("ended", [{"status": "failed"}, {"status": "skipped"}, {"interrupted": True}])
def test_what_did_not_end_well_is_measured_again(ended: dict[str, Any]) -> None:
    (case,) = cases_of("64x48")
    assert still_to_measure([case], SHARED, [stored(case, **ended)]) == ([case], [])


@pytest.mark.parametrize(
    ("key", "value"),
    [("machine", {"cpu": "another"}), ("versions", {"onnx": "0.1"}), ("pictures_sha256", ["aa"]),
     ("calibration_sha256", ["cc"])],
)  # fmt: skip
def test_a_run_under_other_conditions_does_not_answer(key: str, value: Any) -> None:
    (case,) = cases_of("64x48")
    assert still_to_measure([case], SHARED, [stored(case, **{key: value})]) == ([case], [])


@pytest.mark.parametrize(
    "key", ["weights_sha256", "network_sha256", "engine_version", "settings", "options", "threads"]
)
def test_a_run_of_another_case_does_not_answer(key: str) -> None:
    (case,) = cases_of("64x48")
    run = copy.deepcopy(stored(case))
    run["case"][key] = "another"
    assert still_to_measure([case], SHARED, [run]) == ([case], [])


def test_a_changed_network_of_one_s_own_is_measured_again() -> None:
    (case,) = cases_of("64x48")
    own = own_spec("net", "net, SHA-256 aa", "mine", Geometry(3, 3, 1))
    before, after = (
        dataclasses.replace(case, spec=dataclasses.replace(own, source=source), statistics=None)
        for source in ("net, SHA-256 aa", "net, SHA-256 bb")
    )
    assert still_to_measure([before, after], SHARED, [stored(before)])[0] == [after]


def test_a_changed_definition_is_measured_again(monkeypatch: pytest.MonkeyPatch) -> None:
    (case,) = cases_of("64x48")
    run = stored(case)
    assert still_to_measure([case], SHARED, [run])[0] == []
    monkeypatch.setattr(record, "code_sha256", lambda: "another")
    assert still_to_measure([case], SHARED, [run])[0] == [case]


def test_a_held_run_is_found_again_in_the_words_of_its_file() -> None:
    (case,) = cases_of("64x48")
    run = json.loads(json.dumps(stored(case)))
    assert still_to_measure([case], SHARED, [run]) == ([], [run])


def test_names_of_pictures_and_the_time_do_not_matter() -> None:
    (case,) = cases_of("64x48")
    run = stored(case, pictures=["moved.png", "b.png"], time="2020-01-01T00:00:00+00:00", argv=["bench"])
    assert still_to_measure([case], SHARED, [run])[0] == []


@pytest.mark.parametrize(("word", "shard"), [(None, (1, 1)), ("1/1", (1, 1)), ("2/5", (2, 5)), ("5/5", (5, 5))])
def test_shard_words(word: str | None, shard: tuple[int, int]) -> None:
    assert parse_shard(word) == Shard(*shard)


@pytest.mark.parametrize("word", ["0/5", "6/5", "1", "1/0", "a/b", "1/5/2", "", "-1/5"])
def test_words_that_are_no_shard(word: str) -> None:
    with pytest.raises(UserError, match="not a shard"):
        parse_shard(word)


def test_shards_share_all_cases_among_them_and_each_case_once() -> None:
    cases = list(range(11))
    found = [Shard(i, 4).of(cases) for i in range(1, 5)]
    assert sorted(case for shard in found for case in shard) == cases
    assert max(map(len, found)) - min(map(len, found)) <= 1


def test_a_case_with_a_recipe_is_held_and_one_with_another_is_not() -> None:
    def quantised(**asked: Any) -> Any:
        request = Request(["can24"], ["64x48"], ["onnxruntime"], ("int8",), device="cpu", threads=1, lowering=asked)
        (case,) = expand(request)[0]
        return case

    case = quantised(layers=Layers("l.json", ("last",), "can24"))
    (run,) = json.loads(json.dumps([stored(case)]))
    assert still_to_measure([case], SHARED, [run])[1] == [run]
    for other in (
        quantised(),
        quantised(layers=Layers("l.json", ("last",), "can24"), recovery="none"),
        quantised(layers=Layers("l.json", ("convs.0",), "can24")),
    ):
        assert still_to_measure([other], SHARED, [run]) == ([other], [])


def test_a_run_of_an_earlier_version_has_no_recipe_and_is_held() -> None:
    (case,) = cases_of("64x48")
    run = stored(case)
    del run["case"]["recipe"]
    assert still_to_measure([case], SHARED, [run])[1] == [run]
