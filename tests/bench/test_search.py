"""Search for layers that stay in float: on a network with one layer that 8 bits ruin, it finds exactly that one."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, load, numpy_helper, save

import bench.search
import engines
from bench.layers import layers_file, read_layers
from bench.search import searched_network, split
from engines.engine import Options
from export.as_rounded import as_rounded, run_graph
from export.calibration import calibration_inputs
from export.network import Graph, Network, file_sha256
from export.precision import LoweringRequest, lowered_network
from export.processor import exact_weight_bits
from export.quantiser import worst_psnr_db
from export.recipe import Recipe
from reference_models import get
from reference_models.errors import UserError
from reference_models.pictures import calibration_pictures, fit_picture, held_back_pictures

LAYERS = ("first", "bad", "third", "last")
Search = Callable[..., Network]


def toy_network(path: Path) -> Network:
    """Four convolutions with ReLU between them. `first` leaves its last channel at 0, on which the weights of `bad` are
    a hundred times as large as on the others: they change nothing in float, and in int8 round the others away."""
    random = np.random.default_rng(5)
    shapes = {"first": (8, 3, 3, 3), "bad": (8, 8, 3, 3), "third": (8, 8, 3, 3), "last": (3, 8, 1, 1)}
    weights = {k: (random.normal(size=s) / np.sqrt(np.prod(s[1:]))).astype(np.float32) for k, s in shapes.items()}
    weights["first"][7] = 0
    weights["bad"][:, 7] = 20
    nodes, data = [], "x"
    for name in LAYERS:
        pads = [1, 1, 1, 1] if shapes[name][2] == 3 else [0, 0, 0, 0]
        out = "y" if name == "last" else f"{name}.out"
        nodes.append(helper.make_node("Conv", [data, f"{name}.weight"], [out], name=f"conv_{name}", pads=pads))
        if out != "y":
            nodes.append(helper.make_node("Relu", [out], [f"{name}.relu"], name=f"relu_{name}"))
            data = f"{name}.relu"
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 3, "h", "w"]) for n in "xy"]
    initializers = [numpy_helper.from_array(value, f"{name}.weight") for name, value in weights.items()]
    graph = helper.make_graph(nodes, "toy", ends[:1], ends[1:], initializers)
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    made = Graph(str(path), file_sha256(path), "", "", {}, "onnx")
    return Network("toy", None, made, None, (), 20)


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Network:
    return toy_network(tmp_path_factory.mktemp("toy") / "toy.onnx")


@pytest.fixture(scope="module")
def photographs() -> list[np.ndarray]:
    whole = [picture for _, picture in calibration_pictures()]
    return [fit_picture(p, 48 + 8 * n, 40) for n, p in enumerate([*whole, whole[0][::-1]])]


@pytest.fixture
def search(toy: Network, photographs: list[np.ndarray], cache: Path, monkeypatch: pytest.MonkeyPatch) -> Search:
    """`search(floor_db, engine=…)`: what is found for the toy, by a clock that stands still: shares decide."""
    monkeypatch.setattr(bench.search.time, "perf_counter", lambda: 0.0)

    def call(floor_db: float, engine: str = "onnxruntime", **more: Any) -> Network:
        device = "cpu" if engine != "tensorrt_rtx" else "cuda:0"
        own = engines.get(engine).recipe(device, "auto")
        assert own is not None
        recipe = dataclasses.replace(own, floor_db=floor_db, recovery="none", **more)
        options = Options(device, "auto", 1, engines.get(engine).complete_settings({}))
        request = LoweringRequest(toy, get("can24"), recipe, photographs)
        return searched_network(request, engine, options, lambda what, share: None)

    return call


def told(network: Network) -> dict[str, Any]:
    assert network.lowering is not None
    return json.loads(json.dumps(network.lowering))


def test_the_layer_that_8_bits_ruin_stays_in_float_and_no_other(search: Search) -> None:
    found = told(search(30.0))
    assert found["layers"] == {"first": "int8", "bad": "fp32", "third": "int8", "last": "int8"}
    curve = found["search"]["curve"]
    assert curve[0]["kept"] == []
    assert curve[0]["psnr_db"] < 28
    assert curve[1]["psnr_db"] >= 45  # in float truly: ONNX Runtime would quantise it, with one scale, to 33 dB
    assert found["search"]["psnr_db"] >= 30
    assert found["search"]["cost"] == "measured on onnxruntime"
    assert found["search"]["floor_db"] == 30
    assert all(point["ms"] == 0 for point in curve)  # the clock stands still


def test_every_point_keeps_one_layer_more_than_the_one_before(search: Search) -> None:
    found = told(search(45.0))
    curve = found["search"]["curve"]
    assert [len(point["kept"]) for point in curve] == list(range(len(curve)))
    assert all(set(a["kept"]) < set(b["kept"]) for a, b in itertools.pairwise(curve))
    shares = [point["low_mac_share"] for point in curve]
    assert shares == sorted(shares, reverse=True)
    assert shares[0] == 1
    macs = {"first": 9 * 3 * 8, "bad": 9 * 8 * 8, "third": 9 * 8 * 8, "last": 8 * 3}  # per pixel
    for point in curve:
        kept = sum(macs[name] for name in point["kept"])
        assert point["low_mac_share"] == pytest.approx(1 - kept / sum(macs.values()))


def test_a_floor_that_int8_keeps_everywhere_costs_no_layer(search: Search) -> None:
    found = told(search(10.0))
    assert set(found["layers"].values()) == {"int8"}
    assert len(found["search"]["curve"]) == 1


@pytest.mark.parametrize("engine", ["onnxruntime", "tensorrt_rtx"])
def test_a_floor_that_no_layer_in_int8_keeps_is_refused_with_what_can_be_had(search: Search, engine: str) -> None:
    with pytest.raises(
        UserError, match=r"--floor 110dB.*: no plan with a layer in int8 keeps it, \d+\.\d dB"
    ) as caught:
        search(110.0, engine)
    assert caught.value.expected == "a lower floor"


def test_an_engine_that_does_not_run_here_is_judged_by_multiply_accumulates(
    search: Search, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(engines.get("tensorrt_rtx")), "device_missing", lambda self, device: "no such device")
    network = search(30.0, "tensorrt_rtx")
    found = told(network)
    assert found["search"]["cost"] == "multiply-accumulates"
    assert all(point["ms"] is None for point in found["search"]["curve"])
    # What is not int8 is FP16 there, and int8 lies around 0.
    assert found["layers"] == {"first": "int8", "bad": "fp16", "third": "int8", "last": "int8"}
    model = load(network.main.onnx_path)
    assert TensorProto.UINT8 not in {i.data_type for i in model.graph.initializer}
    assert network.precision == "auto"


def test_of_plans_that_keep_the_floor_the_fastest_is_taken(search: Search, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second further step is made ten times as fast as the others."""
    real = bench.search._Search._point

    def timed(self: Any, best: Any, kept: Any) -> Any:
        return dataclasses.replace(real(self, best, kept), ms=0.5 if len(kept) == 2 else 5.0)

    monkeypatch.setattr(bench.search._Search, "_point", timed)
    found = told(search(30.5))
    assert sum(kind == "fp32" for kind in found["layers"].values()) == 2


