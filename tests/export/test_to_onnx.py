"""torch → ONNX: the same numbers at every size, the graphs that engines are promised, and a cache that holds wholes."""

from __future__ import annotations

import collections
import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx import helper, numpy_helper
from safetensors.numpy import load_file, save_file

from export import to_onnx
from export.network import INPUT, OUTPUT, Network, file_sha256
from export.to_onnx import CHECKED_SIZES, TRACED_SIZE, ExportRequest, check_onnx, export_network, write_onnx
from reference_models import create_model, get, model_from_spec
from reference_models.errors import UserError
from reference_models.networks.can import Can
from reference_models.networks.statistics import ThumbnailAffines

ROOT = Path(__file__).resolve().parents[2]
LAYERS = 8
SIZES = [(1, 1), (1, 9), (7, 5), (33, 65), (48, 64)]
SMALL = dataclasses.replace(get("can24"), options={"width": 4, "dilations": [1, 2]})


def spec_of(**more):
    """A spec of which only what the exporter reads matters."""
    return dataclasses.replace(SMALL, **more)


def run(path, x):
    options = ort.SessionOptions()
    options.log_severity_level = 3
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"]).run([OUTPUT], {INPUT: x})[0]


def largest_difference(got, wanted):
    assert got.shape == wanted.shape
    return np.abs(got - wanted).max() / max(1, np.abs(wanted).max())


def operators(path):
    return collections.Counter(node.op_type for node in onnx.load(path).graph.node)


# Numbers


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("statistics", ["image", "frozen"])
def test_the_graph_equals_torch_at_sizes_it_never_saw(networks, expected, picture, statistics, size):
    x = picture(*size)
    got = run(networks[statistics].main.onnx_path, x)
    assert largest_difference(got, expected(statistics, x)) < 1e-4


@pytest.mark.parametrize("size", SIZES)
def test_the_thumbnail_graph_equals_torch_at_sizes_it_never_saw(networks, can24_weights, picture, size):
    x = picture(*size)
    with torch.inference_mode():
        wanted = ThumbnailAffines(create_model("can24", str(can24_weights)))(torch.from_numpy(x)).numpy()
    assert largest_difference(run(networks["thumbnail"].thumbnail.onnx_path, x), wanted) < 1e-4


def test_the_stored_parameters_are_those_of_the_weights(networks, can24_weights):
    given, stored = load_file(can24_weights), load_file(networks["image"].main.state_path)
    assert set(given) == set(stored)
    assert all(np.array_equal(given[name], stored[name]) for name in given)
    template = load_file(networks["thumbnail"].main.state_path)  # what every picture's scale is multiplied on
    for weight, bias in networks["thumbnail"].refit_rule:
        assert np.array_equal(template[weight], given[weight])
        assert not template[bias].any()


# Graphs


@pytest.mark.parametrize("statistics", ["image", "frozen", "thumbnail"])
def test_files_are_valid_and_of_the_stated_opset(networks, statistics):
    network = networks[statistics]
    assert (network.model, network.statistics) == ("can24", statistics)
    assert (network.main.planes, network.main.output_planes, network.main.upscale) == (3, 3, 1)
    for graph in filter(None, (network.main, network.thumbnail)):
        model = onnx.load(graph.onnx_path)
        onnx.checker.check_model(model, full_check=True)
        assert {entry.domain: entry.version for entry in model.opset_import} == {"": network.opset}
        assert [value.name for value in model.graph.input] == [INPUT]
        assert [value.name for value in model.graph.output] == [OUTPUT]
        shape = model.graph.input[0].type.tensor_type.shape.dim
        assert [bool(side.dim_param) for side in shape] == [False, False, True, True]
        assert graph.sha256 == file_sha256(graph.onnx_path)
    assert network.opset == 20


@pytest.mark.parametrize("statistics", ["frozen", "thumbnail"])
def test_a_folded_graph_is_convolutions_and_leaky_relus(networks, statistics):
    assert operators(networks[statistics].main.onnx_path) == {"Conv": LAYERS + 1, "LeakyRelu": LAYERS}


def test_an_adaptive_normalisation_is_few_nodes(networks):
    count = operators(networks["image"].main.onnx_path)
    assert (count.pop("Conv"), count.pop("LeakyRelu")) == (LAYERS + 1, LAYERS)
    assert count.pop("ReduceMean") <= 2 * LAYERS
    assert count.pop("ReduceSum") <= 2 * LAYERS
    of_the_size = count.pop("Shape") + count.pop("Squeeze", 0) + count.pop("Gather", 0) + count.pop("Cast", 0)
    assert of_the_size <= 4  # of the picture, once
    assert set(count) <= {"Add", "Sub", "Mul", "Div", "Sqrt", "Reciprocal"}
    assert count.total() <= 16 * LAYERS


