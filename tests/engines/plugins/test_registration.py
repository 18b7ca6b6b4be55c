"""Plugins in TensorRT's own Python layer: registered, described and implemented as a builder would ask for it.

The Python layer is the real one of the 11.4 bindings; the registry is that of the lean runtime, which comes from PyPI
(about 40 MiB) and loads without a driver; integers stand in for the library's symbolic expressions.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from engines.plugins import registration
from engines.plugins.ptx import entry_parameters, triton_missing

ROOT = Path(__file__).resolve().parents[3]
WHEELS = ("tensorrt-cu13-bindings==11.4.0.106", "tensorrt-lean-cu13-libs==11.4.0.106")
STUB = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stddef.h>
#include <stdlib.h>
#define NONE(name) void *name(void) { return NULL; }
NONE(createInferBuilder_INTERNAL) NONE(createInferRuntime_INTERNAL) NONE(createInferRefitter_INTERNAL)
NONE(createNvOnnxParser_INTERNAL) NONE(createNvOnnxParserRefitter_INTERNAL) NONE(getNvOnnxParserVersion)
NONE(initLibNvInferPlugins)
void *getPluginRegistry(void) {
    void *lean = dlopen(getenv("LEAN_RUNTIME"), RTLD_NOW | RTLD_LOCAL);
    return ((void *(*)(void))dlsym(lean, "getPluginRegistry"))();
}
void *getBuilderPluginRegistry(void) { return getPluginRegistry(); }
"""
DRIVE = r"""
import json, sys
import numpy as np
import tensorrt_bindings as trt
sys.modules["tensorrt"] = trt  # the package of this name only re-exports the bindings
import tensorrt_bindings.plugin as trtp
from tensorrt_bindings.plugin import _lib, _tensor

class Dim:  # stands in for trt.IDimensionExpr
    def __init__(self, v): self.v = int(v)
    def is_constant(self): return True
    def get_constant_value(self): return self.v

class Expressions:  # stands in for trt.IExprBuilder
    OPS = {"SUM": lambda a, b: a + b, "SUB": lambda a, b: a - b, "PROD": lambda a, b: a * b,
           "FLOOR_DIV": lambda a, b: a // b, "CEIL_DIV": lambda a, b: -(-a // b), "MAX": max, "MIN": min}
    def constant(self, v): return Dim(v)
    def operation(self, op, a, b): return Dim(self.OPS[op.name](a.v, b.v))

class Record:
    def __setitem__(self, i, v): self.__dict__.setdefault("items", {})[i] = v

trt.IDimensionExpr, trt.DimsExprs = Dim, lambda n: [None] * n
_tensor.SymInt32.__call__ = lambda self: self._expr.v

from engines.plugins.registration import register_plugins

names = register_plugins(trt, trtp, 80)

def drive(name, dims, dtypes, attributes):
    kinds = {int: ("INT64", np.int64), float: ("FLOAT64", np.float64)}
    fields = trt.PluginFieldCollection([
        trt.PluginField(k, np.array([v], kinds[type(v)][1]), getattr(trt.PluginFieldType, kinds[type(v)][0]))
        for k, v in attributes.items()
    ])
    space, short = name.split("::")
    request = trt.QuickPluginCreationRequest.STRICT_AOT
    made = _lib.QDP_CREATORS[name].create_plugin(short, space, fields, trt.TensorRTPhase.BUILD, request)
    dtypes = [getattr(trt, word) for word in dtypes]
    types = list(made.get_output_data_types(dtypes, [len(d) for d in dims]))
    symbolic = [[Dim(v) for v in d] for d in dims]
    shapes = [tuple(e.v for e in s) for s in made.get_output_shapes(symbolic, [], Expressions())]
    ends = []
    for d, t in zip([*dims, *shapes], [*dtypes, *types]):
        outer, inner = trt.DynamicPluginTensorDesc(), trt.PluginTensorDesc()
        inner.type, inner.format, inner.dims = t, trt.TensorFormat.LINEAR, d
        outer.desc = inner
        ends.append(outer)
    n = len(dims)
    formats = [f"{c.type.name}/{c.format.name}" for c in made.get_supported_format_combinations(ends, n)]
    made.configure_plugin(ends[:n], ends[n:])
    made.set_tactic(0)
    launch, scalars = Record(), Record()
    made.get_launch_params(None, ends, n, launch, scalars, Expressions())
    kernel, ptx = made.get_kernel([e.desc for e in ends[:n]], [e.desc for e in ends[n:]])
    size = n + len(shapes)
    text = lambda v: v.decode() if isinstance(v, bytes) else v
    return {
        "types": [t.name for t in types], "shapes": shapes, "kernel": text(kernel), "ptx": text(ptx),
        "formats": [formats[i : i + size] for i in range(0, len(formats), size)],
        "grid": [launch.grid_x, launch.grid_y, launch.grid_z], "block": launch.block_x,
        "shared": launch.shared_mem, "scalars": [scalars.items[i] for i in range(scalars.nbSymExprs)],
    }

print(json.dumps({"names": names, "driven": [drive(*case) for case in json.load(sys.stdin)]}))
"""


