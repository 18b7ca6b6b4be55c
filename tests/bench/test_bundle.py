"""A bundle runs where only the runtime is, gives the bytes of engines.load, and is a repository that Triton reads."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import engines
import reference_models
from bench.bundle import Bundle, check_bundle, model_name, summary, write_bundle
from bench.bundling import job_bundle
from engines.deployed import DeployedSession
from engines.engine import Options
from engines.sidecar import Deployment
from export.network import Graph, Network, file_sha256
from reference_models.errors import UserError

SPEC = reference_models.get("espcn_x2")


def run(job: dict[str, Any]) -> dict[str, Any]:
    return job_bundle(job, lambda *_, **__: None)


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Bundle]:
    """`parts(folder)`: a network of one convolution and a PixelShuffle on luma, and what is known of it."""
    from onnx import TensorProto, helper, numpy_helper, save

    path = tmp_path_factory.mktemp("network") / "net.onnx"
    weights = np.random.default_rng(0).normal(0.2, 0.2, (4, 1, 3, 3)).astype(np.float32)
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("DepthToSpace", ["c"], ["y"], blocksize=2, mode="CRD"),
    ]
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 1, f"{n}h", f"{n}w"]) for n in ("x", "y")]
    graph = helper.make_graph(nodes, "net", ends[:1], ends[1:], [numpy_helper.from_array(weights, "w")])
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    graphs = Graph(str(path), file_sha256(path), "", "", {}, "published", 1, 1, 2)
    network = Network("espcn_x2", None, graphs, None, (), 20)

    def make(folder: Path, engine: str = "onnxruntime", facts: Any = None) -> Bundle:
        found = engines.get(engine)
        settings = found.complete_settings({})
        deployed = Deployment(SPEC, None, engine, "1.0", "fp32", settings, (), {}, facts or {})
        return Bundle(folder, network, deployed, str(path))

    return make


@pytest.fixture(scope="module")
def bundle(parts: Callable[..., Bundle], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("place") / "espcn"
    write_bundle(parts(folder), run)
    return folder


def test_the_folder_holds_a_model_its_sidecar_an_example_and_triton_s_files(bundle: Path) -> None:
    files = sorted(str(path.relative_to(bundle)) for path in bundle.rglob("*") if path.is_file())
    repository = "model_repository/espcn_x2"
    assert files == [
        "README.md", "example.py", f"{repository}/1/model.onnx", f"{repository}/1/model.onnx.json",
        f"{repository}/config.pbtxt",
    ]  # fmt: skip
    told = json.loads((bundle / repository / "1/model.onnx.json").read_text())
    assert told["plan"]["sha256"] == file_sha256(bundle / repository / "1/model.onnx")
    assert told["inputs"] == [
        {"name": "picture", "dtype": "uint8", "shape": [-1, -1, 3], "layout": "HWC", "colour": "rgb"}
    ]
    assert [one["different"] for one in told["checked"]] == [0, 0, 0]
    assert oct(bundle.stat().st_mode)[-3:] == "755"


ALONE = """
import sys
allowed = {"numpy", "onnxruntime", "google", "flatbuffers", "packaging", "coloredlogs", "sympy", "humanfriendly"}

class Blocker:
    def find_spec(self, name, path=None, target=None):
        first = name.partition(".")[0]
        if first not in allowed and first not in sys.stdlib_module_names:
            raise ModuleNotFoundError(f"{name} is blocked", name=name)

