"""Words → cases: every combination once and in order, and every wrong word with what was meant."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import engines
import reference_models
from bench import case as cases_module
from bench.case import (
    RESOLUTIONS,
    Case,
    Request,
    expand,
    parse_settings,
    resolution_size,
    resolve_device,
)
from bench.layers import Layers
from engines import installed
from export.processor import exact_weight_bits
from export.recipe import Recipe
from reference_models.errors import UserError


@pytest.fixture(autouse=True)
def _no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same answers on every machine: no CUDA device, four cores."""
    give_devices(monkeypatch, 0)
    monkeypatch.setattr("bench.machine.usable_cores", lambda: 4)


def give_devices(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr(installed, "cuda_device_count", lambda: count)
    monkeypatch.setattr(cases_module, "cuda_device_count", lambda: count)


LAST = Layers("layers.json", ("last",), None)


def ask(**more: Any) -> Request:
    return Request(**{"models": ["can24"], "resolutions": ["64x48"], "engines": ["null"], **more})


def only(request: Request) -> Case:
    found, left_out = expand(request)
    assert len(found) == 1
    assert left_out == []
    return found[0]


def refused(call: Callable[[], object]) -> UserError:
    with pytest.raises(UserError) as caught:
        call()
    return caught.value


# Resolutions


def test_named_resolutions() -> None:
    expected = {
        "320p": (568, 320), "480p": (854, 480), "720p": (1280, 720), "1080p": (1920, 1080), "1440p": (2560, 1440),
        "4k": (3840, 2160),
    }  # fmt: skip
    assert expected == RESOLUTIONS
    assert all(resolution_size(word) == size for word, size in expected.items())
    assert resolution_size("4K") == (3840, 2160)
    assert resolution_size("1440P") == (2560, 1440)


@pytest.mark.parametrize(
    ("word", "size"),
    [("64x48", (64, 48)), ("64X48", (64, 48)), ("64×48", (64, 48)), ("1x1", (1, 1)), ("32768x32768", (32768, 32768))],
)
def test_a_size_is_width_by_height(word: str, size: tuple[int, int]) -> None:
    assert resolution_size(word) == size


@pytest.mark.parametrize(
    ("word", "advice"),
    [("1441p", "Did you mean 1440p?"), ("4kk", "Did you mean 4k?"), ("1080", "Did you mean 1080p?")],
)
def test_a_resolution_nearly_right_is_suggested(word: str, advice: str) -> None:
    error = refused(lambda: resolution_size(word))
    assert error.what == f"`--res {word}`: not a known resolution"
    assert error.expected == "320p, 480p, 720p, 1080p, 1440p, 4k, WIDTHxHEIGHT"
    assert error.todo == advice


@pytest.mark.parametrize(
    "word", ["", "x", "64x", "x48", "64x48x3", "-64x48", "64.5x48", "64 x 48", "1e3x48", "64x48\n"]
)
def test_what_is_no_size_is_refused(word: str) -> None:
    assert "not a known resolution" in refused(lambda: resolution_size(word)).what


@pytest.mark.parametrize("word", ["0x48", "64x0", "32769x48", "48x32769", "999999x1"])
def test_a_side_out_of_range_is_refused_with_the_range(word: str) -> None:
    error = refused(lambda: resolution_size(word))
    assert "out of range" in error.what
    assert error.expected == "1 to 32768 pixels"


# Devices


def test_auto_is_the_first_gpu_or_else_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    assert resolve_device("auto") == "cpu"
    give_devices(monkeypatch, 2)
    assert resolve_device("auto") == "cuda:0"
    assert resolve_device("cuda") == "cuda:0"
    assert resolve_device("cuda:1") == "cuda:1"
    assert resolve_device("cpu") == "cpu"


@pytest.mark.parametrize("word", ["gpu", "cuda:", "cuda:x", "cpu:0", "", "CUDA:0 "])
def test_an_unknown_device_is_refused(word: str) -> None:
    error = refused(lambda: resolve_device(word))
    assert error.what == f"`--device {word}`: not a known device"
    assert error.expected == "auto, cpu, cuda:0"


@pytest.mark.parametrize("word", ["cuda", "cuda:0", "cuda:7"])
def test_cuda_asked_for_where_there_is_none_is_refused_and_never_replaced(word: str) -> None:
    error = refused(lambda: expand(ask(device=word)))
    assert "the driver shows 0 CUDA devices here" in error.what
    assert error.todo == "Use `--device cpu`"


# Bad words


@pytest.mark.parametrize(
    ("more", "what", "advice"),
    [
        ({"models": ["cam24"]}, "`--model cam24`: not a known model", "Did you mean can24?"),
        ({"resolutions": ["1441p"]}, "`--res 1441p`: not a known resolution", "Did you mean 1440p?"),
        ({"engines": ["onnxruntme"]}, "`--engine onnxruntme`: not a known engine", "Did you mean onnxruntime?"),
        ({"engines": ["onnx_runtime"]}, "`--engine onnx_runtime`: not a known engine", "Did you mean onnxruntime?"),
        ({"precisions": ["fp31"]}, "`--precision fp31`: not a known precision", "Did you mean fp32?"),
        (
            {"statistics": ["imgae"]},
            "`--statistics imgae`: not a known way to obtain statistics",
            "Did you mean image?",
        ),
        ({"models": ["zzz"]}, "`--model zzz`: not a known model", "`bench models` lists them with their sources"),
        ({"precisions": ["zzz"]}, "`--precision zzz`: not a known precision", "Give one of these"),
    ],
)
def test_a_wrong_word_is_named_with_the_nearest_right_one(more: dict[str, Any], what: str, advice: str) -> None:
    error = refused(lambda: expand(ask(**more)))
    assert (error.what, error.todo) == (what, advice)
    assert error.expected


def test_a_wrong_word_among_right_ones_is_found() -> None:
    assert "cam24" in refused(lambda: expand(ask(models=["can24", "cam24"]))).what


def test_an_engine_that_is_not_usable_is_refused_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(type(engines.get("openvino")), "missing", lambda _: "Python package `openvino` is not there")
    error = refused(lambda: expand(ask(engines=["null", "openvino"])))
    assert error.what == "engine `openvino`: Python package `openvino` is not there"
    assert "null" in error.expected
    assert "openvino" not in error.expected
    assert "pip install" in error.todo


@pytest.mark.parametrize("threads", [0, -1, 5])
def test_threads_beyond_the_cores_are_refused(threads: int) -> None:
    error = refused(lambda: expand(ask(threads=threads)))
    assert error.what == f"`--threads {threads}`: out of range"
    assert error.expected == "1 to 4 (cores usable here)"


def test_threads_are_all_cores_unless_given() -> None:
    assert only(ask()).threads == 4
    assert only(ask(threads=1)).threads == 1


def test_weights_that_do_not_exist_are_refused_before_anything_else_is_done(tmp_path: Path) -> None:
    error = refused(lambda: expand(ask(weights=str(tmp_path / "no.safetensors"))))
    assert "no.safetensors" in error.what


# Products


def test_every_combination_once_and_in_order() -> None:
    request = Request(
        ["can32", "can24"], ["32x16", "64x48"], ["onnxruntime", "null"], ("fp32",), ("frozen", "image"), "cpu"
    )
    found, left_out = expand(request)
    order = [(c.model, c.statistics, c.resolution, c.engine, c.precision) for c in found]
    assert order == [
        (model, statistics, resolution, engine, "fp32")
        for model in ("can32", "can24")
        for statistics in ("frozen", "image")
        for resolution in ("32x16", "64x48")
        for engine in ("onnxruntime", "null")
    ]
    assert left_out == []
    assert (found[0].width, found[0].height) == (32, 16)


@pytest.mark.parametrize(
    "more",
    [
        {"models": ["can24", "can24"]}, {"resolutions": ["64x48", "64x48"]}, {"engines": ["null", "null"]},
        {"precisions": ["fp32", "fp32"]}, {"statistics": ["image", "image"]}, {"resolutions": ["64x48", "64X48"]},
    ],
)  # fmt: skip
def test_what_is_asked_twice_is_measured_once(more: dict[str, Any]) -> None:
    only(ask(**more))


def test_statistics_are_as_published_unless_asked_otherwise() -> None:
    assert only(ask()).statistics == "image"


def test_a_network_without_statistics_takes_none(monkeypatch: pytest.MonkeyPatch) -> None:
    give_model(monkeypatch, name="plain", statistics=())
    found = only(ask(models=["plain"]))
    assert found.statistics is None
    assert found.title == "plain 64x48 null fp32"


def test_without_engines_the_fastest_usable_one_and_torch_beside_it() -> None:
    found, _ = expand(ask(engines=()))
    assert [c.engine for c in found] == [engines.fastest("cpu"), "torch_eager"]
    assert engines.fastest("cpu") != "torch_eager"


def test_torch_stands_once_where_it_is_the_fastest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "fastest", lambda *_: "torch_eager")
    assert only(ask(engines=())).engine == "torch_eager"


