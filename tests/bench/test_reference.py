"""References equal what torch computes, are made once per content, and the oldest are forgotten first."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench import reference
from bench.reference import prepare
from export.network import Network
from export.processor import exact_weight_bits
from export.recipe import Recipe
from reference_models import get
from reference_models.pictures import write_picture
from reference_models.spec import ModelSpec

Prepare = Callable[..., tuple[dict[str, Any], list[str]]]


@pytest.fixture
def ask(cache: Path) -> Prepare:
    """`ask(inputs, …)` prepares can24; gives the result and the references that had to be computed."""

    def call(inputs: dict[str, str], **more: Any) -> tuple[dict[str, Any], list[str]]:
        job = {
            "spec": get("can24").to_json(), "weights": None, "statistics": ["image"], "calibration": None, "threads": 1,
            "inputs": inputs, **more,
        }  # fmt: skip
        phases: list[str] = []
        found = prepare(job, lambda event, name, **_: phases.append(name))
        return found, [phase for phase in phases if phase.startswith("reference")]

    return call


@pytest.fixture
def picture(tmp_path: Path) -> Callable[[int], str]:
    """`picture(seed)` → .npy file of random pixels that no other test has."""

    def write(seed: int, size: tuple[int, int] = (24, 32)) -> str:
        path = tmp_path / f"{seed}-{len(list(tmp_path.iterdir()))}.npy"
        np.save(path, np.random.default_rng([seed, 77]).random((1, 3, *size), dtype=np.float32))
        return str(path)

    return write


def test_reference_is_what_torch_computes(ask: Prepare, picture: Callable[..., str]) -> None:
    import torch

    from reference_models import create_model

    path = picture(1)
    found, _ = ask({"a": path})
    with torch.inference_mode():
        expected = create_model("can24")(torch.from_numpy(np.load(path))).numpy()
    got = np.load(found["references"]["image"]["a"])
    assert got.dtype == np.float32
    assert got.shape == (1, 3, 24, 32)
    np.testing.assert_allclose(got, expected, atol=1e-5)


class Device:
    """torch_eager with a device beside the CPU: the same module, and `spoil` for what that device makes of it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, spoil: Callable[[np.ndarray], np.ndarray]) -> None:
        self.opened: list[str] = []
        real = reference.load_network

        def load_network(engine: Any, network: Network, options: Any) -> Any:
            self.opened.append(options.device)
            session = real(engine, network, replace(options, device="cpu"))
            if options.device != "cpu":
                read = session.read
                session.read = lambda: spoil(read())  # type: ignore[method-assign]
            return session

        monkeypatch.setattr(reference, "load_network", load_network)
        monkeypatch.setattr(type(reference.engines.get("torch_eager")), "device_missing", lambda *_: None)
        monkeypatch.setattr("torch.cuda.get_device_name", lambda device: "Fake GPU")