def test_what_is_shipped_is_judged_and_not_only_what_was_tried(search: Search, monkeypatch: pytest.MonkeyPatch) -> None:
    """Learning or halving may move a plan below the floor: then the next one is taken."""
    real = bench.search._Search._made

    def spoilt(self: Any, kept: tuple[str, ...]) -> Any:
        made, psnr_db = real(self, kept)
        return made, 29.0 if len(kept) == 1 else psnr_db

    monkeypatch.setattr(bench.search._Search, "_made", spoilt)
    found = told(search(31.0))
    assert sum(kind == "fp32" for kind in found["layers"].values()) == 2
    monkeypatch.setattr(bench.search._Search, "_made", lambda self, kept: (real(self, kept)[0], 30.9))
    with pytest.raises(UserError, match=r"--floor 31\.5dB.*30\.9 dB is the most"):
        search(31.5)


def test_the_search_goes_on_while_no_plan_keeps_the_floor_as_made(
    search: Search, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = bench.search._Search._made

    def spoilt(self: Any, kept: tuple[str, ...]) -> Any:
        made, psnr_db = real(self, kept)
        return made, 29.0 if len(kept) < len(LAYERS) - 1 else psnr_db

    monkeypatch.setattr(bench.search, "FURTHER", 0)
    monkeypatch.setattr(bench.search._Search, "_made", spoilt)
    found = told(search(31.25))
    assert sum(kind == "int8" for kind in found["layers"].values()) == 1
    assert [len(point["kept"]) for point in found["search"]["curve"]] == [0, 1, 2, 3]


def test_where_no_engine_runs_it_halves_are_read_as_halves(
    search: Search, toy: Network, photographs: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(engines.get("tensorrt_rtx")), "device_missing", lambda self, device: "no such device")
    network = search(29.5, "tensorrt_rtx")
    held = calibration_inputs(split(photographs)[1], get("can24"))
    expected = [run_graph(load(toy.main.onnx_path), x) for x in held]
    made = load(network.main.onnx_path)
    strict, loose = ([run_graph(model, x) for x in held] for model in (as_rounded(made), made))
    assert told(network)["search"]["psnr_db"] == worst_psnr_db(strict, expected, get("can24"))
    assert worst_psnr_db(loose, expected, get("can24")) != worst_psnr_db(strict, expected, get("can24"))


def test_the_graph_is_the_one_that_the_file_of_layers_gives_back(
    search: Search, toy: Network, photographs: list[np.ndarray], tmp_path: Path, cache: Path
) -> None:
    network = search(30.0)
    path = tmp_path / "layers.json"
    path.write_text(json.dumps(layers_file("toy", told(network))))
    kept = read_layers(str(path)).kept
    assert kept == ("bad",)
    recipe = Recipe(
        "int8", placement="integer", shifted=True, recovery="none", kept=kept, weight_bits=exact_weight_bits()
    )
    replayed = lowered_network(LoweringRequest(toy, get("can24"), recipe, split(photographs)[0]), cache)
    assert told(replayed)["layers"] == told(network)["layers"]
    assert Path(replayed.main.onnx_path).read_bytes() == Path(network.main.onnx_path).read_bytes()


def test_a_search_is_made_once_per_floor_and_engine(search: Search, monkeypatch: pytest.MonkeyPatch) -> None:
    first = search(20.25)

    def fail(*_: Any) -> Any:
        raise AssertionError("searched again")

    monkeypatch.setattr(bench.search._Search, "run", fail)
    assert search(20.25) == first
    for other in ({"floor_db": 20.5}, {"floor_db": 20.25, "engine": "openvino"}):
        with pytest.raises(AssertionError, match="searched again"):
            search(**other)


# Which pictures


def picture(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, (4, 4, 3), np.uint8)


def same(a: Any, b: Any) -> bool:
    return any(x.shape == y.shape and np.array_equal(x, y) for x in a for y in b)


@pytest.mark.parametrize("count", [1, 3, 4, 5, 8, 9])
def test_held_back_pictures_took_no_part_in_calibration(count: int) -> None:
    given = [picture(number) for number in range(count)]
    chosen, held = split(given)
    assert chosen
    assert held
    assert not same(chosen, held)
    assert len(chosen) + (len(held) if count >= 4 else 0) == count
    if count >= 4:
        assert len(held) == count // 4


def test_a_picture_given_twice_is_not_on_both_sides() -> None:
    given = [picture(number) for number in (0, 1, 2, 2, 3, 0)]
    chosen, held = split(given)
    assert (len(chosen), len(held)) == (3, 1)
    assert not same(chosen, held)


def test_shipped_pictures_that_were_given_for_calibration_do_not_judge_it() -> None:
    shipped = [p for _, p in held_back_pictures()]
    chosen, held = split([shipped[0], picture(1)])
    assert len(chosen) == 2
    assert len(held) == len(shipped) - 1
    assert not same(chosen, held)
    with pytest.raises(UserError, match="held back"):
        split(shipped)