def test_no_reduction_adds_more_numbers_than_a_side_of_the_picture(networks):
    """One running sum over a whole 4K plane in float32 would cost 10 to 20 dB."""
    model = onnx.load(networks["image"].main.onnx_path)
    constants = {i.name: numpy_helper.to_array(i) for i in model.graph.initializer}
    reductions = [node for node in model.graph.node if node.op_type.startswith("Reduce")]
    assert reductions
    assert {constants[node.input[1]].size for node in reductions} == {1}


def test_every_refitted_tensor_is_an_initializer_of_its_own(networks):
    network = networks["thumbnail"]
    shapes = {i.name: tuple(i.dims) for i in onnx.load(network.main.onnx_path).graph.initializer}
    template = load_file(network.main.state_path)
    names = [name for pair in network.refit_rule for name in pair]
    assert len(names) == len(set(names)) == 2 * LAYERS
    assert all(shapes[name] == template[name].shape for name in names)


# The check


@pytest.fixture(scope="module")
def small(tmp_path_factory, randomise):
    """A tiny CAN and its file."""
    module = randomise(Can(4, (1, 2))).eval()
    path = tmp_path_factory.mktemp("small") / "small.onnx"
    write_onnx(module, path, SMALL)
    return module, path


def tampered(path, target, change):
    model = onnx.load(path)
    last = next(i for i in model.graph.initializer if i.name == "last.weight")
    last.CopyFrom(numpy_helper.from_array(change(numpy_helper.to_array(last).copy()), last.name))
    onnx.save(model, target)
    return target


def test_an_untouched_file_passes_the_check(small):
    assert check_onnx(*small, 3, [(5, 7), (16, 9)]) < 1e-5


@pytest.mark.parametrize("change", [lambda w: w * 1.01, lambda w: w * np.float32(np.nan), lambda w: w * np.inf])
def test_a_file_that_computes_something_else_is_refused(small, tmp_path, change):
    module, path = small
    with pytest.raises(RuntimeError, match="differs from torch by"):
        check_onnx(module, tampered(path, tmp_path / "t.onnx", lambda w: change(w).astype(np.float32)), 3, [(9, 11)])


def test_a_wrong_number_at_one_size_alone_is_found(small):
    module, path = small

    class Other(torch.nn.Module):
        def forward(self, x):
            return module(x) + (0.01 if x.shape[2] == 9 else 0)

    assert check_onnx(Other(), path, 3, [(8, 8)]) < 1e-5
    with pytest.raises(RuntimeError, match=r"differs from torch by 0\.01"):
        check_onnx(Other(), path, 3, [(8, 8), (9, 8), (10, 8)])


def test_another_output_size_is_refused(small):
    with pytest.raises(RuntimeError, match=r"gives \(1, 3, 9, 8\) at 9x8, torch gives \(1, 3, 18, 16\)"):
        check_onnx(torch.nn.Upsample(scale_factor=2), small[1], 3, [(9, 8)])


def test_a_file_that_is_not_valid_onnx_is_refused(tmp_path):
    x, y = (helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, 3, None, None]) for name in "xy")
    graph = helper.make_graph([helper.make_node("LeakyRelu", ["nowhere"], ["y"])], "g", [x], [y])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)]), tmp_path / "bad.onnx")
    with pytest.raises(onnx.checker.ValidationError, match="nowhere"):
        check_onnx(torch.nn.Identity(), tmp_path / "bad.onnx", 3, [(4, 4)])


def test_networks_that_need_a_multiple_of_a_size_keep_to_it(tmp_path):
    class Halves(torch.nn.Module):
        def forward(self, x):
            return torch.nn.functional.pixel_shuffle(torch.nn.functional.pixel_unshuffle(x, 2) * 0.5, 2)

    write_onnx(Halves(), tmp_path / "m.onnx", spec_of(size_multiple=2))
    assert np.allclose(run(tmp_path / "m.onnx", np.ones((1, 3, 6, 14), np.float32)), 0.5)


def test_networks_that_need_a_least_size_are_never_given_less(tmp_path):
    class Mirrors(torch.nn.Module):
        """Padding by reflection needs more pixels than it adds."""

        def forward(self, x):
            assert min(x.shape[2:]) >= 66
            return torch.nn.functional.avg_pool2d(torch.nn.functional.pad(x, (32,) * 4, "reflect"), 65, 1)

    write_onnx(Mirrors(), tmp_path / "m.onnx", spec_of(min_size=66))
    for size in ((66, 66), (70, 67)):
        assert np.allclose(run(tmp_path / "m.onnx", np.ones((1, 3, *size), np.float32)), 1, atol=1e-5)