def test_a_precision_that_an_engine_lacks_is_left_out_with_the_reason() -> None:
    found, left_out = expand(ask(engines=["null", "onnxruntime"], precisions=["fp32", "bf16"]))
    assert [(c.engine, c.precision) for c in found] == [("null", "fp32"), ("onnxruntime", "fp32")]
    assert [(c.engine, c.precision, reason) for c, reason in left_out] == [
        ("null", "bf16", "engine `null`: no bf16 on cpu, only fp32"),
        ("onnxruntime", "bf16", "engine `onnxruntime`: no bf16 on cpu, only fp32, int8, auto"),
    ]


def test_nothing_left_to_measure_is_wrong_use() -> None:
    error = refused(lambda: expand(ask(precisions=["fp16", "int8"])))
    assert error.what == (
        "nothing to measure: engine `null`: no fp16 on cpu, only fp32; engine `null`: no int8 on cpu, only fp32"
    )


def test_null_has_nothing_to_do_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    give_devices(monkeypatch, 1)
    error = refused(lambda: expand(ask(device="cuda:0")))
    assert error.what == "nothing to measure: engine `null`: does not run on cuda"


# Settings


def test_settings_are_read_and_completed() -> None:
    assert parse_settings(["onnxruntime.graph=off", "onnxruntime.spin=off", "openvino.pinning=off"]) == {
        "onnxruntime": {"graph": "off", "spin": "off"},
        "openvino": {"pinning": "off"},
    }
    found = only(ask(engines=["onnxruntime"], settings=["onnxruntime.graph=basic"]))
    assert found.settings["graph"] == "basic"
    assert set(found.settings) == {s.name for s in engines.get("onnxruntime").settings}
    assert only(ask(engines=["onnxruntime"])).settings["graph"] == "all"