def test_where_the_cases_run_on_a_gpu_it_computes_the_references_too(
    ask: Prepare, picture: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, device = picture(41, (128, 160)), Device(monkeypatch, lambda y: y * np.float32(1 + 1e-6))
    (on_cpu, _), (on_gpu, phases) = ask({"a": path}), ask({"a": path}, device="cuda:0")
    paths = [found["references"]["image"]["a"] for found in (on_cpu, on_gpu)]
    assert [reference.made_on([p]) for p in paths] == ["cpu", "cuda:0"]
    assert reference.made_on([paths[1], *paths]) == "cuda:0, cpu"
    assert device.opened == ["cpu", "cpu", "cuda:0", "cuda:0"]  # alone; both of the proof, then what it allows
    assert phases == ["reference can24: is cuda:0 exact?", "reference can24 image 160x128"]
    np.testing.assert_allclose(np.load(paths[1]), np.load(paths[0]), atol=1e-4)


def test_a_device_that_computes_something_else_is_no_reference(
    ask: Prepare, picture: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, device = picture(42), Device(monkeypatch, lambda y: y + np.float32(1e-3))  # as TF32 would
    found, _ = ask({"a": path}, device="cuda:0")
    assert reference.made_on([found["references"]["image"]["a"]]) == "cpu"
    assert device.opened == ["cpu", "cuda:0", "cpu"]


@pytest.mark.parametrize(("statistics", "side"), [("image", 104), ("frozen", 96)])
def test_sums_over_a_picture_are_proved_on_more_of_it(
    ask: Prepare, picture: Callable[..., str], monkeypatch: pytest.MonkeyPatch, statistics: str, side: int
) -> None:
    """A device whose sums lose digits on large pictures alone."""
    seen: list[int] = []
    Device(monkeypatch, lambda y: (seen.append(y.shape[2]), y)[1])
    monkeypatch.setattr(reference, "WHOLE_SIDE", 104)
    spec = get("can24")
    job = {"spec": spec.to_json(), "inputs": {"a": picture(45, (128, 160))}, "threads": 1, "device": "cuda:0"}
    found, _ = ask({}, statistics=[statistics])
    network = Network.from_json(found["networks"][statistics])
    engine = reference.engines.get("torch_eager")
    assert reference.reference_device(engine, network, job, lambda *_, **__: None) == "cuda:0"
    assert seen == [side]


def test_what_does_not_fit_onto_the_device_is_computed_by_the_cpu(
    ask: Prepare, picture: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(y: np.ndarray) -> np.ndarray:
        if y.shape[2] > 100:
            raise RuntimeError("CUDA out of memory")
        return y

    Device(monkeypatch, full)
    found, _ = ask({"small": picture(43), "large": picture(44, (104, 112))}, device="cuda:0")
    made = {key: reference.made_on([path]) for key, path in found["references"]["image"].items()}
    assert made == {"small": "cuda:0", "large": "cpu"}


def test_networks_come_with_their_files(ask: Prepare, picture: Callable[..., str]) -> None:
    found, _ = ask({"a": picture(2)})
    network = Network.from_json(found["networks"]["image"])
    assert (network.model, network.statistics) == ("can24", "image")
    assert Path(network.main.onnx_path).is_file()
    assert Path(network.main.state_path).is_file()


def test_the_same_picture_and_weights_are_computed_once(ask: Prepare, picture: Callable[..., str]) -> None:
    first, computed = ask({"a": picture(3)})
    assert computed == ["reference can24 image 32x24"]
    again, computed = ask({"b": picture(3)})  # another file and key with the same content
    assert computed == []
    assert again["references"]["image"]["b"] == first["references"]["image"]["a"]


def test_a_hit_is_used_again_and_so_stays_longest(ask: Prepare, picture: Callable[..., str]) -> None:
    found, _ = ask({"a": picture(4)})
    path = Path(found["references"]["image"]["a"])
    os.utime(path, (1, 1))
    ask({"a": picture(4)})
    assert time.time() - path.stat().st_mtime < 60


def test_another_picture_is_another_reference(ask: Prepare, picture: Callable[..., str]) -> None:
    found, computed = ask({"a": picture(5), "b": picture(6)})
    assert len(computed) == 2
    a, b = (np.load(found["references"]["image"][key]) for key in "ab")
    assert not np.array_equal(a, b)


def test_a_reference_does_not_depend_on_its_neighbours(ask: Prepare, picture: Callable[..., str]) -> None:
    both, _ = ask({"a": picture(8), "b": picture(9)})
    alone, computed = ask({"b": picture(9)})
    assert computed == []
    assert alone["references"]["image"]["b"] == both["references"]["image"]["b"]


def test_equal_bytes_of_another_shape_are_another_reference(
    ask: Prepare, tmp_path: Path, picture: Callable[..., str]
) -> None:
    turned = tmp_path / "turned.npy"
    np.save(turned, np.load(picture(7)).reshape(1, 3, 32, 24))
    found, computed = ask({"a": picture(7), "b": str(turned)})
    assert len(computed) == 2
    assert np.load(found["references"]["image"]["b"]).shape == (1, 3, 32, 24)


def test_other_weights_are_another_reference(ask: Prepare, picture: Callable[..., str], can24_weights: Path) -> None:
    untrained, _ = ask({"a": picture(8)})
    trained, computed = ask({"a": picture(8)}, weights=str(can24_weights))
    assert len(computed) == 1
    a, b = (np.load(found["references"]["image"]["a"]) for found in (untrained, trained))
    assert not np.array_equal(a, b)


def test_published_statistics_are_computed_beside_those_asked_for(ask: Prepare, picture: Callable[..., str]) -> None:
    """`vs_reference` compares with the network as published, whatever the case's own statistics."""
    found, _ = ask({"a": picture(9)}, statistics=["frozen"])
    assert list(found["networks"]) == list(found["references"]) == ["image", "frozen"]
    assert found["references"]["image"]["a"] != found["references"]["frozen"]["a"]


def test_a_style_is_another_network_and_another_reference(
    ask: Prepare, picture: Callable[..., str], own_network: ModelSpec, tmp_path: Path
) -> None:
    """The double computes 3 x + mean of the style, or of x where there is no style."""
    path, style = picture(10), tmp_path / "style.png"
    write_picture(style, np.full((6, 5, 3), 51, np.uint8))
    asked = {"spec": own_network.to_json(), "statistics": [None]}
    plain, _ = ask({"a": path}, **asked)
    styled, computed = ask({"a": path}, **asked, style=str(style))
    assert [line.split() for line in computed] == [["reference", "own", "gain=3.0", "32x24"]]
    x = np.load(path).astype(np.float64)
    a, b = (np.load(found["references"]["None"]["a"]) for found in (plain, styled))
    np.testing.assert_allclose(a, 3 * x + x.mean((2, 3), keepdims=True), atol=1e-5)
    np.testing.assert_allclose(b, 3 * x + 0.2, atol=1e-5)


def test_what_was_chosen_of_a_network_is_another_reference(
    ask: Prepare, picture: Callable[..., str], own_network: ModelSpec
) -> None:
    asked = {"statistics": [None]}
    spec = own_network.to_json()
    three, _ = ask({"a": picture(11)}, spec=spec, **asked)
    four, computed = ask({"a": picture(11)}, spec=spec.replace('{"gain": 3.0}', '{"gain": 4.0}'), **asked)
    assert len(computed) == 1
    a, b = (np.load(found["references"]["None"]["a"]) for found in (three, four))
    np.testing.assert_allclose(b - a, np.load(picture(11)), atol=1e-5)


def test_without_pictures_only_the_networks_asked_for_are_made(ask: Prepare) -> None:
    found, computed = ask({}, statistics=["frozen"])
    assert list(found["networks"]) == ["frozen"]
    assert found["references"] == {"frozen": {}}
    assert computed == []


def test_no_half_written_reference_is_left(ask: Prepare, picture: Callable[..., str], cache: Path) -> None:
    def fail(file: Any, y: np.ndarray) -> None:
        file.write(b"half")
        raise OSError(28, "No space left on device")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(np, "save", fail)
        target = cache / "references" / "whole.npy"
        with pytest.raises(OSError, match="No space"):
            reference._save(target, np.zeros(3))
    assert not target.exists()
    assert not list((cache / "references").glob(".*"))


# Forgetting


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, float]], set[str]]:
    """`shelf({name: hours since use})`: files of 1 MiB, a limit of 3 MiB; what _forget_oldest leaves of them."""
    monkeypatch.setattr(reference, "CACHE_LIMIT_MIB", 3)
    folder = tmp_path / "references"
    folder.mkdir()

    def fill(ages_h: dict[str, float]) -> set[str]:
        for name, age_h in ages_h.items():
            (folder / f"{name}.npy").write_bytes(bytes(1 << 20))
            os.utime(folder / f"{name}.npy", (time.time() - age_h * 3600,) * 2)
        reference._forget_oldest(folder)
        return {path.stem for path in folder.glob("*.npy")}

    return fill