def test_sizes_that_the_check_takes_keep_multiple_and_least_size():
    for multiple, least in ((1, 1), (2, 1), (8, 1), (1, 50), (16, 40), (32, 33), (7, 100)):
        for wanted in (*CHECKED_SIZES, TRACED_SIZE):
            taken = to_onnx._taken(spec_of(size_multiple=multiple, min_size=least), wanted)
            for side, got in zip(wanted, taken, strict=True):
                assert got % multiple == 0
                assert got >= max(side, least)
                assert got < max(side, least, 2 * multiple) + multiple
                assert got > multiple  # torch specialises on one


def test_three_sizes_are_checked_that_the_export_never_saw(small, tmp_path, monkeypatch):
    """Two of them with odd sides."""
    checked = []
    monkeypatch.setattr(to_onnx, "check_onnx", lambda module, path, planes, sizes: checked.extend(sizes))
    write_onnx(small[0], tmp_path / "m.onnx", SMALL)
    assert len(set(checked)) == 3
    assert TRACED_SIZE not in checked
    assert sum(height % 2 == width % 2 == 1 for height, width in checked) >= 2


def test_any_number_of_planes_goes_in_and_another_comes_out_larger(tmp_path):
    class Thrice(torch.nn.Module):
        def forward(self, x):
            return torch.nn.functional.pixel_shuffle(x.repeat(1, 9, 1, 1) * 0.5, 3)

    write_onnx(Thrice(), tmp_path / "m.onnx", spec_of(input_planes=2, output_planes=2, upscale=3))
    x = np.random.default_rng(0).random((1, 2, 5, 7), dtype=np.float32)
    got = run(tmp_path / "m.onnx", x)
    assert got.shape == (1, 2, 15, 21)
    # Plane p of the output interleaves planes 9 p to 9 p + 8 of what was repeated: those of x in turn.
    assert np.allclose(got[0, :, ::3, ::3], 0.5 * x[0, [0, 1]])
    assert np.allclose(got[0, 0, 0::3, 1::3], 0.5 * x[0, 1])


def test_the_difference_allowed_is_relative_to_the_largest_output(small):
    """A network whose output reaches 100 may differ by 100 times as much; one below 1 by no more than TOLERANCE."""
    module, path = small

    class Off(torch.nn.Module):
        def forward(self, x):
            return module(x) * (1 + 5e-5)

    assert check_onnx(Off(), path, 3, [(8, 8)]) < 1e-4
    assert to_onnx.TOLERANCE == 1e-4


# Requests and the cache


def test_options_of_the_spec_reach_the_network(tmp_path):
    network = export_network(ExportRequest(SMALL, None, "image"), tmp_path)
    assert operators(network.main.onnx_path)["Conv"] == 3
    assert network.main.options == {"width": 4, "dilations": [1, 2]}
    assert load_file(network.main.state_path)["convs.1.weight"].shape == (4, 4, 3, 3)


def test_planes_and_enlarging_of_the_spec_stand_in_the_graph(own_network, tmp_path):
    network = export_network(ExportRequest(own_network, None, None), tmp_path)
    assert (network.main.planes, network.main.output_planes, network.main.upscale) == (3, 3, 1)
    assert (network.model, network.statistics, network.main.role) == ("own gain=3.0", None, "published")


def test_a_style_is_what_its_global_branch_sees_in_every_run(own_network, calibration, tmp_path):
    """Its own network adds the mean of the picture; with a style that of the style, once and for all."""
    style, x = calibration[0], np.full((1, 3, 9, 11), 0.25, np.float32)
    network = export_network(ExportRequest(own_network, None, None, style=style), tmp_path)
    plain = export_network(ExportRequest(own_network, None, None), tmp_path)
    assert network.main.role == "styled"
    assert Path(network.main.onnx_path).parent != Path(plain.main.onnx_path).parent
    means = (style.astype(np.float64) / 255).mean((0, 1))[None, :, None, None]
    assert np.allclose(run(network.main.onnx_path, x), 3 * 0.25 + means, atol=1e-5)
    assert np.allclose(run(plain.main.onnx_path, x), 3 * 0.25 + 0.25, atol=1e-5)


def test_a_style_for_a_network_without_a_global_branch_is_refused(calibration, tmp_path):
    with pytest.raises(UserError, match=r"`--style` with model `can24`: it has no global branch.*Leave it out"):
        export_network(ExportRequest(SMALL, None, "image", style=calibration[0]), tmp_path)
    assert not list((tmp_path / "networks").iterdir())