@pytest.mark.parametrize(
    "word", ["graph=off", "onnxruntime.graph", "onnxruntime.graph=", "=", "", "a.b.c=d", "a.b=c d"]
)
def test_a_setting_of_another_form_is_refused(word: str) -> None:
    error = refused(lambda: parse_settings([word]))
    assert error.what == f"`--set {word}`: not of the form"
    assert error.expected == "ENGINE.NAME=VALUE"


@pytest.mark.parametrize(
    ("word", "what", "advice"),
    [
        ("onnxruntme.graph=off", "`--engine onnxruntme`: not a known engine", "Did you mean onnxruntime?"),
        ("onnxruntime.grap=off", "engine `onnxruntime` has no setting of this name", "Did you mean graph?"),
        ("onnxruntime.graph=some", "not a value of this setting", "`bench engines --settings` describes them"),
        ("null.graph=off", "engine `null` has no setting of this name", "`bench engines --settings` describes them"),
    ],
)
def test_a_setting_that_does_not_exist_is_refused(word: str, what: str, advice: str) -> None:
    error = refused(lambda: expand(ask(settings=[word])))
    assert what in error.what
    assert error.todo == advice


# Variants of an engine


def test_variants_of_an_engine_stand_side_by_side_under_their_own_names() -> None:
    found, _ = expand(ask(engines=["onnxruntime:graph=off:spin=off", "null", "onnxruntime"]))
    assert [c.variant for c in found] == ["onnxruntime:graph=off:spin=off", "null", "onnxruntime"]
    assert [c.engine for c in found] == ["onnxruntime", "null", "onnxruntime"]
    assert [c.settings.get("graph") for c in found] == ["off", None, "all"]


def test_a_variants_own_setting_goes_before_that_of_all() -> None:
    found, _ = expand(
        ask(
            engines=["onnxruntime:graph=basic", "onnxruntime"],
            settings=["onnxruntime.graph=off", "onnxruntime.spin=off"],
        )
    )
    assert [(c.settings["graph"], c.settings["spin"]) for c in found] == [("basic", "off"), ("off", "off")]