@pytest.fixture(scope="session")
def bindings(tmp_path_factory):
    """An environment with the real Python layer and a real registry."""
    if reason := triton_missing():
        pytest.skip(reason)
    if not shutil.which("gcc"):
        pytest.skip("no gcc to make the libraries that the bindings link")
    folder = tmp_path_factory.mktemp("tensorrt")
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(folder / "site"), *WHEELS]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"pip cannot install {WHEELS}: {done.stderr.strip()[-200:]}")
    (folder / "stub.c").write_text(STUB)
    (folder / "lib").mkdir()
    for name in ("libnvinfer", "libnvinfer_plugin", "libnvonnxparser"):
        shared = folder / "lib" / f"{name}.so.11"
        flags = ["-shared", "-fPIC", f"-Wl,-soname,{shared.name}", "-o", str(shared)]
        subprocess.run(["gcc", *flags, str(folder / "stub.c"), "-ldl"], check=True)
    lean = next((folder / "site").rglob("libnvinfer_lean.so.11"))
    return {
        "LD_LIBRARY_PATH": str(folder / "lib"), "LEAN_RUNTIME": str(lean), "TRITON_CACHE_DIR": str(folder / "triton"),
        "PYTHONPATH": os.pathsep.join([str(folder / "site"), str(ROOT)]),
    }  # fmt: skip


SHUFFLE, TAIL, INTERLEAVE, DCL = (
    f"{registration.NAMESPACE}::{name}"
    for name in (
        registration.PIXEL_SHUFFLE, registration.PIXEL_SHUFFLE_TAIL, registration.PIXEL_INTERLEAVE,
        registration.PIXEL_DCL,
    )
)  # fmt: skip
TAIL_WORDS = {"r": 2, "activation": 2, "slope": 0.2, "low": 0.0, "high": 1.0}


@pytest.mark.slow
def test_a_builder_gets_shapes_types_grids_scalars_and_ptx(bindings):
    cases = [
        (SHUFFLE, [(1, 27, 64, 48)], ["float16"], {"r": 3}),
        (SHUFFLE, [(1, 12, 5, 7)], ["float32"], {"r": 2}),
        (SHUFFLE, [(1, 12, 5, 7)], ["int8"], {"r": 2}),
        (TAIL, [(2, 12, 64, 48), (12,)], ["float16"] * 2, {**TAIL_WORDS, "picture": 0}),
        (TAIL, [(2, 12, 64, 48), (12,)], ["float32"] * 2, {**TAIL_WORDS, "picture": 1}),
        (INTERLEAVE, [(2, 16, 64, 600)] * 4, ["float16"] * 4, {"slope": 0.0}),
        (INTERLEAVE, [(2, 16, 64, 600)] * 4, ["bfloat16"] * 4, {"slope": 0.0}),
        (DCL, [(2, 48, 64, 600)] * 2 + [(48, 48, 1, 2), (48, 48, 2, 1)], ["float16"] * 4, {"slope": 0.0}),
    ]
    done = subprocess.run(
        [sys.executable, "-c", DRIVE], input=json.dumps(cases), capture_output=True, text=True, check=False,
        env={**os.environ, **bindings},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["names"] == [SHUFFLE, TAIL, INTERLEAVE, DCL]
    half, single, byte, tail, picture, maps, brain, dcl = told["driven"]
    assert (half["types"], half["shapes"]) == (["HALF"], [[1, 3, 192, 144]])
    assert half["grid"] == [-(-3 * 192 * 144 // 1024), 1, 1]
    assert half["scalars"] == [3, 192, 144]
    assert ["HALF/LINEAR", "HALF/LINEAR"] in half["formats"]
    assert ["INT8/LINEAR", "INT8/LINEAR"] in half["formats"]
    assert (single["types"], single["scalars"], byte["types"]) == (["FLOAT"], [3, 10, 14], ["INT8"])
    assert (tail["shapes"], tail["types"], tail["grid"]) == ([[2, 3, 128, 96]], ["HALF"], [36, 2, 1])
    assert (picture["shapes"], picture["types"]) == ([[2, 128, 96, 3]], ["UINT8"])
    assert picture["scalars"] == [3, 128, 96]
    assert picture["formats"] == [
        ["FLOAT/LINEAR", "FLOAT/LINEAR", "UINT8/LINEAR"],
        ["HALF/LINEAR", "HALF/LINEAR", "UINT8/LINEAR"],
    ]
    assert (maps["shapes"], maps["grid"], maps["scalars"]) == ([[2, 16, 128, 1200]], [2 * 16 * 64, 2, 1], [600])
    assert brain["types"] == ["BF16"]
    assert (dcl["shapes"], dcl["types"]) == ([[2, 48, 128, 1200]], ["HALF"])
    assert (dcl["grid"], dcl["scalars"]) == ([2 * 64, 10, 2], [64, 600])
    assert "mma.sync" in dcl["ptx"]
    pointers = {SHUFFLE: ["u64", *["u32"] * 3, "u64"], TAIL: ["u64"] * 2 + ["u32"] * 3 + ["u64"]}
    pointers[INTERLEAVE] = ["u64"] * 4 + ["u32", "u64"]
    pointers[DCL] = ["u64"] * 4 + ["u32"] * 2 + ["u64"]
    for case, found in zip(cases, told["driven"], strict=True):
        assert [kind for kind, _ in entry_parameters(found["ptx"])] == pointers[case[0]]
        assert f".entry {found['kernel']}(" in found["ptx"]
        assert ".target sm_80" in found["ptx"]
        assert found["block"] == 128


def test_no_plugin_has_the_name_of_an_operator():
    """TensorRT's parser would take the operator: it does not look at the domain."""
    import onnx

    operators = {schema.name for schema in onnx.defs.get_all_schemas_with_history()}
    names = {name.rpartition(":")[2] for name in (SHUFFLE, TAIL, INTERLEAVE, DCL)}
    assert len(names) == 4
    assert not names & operators
    assert registration.NAMESPACE not in {"", "trt", "tensorrt", "std"}
