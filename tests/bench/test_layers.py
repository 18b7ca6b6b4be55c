"""The file of layers: written by the search, edited by people, read back; and every file that is none is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bench.layers import FORMAT, layers_file, read_layers, write_found_layers, write_layers, write_layers_file
from export.network import Graph, Network
from reference_models.errors import UserError

LAYERS = {"convs.0": "fp32", "convs.1": "int8", "last": "fp16"}


def found(floor_db: float = 42.0, **layers: str) -> dict[str, Any]:
    search = {"floor_db": floor_db, "curve": [{"kept": ["convs.0"], "psnr_db": 43.0}]}
    return {"layers": layers or LAYERS, "search": search}


def run(model: str = "can", **more: Any) -> dict[str, Any]:
    case = {"model": model, "options": {"depth": 3}, "variant": "onnxruntime:graph=all", "statistics": "frozen"}
    return {"case": case, "lowering": found(), **more}


def write(path: Path, content: Any) -> str:
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return str(path)


def test_what_is_written_is_read_back_as_the_layers_that_stay_in_float(tmp_path: Path) -> None:
    write_layers_file(tmp_path / "a.json", layers_file("can24", found()))
    assert read_layers(str(tmp_path / "a.json")).kept == ("convs.0", "last")
    assert json.loads((tmp_path / "a.json").read_text())["model"] == "can24"


def test_a_file_may_keep_nothing_in_float_and_have_more_than_it_needs(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", {"format": FORMAT, "layers": {"a": "int8", "b": "fp8"}, "note": "by hand"})
    assert read_layers(path).kept == ()


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (None, "No such file"),
        ("not json", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        ([], "does not say layers"),
        ({"format": "fullres layers 9", "layers": LAYERS}, "does not say layers"),
        ({"layers": LAYERS}, "does not say layers"),
        ({"format": FORMAT}, "does not say layers"),
        ({"format": FORMAT, "layers": {}}, "does not say layers"),
        ({"format": FORMAT, "layers": ["convs.0"]}, "does not say layers"),
        ({"format": FORMAT, "layers": {"convs.0": "int4"}}, "layer `convs.0` is `int4`"),
        ({"format": FORMAT, "layers": {"convs.0": ["int8"]}}, "layer `convs.0` is"),
        ({"format": FORMAT, "layers": LAYERS, "model": 3}, "its model is `3`"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_file_that_does_not_say_layers_is_refused(content: Any, named: str, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        write(path, content)
    with pytest.raises(UserError) as caught:
        read_layers(str(path))
    assert named in caught.value.what
    assert f"--layers {path}" in caught.value.what


def test_layers_of_another_model_are_refused_and_those_of_none_fit_all(tmp_path: Path) -> None:
    write_layers_file(tmp_path / "a.json", layers_file("can depth=3", found()))
    layers = read_layers(str(tmp_path / "a.json"))
    layers.check_model("can depth=3")
    with pytest.raises(UserError, match=r"its layers are those of `can depth=3`.*Expected a file for `can24`"):
        layers.check_model("can24")
    read_layers(write(tmp_path / "b.json", {"format": FORMAT, "layers": LAYERS})).check_model("can24")


def test_rows_of_one_plan_share_a_file_and_others_have_their_own(tmp_path: Path) -> None:
    other = run("can", lowering=found(45.5))
    plain = run("vdsr", lowering={"layers": LAYERS})
    paths = write_layers([run(), run(), other, plain, run(lowering=None), {"case": {}}], tmp_path)
    assert [path.name for path in paths] == [
        "layers-can-depth=3-onnxruntime-graph=all-frozen-42dB.json",
        "layers-can-depth=3-onnxruntime-graph=all-frozen-45.5dB.json",
    ]
    assert sorted(tmp_path.iterdir()) == sorted(paths)
    assert json.loads(paths[0].read_text()) == {
        "format": FORMAT, "model": "can depth=3", "layers": LAYERS, "search": found()["search"],
    }  # fmt: skip


def test_plans_of_7_bits_have_a_file_of_their_own(tmp_path: Path) -> None:
    paths = write_layers([run(), run(lowering={**found(), "recipe": {"weight_bits": 7}})], tmp_path)
    assert [path.name.removeprefix("layers-can-depth=3-onnxruntime-graph=all-frozen-") for path in paths] == [
        "42dB.json",
        "42dB-7bit.json",
    ]


def test_names_begin_with_the_stem(tmp_path: Path) -> None:
    run_of_own = run("my/net:Own")
    run_of_own["case"] |= {"statistics": None, "options": {}}
    (path,) = write_layers([run_of_own], tmp_path, "20260301-1-")
    assert path.name == "20260301-1-layers-my-net-Own-onnxruntime-graph=all-42dB.json"


def test_an_edited_file_of_the_same_search_stays_and_that_of_another_is_replaced(tmp_path: Path) -> None:
    (path,) = write_layers([run()], tmp_path)
    edited = json.loads(path.read_text())
    edited["layers"]["last"] = "int8"
    write(path, edited)
    assert write_layers([run()], tmp_path) == [path]
    assert read_layers(str(path)).kept == ("convs.0",)
    again = found()
    again["search"]["curve"] = []
    write_layers([run(lowering=again)], tmp_path)
    assert read_layers(str(path)).kept == ("convs.0", "last")
    write(path, "damaged")
    write_layers([run()], tmp_path)
    assert read_layers(str(path)).kept == ("convs.0", "last")


def test_a_file_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.json").mkdir()
    with pytest.raises(OSError, match="directory"):
        write_layers_file(tmp_path / "a.json", layers_file("can24", found()))
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def network(lowering: Any) -> Network:
    return Network(
        "can24", "image", Graph("", "", "", "", {}, "onnx"), None, (), 20, precision="auto", lowering=lowering
    )


def test_beside_an_output_only_what_was_searched_for_is_written(tmp_path: Path) -> None:
    target = tmp_path / "net.onnx"
    assert write_found_layers(target, network(None)) is None
    assert write_found_layers(target, network({"layers": LAYERS})) is None
    assert not list(tmp_path.iterdir())
    path = write_found_layers(target, network(found()))
    assert path == tmp_path / "net.onnx.layers.json"
    assert read_layers(str(path)).kept == ("convs.0", "last")
    path.unlink()
    path.mkdir()
    with pytest.raises(UserError, match=r"net\.onnx\.layers\.json"):
        write_found_layers(target, network(found()))