def test_what_was_exported_once_is_not_exported_again(networks, cache, can24_weights, monkeypatch):
    entry = Path(networks["image"].main.onnx_path).parent
    before = {path: path.stat().st_mtime_ns for path in [entry, *entry.iterdir()]}

    def fail(*_):
        raise AssertionError("exported again")

    monkeypatch.setattr(to_onnx, "_write_network", fail)
    again = export_network(ExportRequest(get("can24"), str(can24_weights), "image"), cache)
    stored = Network.from_json((entry / "network.json").read_text())
    assert (stored.main.onnx_path, stored.main.sha256) == ("main.onnx", again.main.sha256)  # names only
    assert again == networks["image"]
    assert again.export_s > 0.1  # what it took when it was made
    assert {path: path.stat().st_mtime_ns for path in [entry, *entry.iterdir()]} == before


def test_paths_of_an_entry_are_where_its_files_are(networks):
    for network in networks.values():
        for graph in filter(None, (network.main, network.thumbnail)):
            assert Path(graph.onnx_path).is_absolute()
            assert Path(graph.onnx_path).is_file()
            assert Path(graph.state_path).is_file()
            assert Path(graph.onnx_path).parent.parent.name == "networks"


def test_frozen_statistics_need_pictures(tmp_path):
    with pytest.raises(UserError, match=r"statistics `frozen`: no calibration pictures.*`--calibration DIR`"):
        export_network(ExportRequest(SMALL, None, "frozen"), tmp_path)
    assert not list((tmp_path / "networks").iterdir())


@pytest.mark.parametrize("name", ["jürgen", "a b", "c"])
def test_the_cache_may_lie_anywhere_and_be_moved(tmp_path, name):
    request = ExportRequest(SMALL, None, "image")
    made = export_network(request, tmp_path / name)
    assert Path(made.main.onnx_path).is_file()
    (tmp_path / name).rename(tmp_path / "moved")
    found = export_network(request, tmp_path / "moved")
    assert Path(found.main.onnx_path) == (tmp_path / "moved").resolve() / Path(made.main.onnx_path).relative_to(
        tmp_path / name
    )
    assert Path(found.main.state_path).is_file()


def test_bad_weights_leave_nothing_in_the_cache(tmp_path):
    save_file({"convs.0.weight": np.zeros((24, 3, 3, 3), np.float32)}, tmp_path / "w.safetensors")
    with pytest.raises(UserError, match=r"missing: convs\.1\.weight"):
        export_network(ExportRequest(get("can24"), str(tmp_path / "w.safetensors"), "image"), tmp_path / "cache")
    assert not list((tmp_path / "cache" / "networks").iterdir())


def test_an_export_that_fails_its_check_leaves_nothing_in_the_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(to_onnx, "TOLERANCE", -1)
    with pytest.raises(RuntimeError, match="differs from torch"):
        export_network(ExportRequest(SMALL, None, "image"), tmp_path)
    assert not list((tmp_path / "networks").iterdir())


def test_two_processes_that_export_at_once_both_succeed(tmp_path):
    code = (
        "import sys, dataclasses, time, pathlib\n"
        "import torch, onnx, onnxruntime, export.to_onnx as e\n"
        "from reference_models import get\n"
        "spec = dataclasses.replace(get('can24'), options={'width': 4, 'dilations': [1, 2]})\n"
        "print('ready', flush=True)\n"
        "sys.stdin.readline()\n"
        "write = e._write_network\n"
        "def slow(*args):\n"
        "    network = write(*args)\n"
        "    pathlib.Path(sys.argv[1], sys.argv[2]).touch()\n"
        "    while len(list(pathlib.Path(sys.argv[1]).glob('written*'))) < 2: time.sleep(0.02)\n"
        "    return network\n"
        "e._write_network = slow\n"
        "print(e.export_network(e.ExportRequest(spec, None, 'image'), pathlib.Path(sys.argv[1], 'cache')).to_json())\n"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path), f"written{i}"],
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for i in range(2)
    ]  # fmt: skip
    try:
        assert [p.stdout.readline() for p in processes] == ["ready\n"] * 2
        outputs = _together(processes)
    finally:
        for process in processes:
            process.kill()
    assert [p.returncode for p in processes] == [0, 0]
    assert json.loads(outputs[0]) == json.loads(outputs[1])
    entries = list((tmp_path / "cache" / "networks").iterdir())
    assert [entry.name for entry in entries if entry.name.startswith(".")] == []
    assert len(entries) == 1
    check_onnx(model_from_spec(SMALL), entries[0] / "main.onnx", 3, [(5, 6)])


def _together(processes):
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    return [process.communicate(timeout=120)[0] for process in processes]
