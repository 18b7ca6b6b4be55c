"""What every engine promises, whichever it is: the same numbers as torch, the same errors, the same refit."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pytest

import engines
from engines.engine import Options
from engines.thumbnail import load_network
from export.network import INPUT, OUTPUT
from reference_models import get
from reference_models.errors import UserError
from reference_models.networks.statistics import fold_

STATISTICS = get("can24").statistics
TOLERANCE = {"fp32": 1e-4, "tf32": 2e-2, "bf16": 4e-2, "fp16": 1e-2}
"""Largest difference to torch in fp32, in units of the output's range: bf16 has 8 bits of mantissa, the others 11."""
CONTRACT = {"transfers", "graph_capture", "synchronisation", "streams", "l2_state", "threads"}


class Case(NamedTuple):
    engine: str
    device: str
    precision: str


def cases(*, computing=True):
    """Everything that is declared. What compiles for many seconds is slow.

    Computing ones take the FP32 graph: precisions that stand in the graph have their tests in tests/export and bench.
    """
    for name in engines.names():
        engine = engines.get(name)
        if computing and not engine.computes:
            continue
        for kind, precisions in engine.precisions.items():
            marks = [pytest.mark.gpu] if kind == "cuda" else []
            if name == "torch_compile" and computing:
                marks.append(pytest.mark.slow)
            for precision in precisions:
                device = "cuda:0" if kind == "cuda" else "cpu"
                if computing and engine.recipe(device, precision):
                    continue
                yield pytest.param(Case(name, device, precision), marks=marks, id=f"{name}-{kind}-{precision}")


EVERY_CASE = pytest.mark.parametrize("case", list(cases(computing=False)))
COMPUTING = pytest.mark.parametrize("case", list(cases()))


def usable(case):
    """The engine and complete options; skips with the engine's own reason."""
    engine = engines.get(case.engine)
    absent = engine.missing() or engine.device_missing(case.device)
    if reason := absent or engine.precision_missing(case.device, case.precision):
        pytest.skip(f"{case.engine}: {reason}")
    settings = engine.complete_settings({})
    return engine, Options(case.device, case.precision, threads=2, settings=settings)


def largest_difference(got, wanted):
    assert got.shape == wanted.shape
    assert got.dtype == np.float32
    return np.abs(got - wanted).max() / max(1, np.abs(wanted).max())


# Numbers


@pytest.mark.parametrize("statistics", STATISTICS)
@COMPUTING
def test_one_session_equals_torch_at_every_size_that_is_bound(case, statistics, networks, expected, picture):
    engine, options = usable(case)
    pictures = [picture(48, 64, 1), picture(37, 51, 2), picture(48, 64, 3), picture(48, 64, 4), picture(7, 90, 5)]
    with load_network(engine, networks[statistics], options) as session:
        outputs = [session.run({INPUT: x})[OUTPUT] for x in pictures]
    # Compared at the end: an output that the next inference wrote over would be seen.
    for x, y in zip(pictures, outputs, strict=True):
        assert largest_difference(y, expected(statistics, x)) < TOLERANCE[case.precision]


@pytest.mark.parametrize("case", [c for c in cases() if c.values[0].precision != "fp32"])
def test_a_lower_precision_is_really_used(case, networks, expected, picture):
    engine, options = usable(case)
    x = picture(48, 64)
    with load_network(engine, networks["image"], options) as session:
        assert largest_difference(session.run({INPUT: x})[OUTPUT], expected("image", x)) > 1e-4


@COMPUTING
def test_a_picture_in_any_memory_layout(case, networks, expected, picture):
    engine, options = usable(case)
    x = np.asfortranarray(picture(24, 40))[:, :, ::2, ::-1]
    assert not x.flags.c_contiguous
    with load_network(engine, networks["frozen"], options) as session:
        y = session.run({INPUT: x})[OUTPUT]
    assert largest_difference(y, expected("frozen", np.ascontiguousarray(x))) < TOLERANCE[case.precision]


@COMPUTING
def test_a_bound_input_can_be_run_again_and_again(case, networks, picture):
    engine, options = usable(case)
    for statistics in STATISTICS:
        with load_network(engine, networks[statistics], options) as session:
            session.bind(picture(24, 40))
            outputs = []
            for _ in range(3):
                session.enqueue()
                session.synchronize()
                outputs.append(session.read())
        assert largest_difference(outputs[1], outputs[0]) < 1e-5
        assert largest_difference(outputs[2], outputs[0]) < 1e-5


