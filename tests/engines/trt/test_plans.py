"""The cache of plans; the builder is a double that counts."""

from __future__ import annotations

import json
import time
from dataclasses import replace

import pytest

from engines.trt import plans as plans_file
from engines.trt.api import TensorRtApi
from engines.trt.builder import BuildRequest, BuiltPlan, Profile
from engines.trt.plans import forget_oldest, plan_key, stored_plan, write_whole

REQUEST = BuildRequest("a.onnx", "ab", "fp32", (Profile.of((4, 6)),), {"level": "3"})


class Api:
    package = "tensorrt"
    settings = TensorRtApi.settings

    def __init__(self, version="1"):
        self._version = version

    def version(self):
        return self._version


@pytest.fixture
def builds(monkeypatch, tmp_path):
    """What was built: request and the timings that went in."""
    made = []

    def build_plan(api, request, report, stored_timings=b"", device_bytes=None):
        made.append((request, stored_timings))
        return BuiltPlan(f"plan {len(made)}".encode(), b"timings " + str(len(made)).encode(), {"layers": 7})

    monkeypatch.setenv("FULLRES_CACHE", str(tmp_path))
    monkeypatch.setattr(plans_file, "build_plan", build_plan)
    return made


def plan(request=REQUEST, device="GPU", version="1"):
    return stored_plan(Api(version), request, device, lambda phase, share: None)


def test_an_equal_request_is_built_once_wherever_the_file_lies(builds):
    first, second = plan(), plan(replace(REQUEST, onnx_path="/elsewhere/b.onnx"))
    assert (len(builds), first.cached, second.cached) == (1, False, True)
    assert (first.path, first.sha256, first.facts) == (second.path, second.sha256, second.facts)
    assert first.path.read_bytes() == b"plan 1"
    assert first.facts["layers"] == 7


@pytest.mark.parametrize(
    "change",
    [
        {"sha256": "cd"}, {"precision": "tf32"}, {"settings": {"level": "5"}}, {"refittable": True},
        {"settings": {"level": "3", "version_compatible": "excluded"}},
        {"profiles": (Profile.of((4, 8)),)}, {"profiles": (Profile((1, 1), (4, 6), (4, 6)),)}, {"size_multiple": 2},
    ],
    ids=str,
)  # fmt: skip
def test_whatever_the_plan_depends_on_is_in_its_key(change):
    assert plan_key(Api(), REQUEST, "GPU") != plan_key(Api(), replace(REQUEST, **change), "GPU")


def test_library_device_and_our_own_code_are_in_the_key(monkeypatch):
    keys = [plan_key(Api(), REQUEST, "GPU"), plan_key(Api("2"), REQUEST, "GPU"), plan_key(Api(), REQUEST, "other")]
    monkeypatch.setattr(plans_file, "_code_sha256", lambda: "changed")
    assert len({*keys, plan_key(Api(), REQUEST, "GPU")}) == 4


def test_ways_of_running_a_plan_are_no_other_plan():
    """Or a comparison of graph=on with graph=off would be one of two builds."""
    for name in ("graph", "streams", "host_memory", "l2", "runtime", "specialise"):
        key = plan_key(Api(), replace(REQUEST, settings={**REQUEST.settings, name: "other"}), "GPU")
        assert key == plan_key(Api(), REQUEST, "GPU"), name


def test_a_plan_that_was_damaged_is_built_again(builds):
    first = plan()
    first.path.write_bytes(b"plan X")
    assert not plan().cached
    assert plan().cached
    assert len(builds) == 2


def test_timings_go_into_the_next_build_on_the_same_device_and_version(builds):
    plan()
    other = replace(REQUEST, precision="tf32")
    second = plan(other)
    plan(replace(REQUEST, precision="int8"), device="another")
    plan(replace(REQUEST, precision="fp16"), version="2")
    assert [timings for _, timings in builds] == [b"", b"timings 1", b"", b""]
    assert len(second.facts["timing_cache_sha256"]) == 64
    assert plan().facts["timing_cache_sha256"] is None


def test_leftovers_of_killed_processes_go(builds, tmp_path):
    import os

    folder = tmp_path / "plans"
    folder.mkdir()
    left = folder / ".x.plan.1"
    left.write_bytes(b"half")
    os.utime(left, (time.time() - 7200,) * 2)
    plan()
    assert not left.exists()
    assert sorted(p.suffix for p in folder.iterdir()) == [".bin", ".json", ".plan"]


def test_a_file_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    import os

    target = tmp_path / "a.plan"
    write_whole(target, b"old")

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="No space"):
        write_whole(target, b"new")
    assert [p.name for p in tmp_path.iterdir()] == ["a.plan"]
    assert target.read_bytes() == b"old"


def test_facts_are_json(builds):
    stored = plan()
    assert json.loads(stored.path.with_suffix(".json").read_text())["facts"] == stored.facts


def test_the_plans_that_were_not_asked_for_for_the_longest_go_with_all_that_is_theirs(tmp_path):
    import os

    for age, name in enumerate(("new", "middle", "old")):
        for ending in (".plan", ".json", "-abc.kernels"):
            path = tmp_path / f"{name}{ending}"
            path.write_bytes(b"x" * 100)
            os.utime(path, (1000 - age,) * 2)
    (tmp_path / "timings-1.bin").write_bytes(b"t")
    forget_oldest(tmp_path, 700 / 2**20, keep=tmp_path / "middle.plan")
    assert {path.stem.partition("-")[0] for path in tmp_path.iterdir()} == {"new", "middle", "timings"}
    forget_oldest(tmp_path, 0, keep=tmp_path / "middle.plan")
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "middle-abc.kernels", "middle.json", "middle.plan", "timings-1.bin",
    ]  # fmt: skip
