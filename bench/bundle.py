"""`bench build --bundle DIR`: a folder that runs where only the engine's own library is installed, or under Triton.

The folder appears whole or not at all.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.bundle_texts import RUNTIMES, example, note, triton_config
from bench.exit_codes import COULD_NOT_MEASURE
from engines.sidecar import Deployment, sidecar, sidecar_path
from export.network import Network
from reference_models.errors import UserError
from reference_models.spec import ModelSpec

BACKENDS = {"onnxruntime": "onnxruntime", "openvino": "openvino", "tensorrt": "tensorrt"}
"""Engine → Triton's back end for its plans."""


@dataclass(frozen=True)
class Bundle:
    """What goes into the folder."""

    folder: Path
    network: Network
    deployed: Deployment
    plan: str
    """What an engine with plans of its own built; of no account for ONNX."""


def check_bundle(folder: Path, engine: str, spec: ModelSpec) -> None:
    """
    Raises:
        UserError: no bundle of this network for this engine, or not there.
    """
    if engine not in BACKENDS:
        raise UserError(
            f"`--bundle` with engine `{engine}`: Triton Inference Server has no back end for its plans",
            ", ".join(BACKENDS),
            "Choose one of these, or build with --output",
        )
    if engine in RUNTIMES:
        from export.picture_graph import check_can_take_pictures

        check_can_take_pictures(spec)
    if engine == "openvino" and (spec.pre_upscale > 1 or (spec.output == "luma" and spec.upscale > 1)):
        raise UserError(
            f"`--bundle` with model `{spec.name}` for openvino: its picture is enlarged bicubically in float64, which "
            "OpenVINO's CPU plugin computes in float32",
            "onnxruntime, or a network on RGB",
            "Choose --engine onnxruntime",
        )
    if not folder.parent.is_dir():
        raise UserError(f"`--bundle {folder}`: its folder does not exist", "an existing folder", "Make it first")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"`--bundle {folder}`: is there already", "a new folder, or an empty one", "Choose another")
    from bench.places import check_writable

    check_writable(folder.parent, "--bundle", folder)


def model_name(spec: ModelSpec) -> str:
    """The network's name in Triton's words: letters, digits, `_` and `-`."""
    return re.sub(r"[^A-Za-z0-9_-]+", "_", Path(spec.name).stem if spec.onnx else spec.name).strip("_") or "network"


def write_bundle(bundle: Bundle, run: Callable[[dict[str, Any]], dict[str, Any]]) -> dict[str, Any]:
    """The content of the sidecar, after the folder has been written.

    Args:
        run: runs a worker's job.

    Raises:
        UserError: the folder cannot be written, or the graph on pictures does not give what engines.load gives (exit
            code 5).
    """
    deployed, name = bundle.deployed, model_name(bundle.deployed.spec)
    try:
        with _scratch(bundle.folder) as scratch:
            version = scratch / "model_repository" / name / "1"
            version.mkdir(parents=True)
            if deployed.engine in RUNTIMES:
                told = _picture_model(bundle, version / "model.onnx", run)
            else:
                shutil.copyfile(bundle.plan, version / "model.plan")
                told = sidecar(version / "model.plan", bundle.network, deployed)
            told |= {"name": name, "triton_backend": BACKENDS[deployed.engine]}
            told["triton_kind"] = "KIND_GPU" if deployed.engine == "tensorrt" else "KIND_CPU"
            _write_texts(scratch, version, told)
    except OSError as error:
        raise UserError(
            f"`--bundle {bundle.folder}`: {error.strerror}",
            "a folder that can be written, with room in it",
            "Make room",
        ) from None
    return told


def _picture_model(bundle: Bundle, path: Path, run: Callable[[dict[str, Any]], dict[str, Any]]) -> dict[str, Any]:
    from export.network import PICTURE, RESULT

    deployed = bundle.deployed
    made = run(
        {
            "job": "bundle", "path": str(path), "spec": deployed.spec.to_json(), "network": bundle.network.to_json(),
            "engine": deployed.engine, "precision": deployed.precision, "settings": dict(deployed.settings),
            "threads": 1,
        }
    )  # fmt: skip
    _refuse_differences(made["checked"])
    told = sidecar(path, bundle.network, deployed)
    for key, end, shape in (("inputs", PICTURE, [-1, -1, 3]), ("outputs", RESULT, [-1, -1, 3])):
        told[key] = [{"name": end, "dtype": "uint8", "shape": shape, "layout": "HWC", "colour": "rgb"}]
    return told | {"takes": "pictures", "example": "example.py", "checked": made["checked"], "hint": made["hint"]}


def _refuse_differences(checked: list[Mapping[str, Any]]) -> None:
    for one in checked:
        if one["different"]:
            height, width = one["size"]
            error = UserError(
                f"`--bundle`: the graph on pictures gives {one['different']} of {one['values']} values at "
                f"{width}x{height} other than engines.load does",
                "the same bytes",
                "Build with --output, and run it with engines.load",
            )
            error.exit_code = COULD_NOT_MEASURE  # type: ignore[attr-defined]
            raise error


def _write_texts(scratch: Path, version: Path, told: Mapping[str, Any]) -> None:
    sidecar_path(version / told["plan"]["file"]).write_text(json.dumps(told, indent=2))
    (version.parent / "config.pbtxt").write_text(triton_config(told))
    (scratch / "README.md").write_text(note(told))
    if "example" in told:
        (scratch / told["example"]).write_text(example(told))


@contextlib.contextmanager
def _scratch(folder: Path) -> Iterator[Path]:
    """A folder that takes its place when all is in it."""
    scratch = Path(tempfile.mkdtemp(dir=folder.parent, prefix="."))
    try:
        scratch.chmod(0o755)  # mkdtemp's are private to the user
        yield scratch
        if folder.is_dir():
            folder.rmdir()
        os.rename(scratch, folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def summary(folder: Path, told: Mapping[str, Any]) -> list[str]:
    """What the command prints."""
    model, name = told["model"], told["name"]
    weights = model["weights"] or ("its own" if model["trained"] else "untrained")
    lines = [
        f"{folder}: {model['title']} for {told['engine']['name']} ({told['engine']['version']}), {told['precision']}, "
        f"weights {weights}, statistics {model['statistics'] or 'none'}",
        f"  model_repository/{name}/1/{told['plan']['file']}: {told['plan']['bytes'] / 2**20:.1f} MiB, input "
        f"`{told['inputs'][0]['name']}`, output `{told['outputs'][0]['name']}`; config.pbtxt for Triton",
    ]
    if "checked" in told:
        sizes = ", ".join(f"{one['size'][1]}x{one['size'][0]}" for one in told["checked"])
        lines.append(f"  checked: the bytes that engines.load gives, at {sizes}")
        lines.append(
            f"  try it: python {folder}/example.py IN.npy OUT.npy   (needs {told['engine']['name']} alone; with Pillow "
            "IN.png OUT.png too)"
        )
    return lines