# Refit


def affines_of(can, picture, seed):
    import torch

    with torch.inference_mode():
        return can.affines(can.statistics(torch.from_numpy(picture(30, 30, seed))))[0]


def folded_tensors(can, affines):
    tensors = dict(fold_(can.folded(), affines).named_parameters())
    return {name: tensors[name].detach().numpy() for pair in can.folded().refit_rule for name in pair}


@pytest.mark.parametrize("when", ["before binding", "after binding"])
@COMPUTING
def test_refit_changes_the_output_exactly_as_folding_does(case, when, networks, can24_weights, picture):
    import torch

    from reference_models import create_model

    can, x = create_model("can24", str(can24_weights)), picture(33, 47)
    graph = networks["thumbnail"].main
    engine, options = usable(case)
    options = replace(options, refittable=tuple(n for pair in networks["thumbnail"].refit_rule for n in pair))
    with engine.load(graph, options) as session:
        if when == "after binding":
            session.bind(x)
        for seed in (1, 2):  # a second refit replaces the first
            affines = affines_of(can, picture, seed)
            session.refit(folded_tensors(can, affines))
            if when == "before binding":
                session.bind(x)
            session.enqueue()
            session.synchronize()
            with torch.inference_mode():
                wanted = fold_(can.folded(), affines)(torch.from_numpy(x)).numpy()
            assert largest_difference(session.read(), wanted) < TOLERANCE[case.precision]


@EVERY_CASE
def test_refit_refuses_what_was_not_named_before(case, networks):
    engine, options = usable(case)
    network = networks["thumbnail"]
    with engine.load(network.main, replace(options, refittable=("convs.0.bias",))) as session:
        for tensors in ({"nothing": np.zeros(24, np.float32)}, {"convs.1.bias": np.zeros(24, np.float32)}):
            with pytest.raises(ValueError, match=f"not refittable: {next(iter(tensors))}"):
                session.refit(tensors)


@COMPUTING
def test_refit_refuses_another_shape(case, networks):
    engine, options = usable(case)
    with engine.load(networks["thumbnail"].main, replace(options, refittable=("convs.0.bias",))) as session:
        for shape in ((23,), (24, 1), (1,), ()):
            with pytest.raises(ValueError, match=r"convs\.0\.bias"):
                session.refit({"convs.0.bias": np.zeros(shape, np.float32)})


# Errors


@pytest.mark.parametrize(
    ("x", "got", "todo"),
    [
        (np.zeros((3, 8, 8), np.float32), "(3, 8, 8) float32", "Add the batch axis"),
        (np.zeros((8, 8), np.float32), "(8, 8) float32", "Convert"),
        (np.zeros((1, 3, 8, 8), np.uint8), "(1, 3, 8, 8) uint8", "Convert"),
        (np.zeros((1, 3, 8, 8), np.float64), "(1, 3, 8, 8) float64", "Convert"),
        (np.zeros((1, 3, 0, 8), np.float32), "(1, 3, 0, 8) float32", "Convert"),
    ],
    ids=["no batch axis", "one plane", "uint8", "float64", "empty"],
)
@EVERY_CASE
def test_a_wrong_input_is_answered_in_three_parts(case, networks, x, got, todo):
    engine, options = usable(case)
    with engine.load(networks["frozen"].main, options) as session, pytest.raises(UserError) as error:
        session.run({INPUT: x})
    assert error.value.what == f"input `x`: got {got}"
    assert error.value.expected.startswith("(1, 3, ")
    assert "H, W) float32" in error.value.expected
    assert error.value.todo.startswith(todo)


@pytest.mark.parametrize("planes", [1, 4])
@EVERY_CASE
def test_a_wrong_number_of_planes_is_answered_in_three_parts(case, networks, planes):
    engine, options = usable(case)
    with engine.load(networks["frozen"].main, options) as session, pytest.raises(UserError) as error:
        session.run({INPUT: np.zeros((1, planes, 8, 8), np.float32)})
    assert error.value.what == f"input `x`: got (1, {planes}, 8, 8) float32"
    assert "3, H, W) float32" in error.value.expected