sys.meta_path.insert(0, Blocker())
sys.argv = sys.argv[1:]
import runpy
runpy.run_path(sys.argv[0], run_name="__main__")
assert "torch" not in sys.modules
print("done")
"""


def test_the_example_runs_with_the_runtime_alone_and_gives_the_bytes_of_engines_load(
    bundle: Path, parts: Callable[..., Bundle], tmp_path: Path
) -> None:
    picture = np.random.default_rng(1).integers(0, 256, (45, 62, 3), np.uint8)
    np.save(tmp_path / "in.npy", picture)
    words = [sys.executable, "-c", ALONE, bundle / "example.py", tmp_path / "in.npy", tmp_path / "out.npy"]
    done = subprocess.run(words, check=False, capture_output=True, text=True, cwd=tmp_path)
    assert done.stdout == "done\n", done.stderr
    made, given = np.load(tmp_path / "out.npy"), parts(tmp_path)
    session = engines.get("onnxruntime").load(given.network.main, Options())
    with DeployedSession(session, {"model": {"spec": json.loads(SPEC.to_json())}, "sizes": []}) as deployed:
        np.testing.assert_array_equal(made, deployed(picture))
    assert made.shape == (90, 124, 3)


@pytest.mark.slow
def test_the_example_runs_in_a_fresh_environment_that_has_onnxruntime_alone(bundle: Path, tmp_path: Path) -> None:
    """Needs a package index."""
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "-q", "onnxruntime"], check=True)
    np.save(tmp_path / "in.npy", np.full((9, 11, 3), 99, np.uint8))
    words = ["-X", "importtime", bundle / "example.py", tmp_path / "in.npy", tmp_path / "out.npy"]
    done = subprocess.run([python, *words], check=True, capture_output=True, text=True, cwd=tmp_path, env={})
    assert np.load(tmp_path / "out.npy").shape == (18, 22, 3)
    assert "onnxruntime" in done.stderr
    assert "torch" not in done.stderr
    assert subprocess.run([python, "-c", "import torch"], check=False, capture_output=True).returncode == 1


def test_triton_s_own_definition_reads_the_configuration(bundle: Path) -> None:
    model_config = pytest.importorskip("tritonclient.grpc.model_config_pb2", reason="no tritonclient[grpc] here")
    from google.protobuf import text_format

    text = (bundle / "model_repository/espcn_x2/config.pbtxt").read_text()
    config = text_format.Parse(text, model_config.ModelConfig())
    assert (config.name, config.backend, config.max_batch_size) == ("espcn_x2", "onnxruntime", 0)
    assert not config.HasField("dynamic_batching")
    assert config.default_model_filename == "model.onnx"
    ends = [
        (end.name, list(end.dims), model_config.DataType.Name(end.data_type)) for end in (*config.input, *config.output)
    ]
    assert ends == [("picture", [-1, -1, 3], "TYPE_UINT8"), ("result", [-1, -1, 3], "TYPE_UINT8")]
    with pytest.raises(text_format.ParseError):
        text_format.Parse(text.replace("backend:", "back_end:"), model_config.ModelConfig())


def test_a_tensorrt_plan_is_put_there_as_it_is_with_its_tensors(parts: Callable[..., Bundle], tmp_path: Path) -> None:
    ends = {
        "inputs": [{"name": "x", "dtype": "float32", "shape": [1, 1, 360, 640]}],
        "outputs": [{"name": "y", "dtype": "float16", "shape": [1, 1, 720, 1280]}],
    }
    given = parts(tmp_path / "b", "tensorrt", ends)
    told = write_bundle(given, run)
    version = tmp_path / "b/model_repository/espcn_x2/1"
    assert (version / "model.plan").read_bytes() == Path(given.plan).read_bytes()
    text = (version.parent / "config.pbtxt").read_text()
    for line in ('backend: "tensorrt"', "dims: [ 1, 1, 360, 640 ]", "data_type: TYPE_FP16", "kind: KIND_GPU"):
        assert line in text
    assert not (tmp_path / "b/example.py").exists()
    assert "checked" not in "\n".join(summary(tmp_path / "b", told))


def test_a_graph_that_gives_other_bytes_is_never_shipped(parts: Callable[..., Bundle], tmp_path: Path) -> None:
    def differing(job: dict[str, Any]) -> dict[str, Any]:
        made = run(job)
        made["checked"][1]["different"] = 3
        return made

    with pytest.raises(UserError, match="gives 3 of") as error:
        write_bundle(parts(tmp_path / "b"), differing)
    assert error.value.exit_code == 5  # type: ignore[attr-defined]
    assert list(tmp_path.iterdir()) == []


REFUSED: list[tuple[str, str, str]] = [
    ("tensorrt_rtx", "espcn_x2", "no back end"),
    ("torch_eager", "espcn_x2", "no back end"),
    ("onnxruntime", "colorization", "no two runtimes"),
    ("onnxruntime", "pixel_vae", "only the size"),
    ("openvino", "espcn_x2", "float64"),
]


@pytest.mark.parametrize(("engine", "model", "words"), REFUSED)
def test_what_cannot_be_bundled_is_refused(engine: str, model: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=words):
        check_bundle(tmp_path / "b", engine, reference_models.get(model))


def test_a_place_that_is_taken_is_refused(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    for place, words in (("full", "is there already"), ("absent/b", "does not exist")):
        with pytest.raises(UserError, match=words):
            check_bundle(tmp_path / place, "onnxruntime", SPEC)
    check_bundle(tmp_path / "new", "onnxruntime", SPEC)


def test_names_become_what_triton_takes() -> None:
    assert model_name(SPEC) == "espcn_x2"
    assert model_name(replace(SPEC, name="my.module:Net")) == "my_module_Net"
    assert model_name(replace(SPEC, name="nets/a b.onnx", onnx="nets/a b.onnx")) == "a_b"