def test_a_variant_that_only_repeats_a_default_is_measured_once() -> None:
    assert only(ask(engines=["onnxruntime", "onnxruntime:graph=all"])).variant == "onnxruntime"


@pytest.mark.parametrize(
    ("word", "what"),
    [
        ("onnxruntime:grap=off", "engine `onnxruntime` has no setting of this name"),
        ("onnxruntime:graph=some", "not a value of this setting"),
        ("onnxruntime:graph", "not of the form"),
        ("onnxruntime:", "not of the form"),
        ("onnxruntme:graph=off", "`--engine onnxruntme`: not a known engine"),
    ],
)
def test_a_wrong_variant_is_refused(word: str, what: str) -> None:
    assert what in refused(lambda: expand(ask(engines=[word]))).what


# Cases


def give_model(monkeypatch: pytest.MonkeyPatch, **changes: Any) -> None:
    spec = dataclasses.replace(reference_models.get("can24"), **changes)
    monkeypatch.setattr(reference_models, "_registry", lambda: {spec.name: spec})


def test_shapes_of_a_network_of_equal_size() -> None:
    found = only(ask())
    assert found.input_size == (64, 48)
    assert found.input_shape == found.output_shape == (1, 3, 48, 64)


@pytest.mark.parametrize(
    ("resolution", "upscale", "size"),
    [("1440p", 3, (854, 480)), ("1440p", 2, (1280, 720)), ("64x48", 4, (16, 12)), ("1x1", 3, (1, 1))],
)
def test_the_resolution_is_that_of_the_output_and_the_input_is_rounded_up(
    resolution: str, upscale: int, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    give_model(monkeypatch, name="larger", upscale=upscale)
    found = only(ask(models=["larger"], resolutions=[resolution]))
    assert found.input_size == size
    assert found.input_shape == (1, 3, size[1], size[0])
    width, height = resolution_size(resolution)
    assert found.output_shape == (1, 3, height, width)


@pytest.mark.parametrize(
    ("changes", "picture", "input_shape", "output_shape"),
    [
        ({"pre_upscale": 3}, (22, 16), (1, 3, 48, 66), (1, 3, 48, 64)),
        ({"pre_upscale": 3, "input_planes": 1, "output_planes": 1}, (22, 16), (1, 1, 48, 66), (1, 1, 48, 64)),
        ({"upscale": 3, "size_multiple": 8}, (22, 16), (1, 3, 16, 24), (1, 3, 48, 64)),
        ({"min_size": 100}, (64, 48), (1, 3, 100, 100), (1, 3, 48, 64)),
        ({"output_planes": 21, "size_multiple": 32}, (64, 48), (1, 3, 64, 64), (1, 21, 48, 64)),
    ],
)
def test_the_tensor_is_enlarged_and_padded_and_the_output_cropped(
    changes: dict[str, Any], picture: tuple[int, int], input_shape: tuple[int, ...], output_shape: tuple[int, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    give_model(monkeypatch, name="other", **changes)
    found = only(ask(models=["other"]))
    assert (found.input_size, found.input_shape, found.output_shape) == (picture, input_shape, output_shape)


# What a network offers


def test_options_make_another_network_and_stand_in_its_title() -> None:
    found = only(ask(models=["can"], options=["depth=5", "width=8"]))
    assert found.model == "can depth=5 width=8"
    assert found.title == "can depth=5 width=8 64x48 null fp32 image"
    assert found.spec.options["width"] == 8
    assert len(found.spec.options["dilations"]) == 4


def test_the_defaults_spelt_out_are_the_network_itself() -> None:
    assert only(ask(models=["can"], options=["depth=10"])) == only(ask(models=["can"]))


@pytest.mark.parametrize(
    ("options", "what", "advice"),
    [
        (["dept=5"], "`--option dept=5`: model `can` has no option of this name", "Did you mean depth?"),
        (["depth=99"], "`--option depth=99` of model `can`: not a value of this option", "`bench models --options`"),
        (["depth"], "`--option depth`: not of the form", "`bench models --options` lists them"),
        (["depth=5", "depth=6"], "`--option depth=6`: `depth` is given twice", "Drop one of them"),
    ],
)
def test_a_wrong_option_is_refused(options: list[str], what: str, advice: str) -> None:
    error = refused(lambda: expand(ask(models=["can"], options=options)))
    assert error.what == what
    assert error.todo.startswith(advice)


def test_an_option_must_be_offered_by_every_model_asked_for() -> None:
    error = refused(lambda: expand(ask(models=["can", "can24"], options=["depth=5"])))
    assert error.what == "`--option depth=5`: model `can24` has no option of this name"
    assert error.expected == "none: it has no options"


# A file of the user's own


def give_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Case:
    path = tmp_path / "net.onnx"
    path.write_bytes(b"a graph")
    spec = dataclasses.replace(reference_models.get("can24"), name="net.onnx", onnx=str(path), statistics=())
    monkeypatch.setattr(cases_module, "spec_from_word", lambda word, options: spec)
    return only(ask(models=[str(path)]))


def test_an_onnx_file_holds_its_own_weights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found = give_file(monkeypatch, tmp_path)
    assert (found.weights, found.weights_name) == (str(tmp_path / "net.onnx"), "net.onnx")
    error = refused(lambda: expand(ask(models=["net.onnx"], weights="other.safetensors")))
    assert error.what == "`--weights other.safetensors`: net.onnx is an ONNX file and holds its own"


def test_engines_that_run_modules_leave_an_onnx_file_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    give_file(monkeypatch, tmp_path)
    found, left_out = expand(ask(engines=["torch_eager", "onnxruntime"]))
    assert [case.engine for case in found] == ["onnxruntime"]
    assert [reason for _, reason in left_out] == [
        "engine `torch_eager`: runs PyTorch modules, and `net.onnx` is an ONNX file"
    ]
    assert "torch_eager" not in [case.engine for case in expand(ask(engines=()))[0]]


def test_an_onnx_file_has_no_options(tmp_path: Path) -> None:
    error = refused(lambda: expand(ask(models=[str(tmp_path / "net.ONNX")], options=["depth=5"])))
    assert "an ONNX file has no options" in error.what


def test_untrained_is_said_where_no_weights_are_given_and_none_ship() -> None:
    found = only(ask(models=["can32_bn"]))
    assert (found.weights, found.weights_name) == (None, "untrained")


def test_weights_that_ship_are_those_of_the_bare_command() -> None:
    found = only(ask(models=["espcn_x3"]))
    assert found.weights_name == "bsds"
    assert found.trained
    assert Path(found.weights or "").name == "espcn_x3-bsds.safetensors"
    untrained = only(ask(models=["espcn_x3"], weights="none"))
    assert (untrained.weights, untrained.weights_name, untrained.trained) == (None, "untrained", False)


def test_none_is_untrained_where_none_ship() -> None:
    assert only(ask(models=["can32_bn"], weights="none")).weights_name == "untrained"


@pytest.mark.parametrize(
    ("original", "weights", "found"),
    [
        ("rof", None, "rof"),
        ("ROF", None, "rof"),
        ("tvl1", None, "l0_smoothing"),
        ("rof", "l0_smoothing", "l0_smoothing"),
    ],
)
def test_weights_of_the_originals_name_are_meant_unless_others_are_given(
    original: str, weights: str | None, found: str
) -> None:
    cases, _ = expand(Request(["can32"], ["64x48"], ["onnxruntime"], device="cpu", original=original, weights=weights))
    assert [case.weights_name for case in cases] == [found]


def test_options_that_weights_are_not_for_leave_them_out() -> None:
    assert only(ask(models=["espcn_x3"], options=["activation=relu"])).weights_name == "untrained"


def test_a_case_comes_back_from_json() -> None:
    found = only(ask(engines=["onnxruntime"], settings=["onnxruntime.graph=basic"]))
    again = Case.from_dict(json.loads(json.dumps(found.to_dict())))
    assert again.title == found.title
    assert (again.input_shape, again.output_shape) == (found.input_shape, found.output_shape)
    assert again.to_dict() == found.to_dict()
    assert found.title == "can24 64x48 onnxruntime:graph=basic fp32 image"


def test_words_become_cases_without_a_heavy_library() -> None:
    """`bench run` refuses a wrong word at once; a worker that loaded torch would count it as its own memory."""
    code = (
        "import sys; from bench.case import Request, expand; expand(Request(['can24'], ['64x48'], ['null']));"
        "print([m for m in ('torch', 'onnxruntime', 'onnx', 'openvino', 'scipy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_options_may_follow_a_models_name_and_go_before_those_for_all() -> None:
    words = ["can:depth=7:width=24", "can"]
    cases, _ = expand(Request(words, ["64x48"], ["null"], device="cpu", options=["width=16"]))
    assert [case.model for case in cases] == ["can depth=7 width=24", "can width=16"]
    assert cases[0].spec.options["width"] == 24


def test_all_stands_for_every_network() -> None:
    cases, _ = expand(Request(["all", "can24"], ["64x48"], ["null"], device="cpu"))
    assert [case.spec.name for case in cases] == reference_models.names()


def test_statistics_that_a_network_does_not_offer_are_left_out_with_the_reason() -> None:
    request = Request(["can24", "pixel_dcn"], ["64x48"], ["null"], statistics=["thumbnail"], device="cpu")
    cases, left_out = expand(request)
    assert [case.spec.name for case in cases] == ["can24"]
    assert [(case.spec.name, reason) for case, reason in left_out] == [
        ("pixel_dcn", "model `pixel_dcn`: no thumbnail statistics, only image, frozen")
    ]


def test_two_files_of_one_name_are_refused_and_not_taken_for_each_other(tmp_path: Path) -> None:
    from onnx import TensorProto, helper, save

    files = []
    for folder, kind in (("a", "Relu"), ("b", "Sigmoid")):
        values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["n", 3, "h", "w"]) for n in ("i", "o")]
        graph = helper.make_graph([helper.make_node(kind, ["i"], ["o"])], "net", values[:1], values[1:])
        (tmp_path / folder).mkdir()
        files.append(str(tmp_path / folder / "net.onnx"))
        save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), files[-1])
    with pytest.raises(UserError, match=r"are both called net\.onnx"):
        expand(Request(files, ["64x48"], ["null"], device="cpu"))
    assert len(expand(Request([files[0], files[0]], ["64x48"], ["null"], device="cpu"))[0]) == 1


