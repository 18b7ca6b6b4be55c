"""Plugins in TensorRT's own Python layer: registered, described and implemented as a builder would ask for it.

The Python layer is the real one of the 11.4 bindings; the registry is that of the lean runtime, which comes from PyPI
(about 40 MiB) and loads without a driver; integers stand in for the library's symbolic expressions.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from engines.plugins import names
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
    values = {k: np.array([v], kinds[type(v)][1]) for k, v in attributes.items()}  # a field only points to its array
    fields = trt.PluginFieldCollection([
        trt.PluginField(k, values[k], getattr(trt.PluginFieldType, kinds[type(v)][0])) for k, v in attributes.items()
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


SHUFFLE, INTERLEAVE, INTERLEAVE_INT8, INTERLEAVE_OF_INT8, DCL, DCL_INT8, DCL_OF_INT8 = (
    f"{names.NAMESPACE}::{name}"
    for name in (
        *(names.PIXEL_SHUFFLE, names.PIXEL_INTERLEAVE, names.PIXEL_INTERLEAVE_INT8, names.PIXEL_INTERLEAVE_OF_INT8),
        *(names.PIXEL_DCL, names.PIXEL_DCL_INT8, names.PIXEL_DCL_OF_INT8),
    )
)
TAIL, INT8, PICTURE, PICTURES, PICTURE_OF_INT8, TANH_OF_INT8 = (
    f"{names.NAMESPACE}::{names.Tail(*words).name}"
    for words in (
        *(("float",), ("int8",), ("picture",), ("pictures",), ("picture", False, True)),
        ("float", True, True),
    )  # type: ignore[arg-type]
)
WORDS = {
    "r": 2,
    "slope": 0.2,
    "low": 0.0,
    "high": 1.0,
    "taken": 1.0,
    "given": 1.0,
    "rounding": 0.5,
    "zero": 0.0,
    "gain": 255.0,
}


def _cases():
    """Plugin, shapes and types of its inputs, attributes."""
    maps, dcl = [(2, 16, 64, 600)] * 4, [(2, 48, 64, 600)] * 2 + [(48, 48, 1, 2), (48, 48, 2, 1)]
    tail, image, none = [(2, 12, 64, 48), (12,)], [(1, 12, 64, 48), (12,)], [(1, 12, 64, 48), (1,)]
    half = ["float16"] * 4
    return [
        (SHUFFLE, [(1, 27, 64, 48)], half[:1], {"r": 3}),
        (SHUFFLE, [(1, 12, 5, 7)], ["float32"], {"r": 2}),
        (SHUFFLE, [(1, 12, 5, 7)], ["int8"], {"r": 2}),
        (TAIL, tail, half[:2], {**WORDS, "low": -math.inf, "high": math.inf}),
        (INT8, none, half[:2], {**WORDS, "given": 0.02}),
        (PICTURE, image, ["float32"] * 2, WORDS),
        (PICTURES, tail, half[:2], WORDS),
        (PICTURE_OF_INT8, image, ["int8", "float32"], {**WORDS, "taken": 0.02}),
        (TANH_OF_INT8, none, ["int8", "float16"], {**WORDS, "taken": 0.02}),
        (INTERLEAVE, maps, half, {"slope": 0.0}),
        (INTERLEAVE, maps, ["bfloat16"] * 4, {"slope": 0.0}),
        (INTERLEAVE_INT8, maps, half, {"slope": 0.2, "step": 0.02}),
        (INTERLEAVE_OF_INT8, maps, ["int8"] * 4, {"slope": 0.0, "step": 0.02}),
        (DCL, dcl, half, {"slope": 0.0}),
        (DCL_INT8, dcl, half, {"slope": 0.0, "step": 0.02}),
        (
            *(DCL_OF_INT8, [*dcl[:2], *dcl, (48,), (48,)], [*half[:2], *["int8"] * 4, *half[:2]]),
            {"slope": 0.0, "a_step": 0.02, "b_step": 0.03},
        ),
    ]


@pytest.mark.slow
def test_a_builder_gets_shapes_types_grids_scalars_and_ptx(bindings):
    cases = _cases()
    done = subprocess.run(
        [sys.executable, "-c", DRIVE], input=json.dumps(cases), capture_output=True, text=True, check=False,
        env={**os.environ, **bindings},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["names"] == [f"{names.NAMESPACE}::{name}" for name in names.PLUGINS]
    driven = told["driven"]
    half, single, byte, tail, int8, picture, pictures, picture_of_int8, tanh = driven[:9]
    maps, brain, maps_int8, maps_of_int8, dcl, dcl_int8, dcl_of_int8 = driven[9:]
    assert (half["types"], half["shapes"]) == (["HALF"], [[1, 3, 192, 144]])
    assert (half["grid"], half["scalars"]) == ([3 * 64, 1, 1], [3, 64, 48])
    for types in ("FLOAT", "HALF", "BF16", "INT8"):
        assert [f"{types}/LINEAR"] * 2 in half["formats"]
    assert (single["types"], single["scalars"], byte["types"]) == (["FLOAT"], [3, 5, 7], ["INT8"])
    assert (tail["shapes"], tail["types"], tail["grid"]) == ([[2, 3, 128, 96]], ["HALF"], [2 * 3 * 64, 1, 1])
    assert (int8["types"], int8["scalars"]) == (["INT8"], [3, 64, 48])
    assert int8["formats"] == [[f"{t}/LINEAR"] * 2 + ["INT8/LINEAR"] for t in ("FLOAT", "HALF", "BF16")]
    assert (picture["shapes"], picture["types"]) == ([[128, 96, 3]], ["UINT8"])
    assert (picture["grid"], picture["scalars"]) == ([64, 1, 1], [3, 64, 48])
    assert (pictures["shapes"], pictures["types"]) == ([[2, 128, 96, 3]], ["UINT8"])
    assert pictures["formats"] == [[f"{t}/LINEAR"] * 2 + ["UINT8/LINEAR"] for t in ("FLOAT", "HALF", "BF16")]
    assert ["INT8/LINEAR", "FLOAT/LINEAR", "UINT8/LINEAR"] in picture_of_int8["formats"]
    assert (tanh["types"], tanh["shapes"]) == (["HALF"], [[1, 3, 128, 96]])
    assert ["INT8/LINEAR", "HALF/LINEAR", "HALF/LINEAR"] in tanh["formats"]
    assert (maps["shapes"], maps["grid"], maps["scalars"]) == ([[2, 16, 128, 1200]], [2 * 16 * 64, 2, 1], [600])
    assert (brain["types"], maps_int8["types"], maps_of_int8["types"]) == (["BF16"], ["INT8"], ["INT8"])
    assert ["HALF/LINEAR"] * 4 + ["INT8/LINEAR"] in maps_int8["formats"]
    assert maps_of_int8["formats"] == [["INT8/LINEAR"] * 5]
    assert (dcl["shapes"], dcl["types"], dcl_int8["types"]) == ([[2, 48, 128, 1200]], ["HALF"], ["INT8"])
    assert (dcl["grid"], dcl["scalars"]) == ([2 * 64, 10, 2], [64, 600])
    assert "mma.sync" in dcl["ptx"]
    assert "mma.sync" in dcl_int8["ptx"]
    assert (dcl_of_int8["types"], dcl_of_int8["grid"]) == (["HALF"], [2 * 64, 19, 2])
    assert [*["HALF/LINEAR"] * 2, *["INT8/LINEAR"] * 4, *["HALF/LINEAR"] * 3] in dcl_of_int8["formats"]
    assert ".s32.s8.s8.s32" in dcl_of_int8["ptx"]
    for (name, shapes, _, _), found in zip(cases, driven, strict=True):
        # A bias of one element, which stands for none, is passed all the same.
        scalars = 1 if "Interleave" in name else 2 if "Dcl" in name else 3
        wanted = ["u64"] * len(shapes) + ["u32"] * scalars + ["u64"]
        assert [kind for kind, _ in entry_parameters(found["ptx"])] == wanted, name
        assert f".entry {found['kernel']}(" in found["ptx"]
        assert ".target sm_80" in found["ptx"]
        assert found["block"] == 128