@pytest.mark.parametrize("names", [("input",), (), ("x", "y")])
@EVERY_CASE
def test_a_wrong_name_is_answered_in_three_parts(case, networks, names):
    engine, options = usable(case)
    inputs = {n: np.zeros((1, 3, 8, 8), np.float32) for n in names}
    with engine.load(networks["frozen"].main, options) as session, pytest.raises(UserError) as error:
        session.run(inputs)
    assert error.value.what == f"inputs: got {', '.join(map(repr, names)) or 'none'}"
    assert error.value.expected == "'x'"
    assert error.value.todo


@pytest.mark.parametrize("statistics", STATISTICS)
@EVERY_CASE
def test_running_before_anything_is_bound_is_wrong_use(case, statistics, networks):
    engine, options = usable(case)
    with load_network(engine, networks[statistics], options) as session:
        with pytest.raises(UserError, match="run before any input was bound"):
            session.enqueue()
        with pytest.raises(UserError):
            session.bind(np.zeros((8, 8), np.float32))
        with pytest.raises(UserError, match="run before any input was bound"):  # a refused input is not bound
            session.enqueue()


@EVERY_CASE
def test_a_refused_input_leaves_the_one_that_is_bound(case, networks, picture):
    if case.engine == "torch_compile":
        pytest.skip("its session is torch_eager's, and compiling takes seconds")
    engine, options = usable(case)
    with engine.load(networks["frozen"].main, options) as session:
        before = session.run({INPUT: picture(9, 11)})[OUTPUT]
        with pytest.raises(UserError):
            session.bind(np.zeros((1, 3, 9, 11), np.uint8))
        session.enqueue()
        session.synchronize()
        assert np.allclose(session.read(), before, atol=1e-6)


@pytest.mark.parametrize("statistics", STATISTICS)
@EVERY_CASE
def test_closing_twice_is_closing_once(case, statistics, networks, picture):
    engine, options = usable(case)
    session = load_network(engine, networks[statistics], options)
    session.bind(picture(8, 8))
    session.close()
    session.close()


# What is said


@EVERY_CASE
def test_the_contract_says_what_a_latency_contains(case, networks):
    engine, options = usable(case)
    for statistics in STATISTICS:
        with load_network(engine, networks[statistics], options) as session:
            own = set() if case.device == "cpu" else {"host_memory", "profile", "plan_sha256", "timing_cache_sha256"}
            assert set(session.contract) - own == CONTRACT | ({"statistics"} if statistics == "thumbnail" else set())
            assert session.contract["threads"] == options.threads
            assert ("device" in str(session.contract["transfers"])) == (case.device != "cpu")


@pytest.mark.parametrize("name", engines.names())
def test_what_an_engine_declares(name):
    engine = engines.get(name)
    assert engine.title
    assert engine.install
    assert engine.precisions
    assert all("fp32" in precisions for precisions in engine.precisions.values())
    assert set(engine.rank) <= set(engine.precisions)
    assert engine.runs_modules == name.startswith("torch_")  # the others read the ONNX file
    for setting in engine.settings:
        assert setting.default in setting.choices or not setting.choices  # without choices: any number
        assert setting.doc
    names = [setting.name for setting in engine.settings]
    assert len(names) == len(set(names))
    assert engine.complete_settings({}) == {setting.name: setting.default for setting in engine.settings}
    environment = engine.environment(engine.complete_settings({}))
    assert all(isinstance(k, str) and isinstance(v, str) for k, v in environment.items())


@pytest.mark.parametrize("name", engines.names())
def test_an_installed_engine_tells_its_version(name):
    engine = engines.get(name)
    if reason := engine.missing():
        pytest.skip(f"{name}: {reason}")
    assert any(letter.isdigit() for letter in engine.version())


@pytest.mark.parametrize("name", [name for name in engines.names() if name != "null"])
def test_an_engine_without_its_library_is_listed_and_says_how_to_get_it(name, networks, monkeypatch):
    find = importlib.util.find_spec
    libraries = ("torch", "onnxruntime", "openvino", "tensorrt", "tensorrt_rtx")
    monkeypatch.setattr(importlib.util, "find_spec", lambda m, *a: None if m in libraries else find(m, *a))
    engine = engines.get(name)
    assert name in engines.names()
    reason = engine.missing()
    assert reason.startswith("Python package `")
    assert reason.endswith("` is not installed")
    with pytest.raises(UserError) as error:
        engine.load(networks["frozen"].main, Options(settings=engine.complete_settings({})))
    assert error.value.what == f"engine `{name}`: {reason}"
    assert error.value.todo == engine.install
    assert "pip install" in error.value.todo