def test_the_oldest_go_first(shelf: Callable[[dict[str, float]], set[str]]) -> None:
    assert shelf({"e": 50, "a": 10, "c": 30, "b": 20, "d": 40}) == {"a", "b", "c"}


def test_below_the_limit_nothing_goes_however_old(shelf: Callable[[dict[str, float]], set[str]]) -> None:
    assert shelf({"a": 1e4, "b": 2e4, "c": 3e4}) == {"a", "b", "c"}


def test_what_was_used_within_the_hour_stays_whatever_its_size(shelf: Callable[[dict[str, float]], set[str]]) -> None:
    """The run that asked for it, or another one, is about to read it."""
    assert shelf({"a": 0, "b": 0, "c": 0.5, "d": 0.9, "e": 1.1, "f": 2}) == {"a", "b", "c", "d"}


def test_old_files_go_although_nothing_was_added_for_days(
    shelf: Callable[[dict[str, float]], set[str]], tmp_path: Path
) -> None:
    """The folder's own time says when a file was last added, not what is old now."""
    ages = {"a": 100.0, "b": 100.1, "c": 100.2, "d": 100.3, "e": 100.4}
    for name in ages:
        (tmp_path / "references" / f"{name}.npy").write_bytes(b"")
    os.utime(tmp_path / "references", (time.time() - 360_000,) * 2)
    assert shelf(ages) == {"a", "b", "c"}