def test_statistics_asked_of_networks_without_any_are_refused() -> None:
    with pytest.raises(UserError, match="espcn_x2, vdsr has no normalisation statistics"):
        expand(Request(["espcn_x2", "vdsr"], ["64x48"], ["null"], statistics=["frozen"], device="cpu"))
    cases, _ = expand(Request(["can24", "vdsr"], ["64x48"], ["null"], statistics=["frozen"], device="cpu"))
    assert [case.statistics for case in cases] == ["frozen", None]


# Recipes of precisions that stand in the graph


def test_fp32_needs_no_recipe_and_int8_that_of_its_engine() -> None:
    found, _ = expand(ask(engines=["onnxruntime", "openvino"], precisions=["fp32", "int8"]))
    assert [case.recipe for case in found] == [
        None,
        Recipe("int8", placement="integer", shifted=True, weight_bits=exact_weight_bits()),
        None,
        Recipe("int8", placement="inputs", shifted=True, weight_bits=exact_weight_bits()),
    ]


def test_what_was_asked_for_is_in_the_recipe() -> None:
    asked = {"clipping": "entropy", "recovery": "none", "layers": LAST}
    case = only(ask(engines=["onnxruntime"], precisions=["int8"], lowering=asked))
    assert case.recipe == Recipe("int8", "integer", True, "entropy", "none", ("last",), weight_bits=exact_weight_bits())
    assert case.recipe.floor_db is None


