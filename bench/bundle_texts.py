"""The texts of a bundle: the example, Triton's configuration and a note on both. Plain templates, filled in by name."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

EXAMPLE = '''\
"""{title} on one picture: python example.py IN OUT

Needs {package} alone, which brings NumPy; Pillow too, unless IN and OUT end in .npy.
From your own code: session = load(); result = apply(session, picture), both uint8 (H, W, 3) RGB of any size.
"""

import sys
from pathlib import Path

import numpy as np
{import_line}

MODEL = Path(__file__).resolve().parent / "model_repository" / "{name}" / "1" / "model.onnx"


def load(threads=0):
{load}

def apply(session, picture):
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
        raise ValueError(f"uint8 RGB of (height, width, 3) is needed, not {{picture.dtype}} {{picture.shape}}")
{apply}

if __name__ == "__main__":
    usage = "usage: example.py IN.npy OUT.npy, or IN.png OUT.png with Pillow"
    source, target = sys.argv[1:] if len(sys.argv) == 3 else sys.exit(usage)
    if source.endswith(".npy"):
        np.save(target, apply(load(), np.load(source)))
    else:
        from PIL import Image

        Image.fromarray(apply(load(), np.array(Image.open(source).convert("RGB")))).save(target)
'''

RUNTIMES = {
    "onnxruntime": {
        "import_line": "import onnxruntime",
        "load": """\
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads  # 0: all cores
    options.add_session_config_entry("session.set_denormal_as_zero", "1")
    return onnxruntime.InferenceSession(str(MODEL), options, providers=["CPUExecutionProvider"])
""",
        "apply": """\
    return session.run(["result"], {"picture": np.ascontiguousarray(picture)})[0]
""",
    },
    "openvino": {
        "import_line": "import openvino",
        "load": """\
    options = {"INFERENCE_PRECISION_HINT": "HINT", "INFERENCE_NUM_THREADS": threads}  # 0: all cores
    return openvino.Core().compile_model(str(MODEL), "CPU", options)
""",
        "apply": """\
    return session({"picture": np.ascontiguousarray(picture)})["result"]
""",
    },
}
"""Engine → its lines in the example."""


def example(told: Mapping[str, Any]) -> str:
    """The Python file that runs a bundle's model."""
    engine, model = told["engine"]["name"], told["model"]
    lines = {key: text.replace("HINT", told["hint"] or "f32") for key, text in RUNTIMES[engine].items()}
    return EXAMPLE.format(title=model["title"], package=engine, name=told["name"], **lines)


def triton_config(told: Mapping[str, Any]) -> str:
    """config.pbtxt of Triton Inference Server."""
    ends = []
    for kind in ("inputs", "outputs"):
        end = told[kind][0]
        dims = ", ".join(map(str, end["shape"]))
        ends.append(
            f"{kind[:-1]} [\n  {{\n    name: {json.dumps(end['name'])}\n    data_type: TYPE_{_type(end['dtype'])}\n"
            f"    dims: [ {dims} ]\n  }}\n]"
        )
    return (
        f"name: {json.dumps(told['name'])}\n"
        f"backend: {json.dumps(told['triton_backend'])}\n"
        f"default_model_filename: {json.dumps(told['plan']['file'])}\n"
        "# Pictures differ in size: one at a time, and so no dynamic batching.\n"
        "max_batch_size: 0\n" + "\n".join(ends) + "\n"
        f"instance_group [\n  {{\n    count: 1\n    kind: {told['triton_kind']}\n  }}\n]\n"
    )


def _type(dtype: str) -> str:
    return {"uint8": "UINT8", "float32": "FP32", "float16": "FP16"}[dtype]


def note(told: Mapping[str, Any]) -> str:
    """README.md of a bundle."""
    model, engine, end = told["model"], told["engine"]["name"], told["inputs"][0]
    weights = model["weights"] or (
        "its own" if model["trained"] else "none: it is untrained, its pictures mean nothing"
    )
    run = (
        f"With `pip install {engine}` alone:\n\n```sh\npython example.py photo.png result.png   # .png needs Pillow, "
        ".npy does not\n```\n\n"
        if "example" in told
        else ""
    )
    lowering = told.get("lowering") or {"layers": {}}
    if engine in RUNTIMES and "int8" in lowering["layers"].values():
        seven = lowering["recipe"].get("weight_bits") == 7
        words = (
            "Its int8 weights have 7 bits: their sums fit on every processor."
            if seven
            else "Its int8 weights have 8 bits: on x86 processors without VNNI sums of their products overflow, and "
            "pictures may be far off. Build it with `--weight-bits 7` for those."
        )
        run = f"{words}\n\n{run}"
    return (
        f"# {model['title']}\n\nweights: {weights}; precision: {told['precision']}; statistics: "
        f"{model['statistics'] or 'none'}; engine: {told['engine']['version']}; licence: {model['licence']}\n\n{run}"
        f"Triton Inference Server, with its {told['triton_backend']} backend:\n\n```sh\n"
        "tritonserver --model-repository=model_repository\n```\n\n"
        f"Input `{end['name']}`, {end['dtype']} {end['shape']}; output `{told['outputs'][0]['name']}`. "
        f"`model_repository/{told['name']}/1/{told['plan']['file']}.json` says all else.\n"
    )
