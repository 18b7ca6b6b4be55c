"""Operators in a run: their output is made once per content, their time is taken on the first picture."""

from __future__ import annotations

import numpy as np
import pytest

from bench import operator_run
from bench.case import Request, expand
from bench.operator_run import cached, operator_job, run_operator
from reference_models import operators
from reference_models.pictures import default_picture

PICTURE = default_picture()[:24, :30].copy()


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FULLRES_CACHE", str(tmp_path / "cache"))


def test_the_job_writes_the_operators_pictures_and_times_the_first(tmp_path):
    source, target = tmp_path / "a.npy", tmp_path / "b.npy"
    np.save(source, PICTURE)
    job = {
        "operator": "rof", "pictures": {str(source): str(target)}, "timed": str(source), "threads": 1, "budget_s": 0.2
    }  # fmt: skip
    found = run_operator(job, lambda *_, **__: None)
    np.testing.assert_array_equal(np.load(target), operators.get("rof")(PICTURE))
    assert found["series"]["samples"]
    assert run_operator({**job, "timed": None}, lambda *_, **__: None) == {"series": None}


def test_an_output_is_made_once_per_operator_and_picture():
    calls = []
    own = operators.get("rof")

    def counted(picture, **parameters):
        calls.append(parameters)
        return own.compute(picture, **parameters)

    import dataclasses

    operator = dataclasses.replace(own, compute=counted)
    first = cached(operator, PICTURE, 1)
    np.testing.assert_array_equal(cached(operator, PICTURE, 1), first)
    assert len(calls) == 1
    cached(operator, PICTURE[:, ::-1], 1)
    cached(dataclasses.replace(operator, parameters={**own.parameters, "weight": 0.2}), PICTURE, 1)
    assert len(calls) == 3


def test_only_tasks_of_operators_have_a_job():
    case = expand(Request(["can24"], ["60x40"], ["null"], device="cpu"))[0][0]
    job = operator_job("pencil", case, ["/x/0-0.npy", "/x/0-1.npy"], 5)
    assert job["operator"] == "pencil"
    assert job["timed"].endswith("picture-0-0.npy")
    assert operator_job("denoising sigma 30", case, ["/x/0-0.npy"], 5) is None
    assert operator_run.operators is operators