def test_a_floor_is_of_the_search_and_layers_are_of_the_others() -> None:
    asked = {"floor_db": 42.0, "layers": LAST}
    found, _ = expand(ask(engines=["onnxruntime"], precisions=["int8", "auto", "fp32"], lowering=asked))
    recipes = [(case.precision, case.recipe and (case.recipe.floor_db, case.recipe.kept)) for case in found]
    assert recipes == [("int8", (None, ("last",))), ("auto", (42.0, ())), ("fp32", None)]


@pytest.mark.parametrize(
    ("precisions", "asked", "what"),
    [
        (["auto"], {}, "which quality"),
        (["int8", "auto"], {"clipping": "mse"}, "which quality"),
        (["int8"], {"floor_db": 42.0}, "`--floor`: only `--precision auto` searches"),
        (["fp32"], {"layers": LAST}, "`--layers` with precision fp32"),
        (["fp16"], {"layers": LAST}, "`--layers` with precision fp16"),
        (["auto"], {"floor_db": 42.0, "layers": LAST}, "`--layers` with precision auto"),
        (["int8"], {"layers": dataclasses.replace(LAST, model="fcn8s")}, "its layers are those of `fcn8s`"),
    ],
)
def test_a_choice_without_the_precision_that_it_is_of_is_refused(
    precisions: list[str], asked: dict[str, Any], what: str
) -> None:
    error = refused(lambda: expand(ask(engines=["onnxruntime"], precisions=precisions, lowering=asked)))
    assert what in error.what
    assert error.todo