def test_a_file_that_another_process_forgot_first_is_no_error(
    shelf: Callable[[dict[str, float]], set[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "references" / "dangling.npy").symlink_to(tmp_path / "gone")  # listed, and without a status
    assert shelf({"a": 1}) >= {"a"}


def test_an_empty_cache_is_no_error(tmp_path: Path) -> None:
    reference._forget_oldest(tmp_path / "never made")


# Graphs of other precisions


def lowering(key: str, precision: str = "int8", statistics: str = "image", **more: Any) -> dict[str, Any]:
    recipe = Recipe(precision, "integer", True, "minmax", "none", weight_bits=exact_weight_bits(), **more)
    options = {"device": "cpu", "precision": precision, "threads": 1, "settings": {}}
    return {
        "key": key,
        "statistics": statistics,
        "recipe": recipe.to_dict(),
        "engine": "onnxruntime",
        "options": options,
    }


def test_graphs_of_other_precisions_stand_under_their_keys(ask: Prepare, tmp_path: Path) -> None:
    write_picture(tmp_path / "a.png", np.random.default_rng(0).integers(0, 256, (40, 32, 3), np.uint8))
    wanted = [
        lowering("a"), lowering("b", kept=("nowhere",)), lowering("c", kept=("last",)), lowering("d", "fp16"),
    ]  # fmt: skip
    found, _ = ask({}, lowerings=wanted, calibration=str(tmp_path))
    networks = {key: Network.from_json(text) for key, text in found["networks"].items()}
    assert set(networks) == {"image", "a", "c", "d"}
    assert [networks[key].precision for key in ("image", "a", "d")] == ["fp32", "int8", "fp16"]
    told = networks["c"].lowering
    assert told is not None
    assert told["layers"]["last"] == "fp32"
    assert told["calibration"]["pictures"] == 1
    # One that does not fit does not end the others.
    assert found["refused"].keys() == {"b"}
    assert "no layer `nowhere`" in found["refused"]["b"]["parts"][0]
    assert found["refused"]["b"]["reason"].startswith(found["refused"]["b"]["parts"][0])


def test_what_a_library_raises_over_one_precision_does_not_end_the_others(
    ask: Prepare, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> Any:
        raise RuntimeError("no such shape")

    monkeypatch.setattr(reference, "lowered_network", fail)
    found, _ = ask({}, lowerings=[lowering("a")])
    assert set(found["networks"]) == {"image"}
    assert found["refused"] == {"a": {"reason": "RuntimeError: no such shape", "parts": None}}


def test_a_search_is_asked_for_with_its_engine(ask: Prepare, monkeypatch: pytest.MonkeyPatch) -> None:
    import bench.search

    seen: list[Any] = []

    def search(request: Any, engine: str, options: Any, report: Any) -> Any:
        seen.append((request.recipe.floor_db, engine, options.threads, len(request.pictures)))
        return request.network

    monkeypatch.setattr(bench.search, "searched_network", search)
    found, _ = ask({}, lowerings=[lowering("a", "auto", floor_db=42.0)])
    assert seen == [(42.0, "onnxruntime", 1, 3)]
    assert found["networks"]["a"] == found["networks"]["image"]