def test_thumbnails_cannot_be_quantised_and_say_why() -> None:
    asked = ask(engines=["onnxruntime"], precisions=["fp32", "int8"], statistics=["frozen", "thumbnail"])
    found, left_out = expand(asked)
    assert [(c.statistics, c.precision) for c in found] == [
        ("frozen", "fp32"), ("frozen", "int8"), ("thumbnail", "fp32"),
    ]  # fmt: skip
    ((case, reason),) = left_out
    assert (case.statistics, case.precision) == ("thumbnail", "int8")
    assert "`int8`: with thumbnail statistics new weights are folded for every picture" in reason


def test_a_quantised_precision_that_an_engine_lacks_is_left_out() -> None:
    found, left_out = expand(ask(engines=["onnxruntime", "openvino"], precisions=["int8", "int8+fp16"]))
    assert [(c.engine, c.precision) for c in found] == [("onnxruntime", "int8"), ("openvino", "int8")]
    assert [reason for _, reason in left_out] == [
        "engine `onnxruntime`: no int8+fp16 on cpu, only fp32, int8, auto",
        "engine `openvino`: no int8+fp16 on cpu, only fp32, bf16, int8, auto",
    ]


def test_a_case_with_a_recipe_comes_back_from_json() -> None:
    case = only(ask(engines=["onnxruntime"], precisions=["int8"], lowering={"layers": Layers("", ("a", "b"), None)}))
    again = Case.from_dict(json.loads(json.dumps(case.to_dict())))
    assert (again.recipe, again.title) == (case.recipe, case.title)
    assert again.network_key == case.network_key


def test_graphs_are_shared_where_recipes_are_equal_and_searches_never() -> None:
    def keys(**more: Any) -> list[str]:
        return [case.network_key for case in expand(ask(**more))[0]]

    both = ["onnxruntime", "onnxruntime:spin=off"]
    assert keys(engines=both) == ["image", "image"]
    assert len(set(keys(engines=both, precisions=["fp32", "int8"]))) == 2
    assert len(set(keys(engines=["onnxruntime", "openvino"], precisions=["int8"]))) == 2
    assert len(set(keys(engines=both, precisions=["auto"], lowering={"floor_db": 42.0}))) == 2
    assert len(set(keys(engines=["openvino"], precisions=["int8"], statistics=["image", "frozen"]))) == 2


# Tiles


def test_tiles_make_cases_and_image_statistics_leave_them_out_with_the_way_out() -> None:
    asked = Request(["can24"], ["64x48"], ["onnxruntime"], statistics=["image", "frozen"], tiles=["off", "auto"])
    cases, left_out = expand(dataclasses.replace(asked, memory_mib=512.0))
    assert [(c.statistics, c.tile, c.memory_mib) for c in cases] == [
        ("image", "off", None),
        ("frozen", "off", None),
        ("frozen", "auto", 512.0),
    ]
    (case, reason), *others = left_out
    assert not others
    assert (case.statistics, case.tile) == ("image", "auto")
    assert "`--statistics frozen` or `thumbnail`" in reason
    with pytest.raises(UserError, match=r"nothing to measure.*whole picture"):
        expand(dataclasses.replace(asked, statistics=["image"], tiles=["32"]))


@pytest.mark.parametrize("word", ["on", "0", "12x"])
def test_what_is_no_tile_is_refused(word: str) -> None:
    with pytest.raises(UserError, match="--tile"):
        expand(Request(["can24"], ["64x48"], ["onnxruntime"], statistics=["frozen"], tiles=[word]))
