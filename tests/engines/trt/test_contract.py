"""Every class, method, enum and argument of the vendors' that engines/trt uses exists in their Python bindings.

The uses are read from the source; which class a variable holds follows from its name (CLASSES). Names that stand in one
kind's class of api.py are looked up in that kind's bindings alone. The bindings of TensorRT 10 and 11 come from PyPI
(1 MiB each); three libraries that they link are replaced by stubs, since those do not come from there.
"""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]
FILES = ("api", "builder", "layers", "preflight", "reporting", "session")
CLASSES = {
    "builder": "Builder",
    "network": "INetworkDefinition",
    "parser": "OnnxParser",
    "error": "ParserError",
    "config": "IBuilderConfig",
    "profile": "IOptimizationProfile",
    "runtime": "Runtime",
    "engine": "ICudaEngine",
    "context": "IExecutionContext",
    "inspector": "EngineInspector",
    "refitter": "Refitter",
    "tensor": "ITensor",
    "layer": "ILayer",
    "cache": "ITimingCache",
    "kernel_cache": "IRuntimeCache",
    "runtime_config": "IRuntimeConfig",
}
KINDS = {"TensorRtApi": "tensorrt", "TensorRtRtxApi": "tensorrt_rtx"}
BINDINGS = {
    "10": "tensorrt-cu13-bindings==10.16.1.11",
    "11": "tensorrt-cu13-bindings==11.4.0.106",
    "lean": "tensorrt-lean-cu13-bindings==11.4.0.106",
}

STUB = """
#include <stddef.h>
#define API __attribute__((visibility("default")))
#define NONE(name) API void *name(void) { return NULL; }
NONE(createInferBuilder_INTERNAL) NONE(createInferRuntime_INTERNAL) NONE(createInferRefitter_INTERNAL)
NONE(getPluginRegistry) NONE(getBuilderPluginRegistry) NONE(initLibNvInferPlugins)
NONE(createNvOnnxParser_INTERNAL) NONE(createNvOnnxParserRefitter_INTERNAL) NONE(getNvOnnxParserVersion)
"""

CHECK = r"""
import importlib, inspect, json, re, sys

trt = importlib.import_module(sys.argv[1])

def accepts(signature, positional, keywords):
    end = ") ->" if ") ->" in signature else ")"
    inside = signature[signature.index("(") + 1 : signature.rindex(end)]
    depth, parts, part = 0, [], ""
    for letter in inside:
        depth += (letter in "[(<{") - (letter in "])>}")
        if letter == "," and depth == 0:
            parts.append(part); part = ""
        else:
            part += letter
    names = [(p.split(":")[0].split("=")[0].strip(), "=" in p) for p in [*parts, part] if p.strip()]
    names = [n for n in names if n[0] not in {"self", "/", "*"}]
    if positional > len(names) or set(keywords) - {n for n, _ in names[positional:]}:
        return False
    return all(default or name in keywords for name, default in names[positional:])

def fault(use):
    found = trt
    for name in use["path"]:
        if not hasattr(found, name):
            return "does not exist"
        found = getattr(found, name)
    if use["positional"] is None:
        return None
    called = found.__init__ if isinstance(found, type) else found
    if inspect.isfunction(called):
        parameters = list(inspect.signature(called).parameters)
        fits = use["positional"] <= len(parameters) and set(use["keywords"]) <= set(parameters)
        return None if fits else f"takes {parameters}"
    text = called.__doc__ or ""
    own = re.escape(getattr(called, "__name__", ""))
    lines = [line for line in text.splitlines() if re.match(rf"(\d+\. )?{own}\((?!\*args)", line)]
    if not lines:
        return "has no signature"
    given = use["positional"], use["keywords"]
    return None if any(accepts(line, *given) for line in lines) else f"takes no such arguments: {lines}"

faults = []
for use in json.load(sys.stdin):
    why = fault(use)
    if why:
        faults.append(f"{use['where']}: {'.'.join(use['path'])} {why}")
print(json.dumps({"version": trt.__version__, "faults": faults}))
"""


class Uses(ast.NodeVisitor):
    """Collects uses of the vendor's names: `trt.A.B`, `alias.B` after `alias = trt.A`, and `variable.method`."""

    def __init__(self, file: str) -> None:
        self.file, self.found, self._aliases, self._kind = file, [], {}, None
        self._calls: dict[int, ast.Call] = {}

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        outer = self._kind
        self._kind = KINDS.get(node.name, outer)
        for base in node.bases:  # methods that the library calls must be those that it knows
            if (path := self._path(base)) and len(path) == 1:
                for method in node.body:
                    if isinstance(method, ast.FunctionDef):
                        self._add([*path, method.name], None, method.lineno)
        self.generic_visit(node)
        self._kind = outer

    def visit_Assign(self, node: ast.Assign) -> None:
        path = self._path(node.value)
        if path and isinstance(node.targets[0], ast.Name):
            self._aliases[node.targets[0].id] = path
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        self._calls[id(node.func)] = node
        self.generic_visit(node)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        path = self._path(node)
        if path:
            self._add(path, self._calls.get(id(node)), node.lineno)
            for argument in ast.iter_child_nodes(node):
                if not isinstance(argument, ast.Attribute | ast.Name):
                    self.visit(argument)
            return
        self.generic_visit(node)

    def _path(self, node: ast.AST) -> list[str] | None:
        names: list[str] = []
        while isinstance(node, ast.Attribute):
            names.append(node.attr)
            node = node.value
        if not isinstance(node, ast.Name):
            return None
        names = [node.id, *reversed(names)]
        if names[0] == "self" and len(names) > 2:
            names = [names[1].removeprefix("_"), *names[2:]]
        if names[0] == "trt":
            return names[1:] or None
        if names[:2] == ["api", "module"]:
            return names[2:] or None
        if names[0] in self._aliases and len(names) > 1:
            return [*self._aliases[names[0]], *names[1:]]
        if names[0] in CLASSES and len(names) > 1:
            return [CLASSES[names[0]], *names[1:]]
        return None

    def _add(self, path: list[str], call: ast.Call | None, line: int) -> None:
        if (
            path[0] in CLASSES.values() and len(path) > 2
        ):  # `tensor.dtype.name`: what a property gives is not known here
            path, call = path[:2], None
        self.found.append(
            {
                "path": path,
                # `trt.ILogger.__init__(self)`: signatures are compared without their self.
                "positional": len(call.args) - (path[-1] == "__init__") if call else None,
                "keywords": [k.arg for k in call.keywords] if call else [],
                "where": f"{self.file}:{line}",
                "kind": self._kind,
            }
        )


def uses(kind: str) -> list[dict[str, Any]]:
    """What engines/trt uses of this kind of library."""
    found = []
    for name in FILES:
        visitor = Uses(f"{name}.py")
        visitor.visit(ast.parse((ROOT / "engines" / "trt" / f"{name}.py").read_text()))
        found += visitor.found
    return [use for use in found if use["kind"] in {None, kind}]


def faults(package: str, wanted: list[dict[str, Any]], environment: dict[str, str]) -> tuple[str, list[str]]:
    """Version of the bindings, and what they do not offer."""
    done = subprocess.run(
        [sys.executable, "-c", CHECK, package],
        input=json.dumps(wanted), capture_output=True, text=True, check=False, env={**os.environ, **environment},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    told = json.loads(done.stdout.splitlines()[-1])
    return told["version"], told["faults"]


@pytest.fixture(scope="session")
def bindings(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """`bindings(major)`: an environment in which `import tensorrt_bindings` gives the real bindings over stubs."""

    def make(major: str) -> dict[str, str]:
        if not shutil.which("gcc"):
            pytest.skip("no gcc to make the libraries that the bindings link")
        folder = tmp_path_factory.mktemp(f"tensorrt{major}")
        command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(folder / "site")]
        done = subprocess.run([*command, BINDINGS[major]], capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"pip cannot install {BINDINGS[major]}: {done.stderr.strip()[-200:]}")
        (folder / "stub.c").write_text(STUB)
        (folder / "lib").mkdir()
        for name in ("libnvinfer", "libnvinfer_plugin", "libnvonnxparser", "libnvinfer_lean"):
            shared = folder / "lib" / f"{name}.so.{BINDINGS[major].partition('==')[2].partition('.')[0]}"
            flags = ["-shared", "-fPIC", f"-Wl,-soname,{shared.name}", "-o", str(shared)]
            subprocess.run(["gcc", *flags, str(folder / "stub.c")], check=True)
        return {"LD_LIBRARY_PATH": str(folder / "lib"), "PYTHONPATH": str(folder / "site")}

    return make


@pytest.mark.slow
@pytest.mark.parametrize("major", ["10", "11"])
def test_all_that_is_used_exists_in_the_real_bindings(major: str, bindings: Any) -> None:
    version, missing = faults("tensorrt_bindings", uses("tensorrt"), bindings(major))
    assert version == BINDINGS[major].partition("==")[2]
    assert missing == []


@pytest.mark.slow
def test_all_that_a_session_uses_exists_in_the_lean_runtime(bindings: Any) -> None:
    """But for the inspector, which is said, and new weights, which are refused."""
    runs = {"Runtime", "ICudaEngine", "IExecutionContext", "IProfiler", "ILogger", "EngineStat", "nptype"}
    wanted = [use for use in uses("tensorrt") if use["path"][0] in runs]
    assert {"Runtime.engine_host_code_allowed", "IExecutionContext.execute_async_v3", "nptype"} <= {
        ".".join(use["path"]) for use in wanted
    }
    version, missing = faults("tensorrt_lean_bindings", wanted, bindings("lean"))
    assert (version, missing) == (BINDINGS["lean"].partition("==")[2], [])


@pytest.mark.slow
def test_what_version_11_removed_is_noticed(bindings: Any) -> None:
    gone = [
        {"path": path, "positional": n, "keywords": words, "where": "here"}
        for path, n, words in (
            (["BuilderFlag", "FP16"], None, []),
            (["ICudaEngine", "device_memory_size"], None, []),
            (["IBuilderConfig", "set_timing_cache"], 1, []),
            (["OnnxParser", "parse"], 1, ["file"]),
        )
    ]
    _, missing = faults("tensorrt_bindings", gone, bindings("11"))
    assert [fault.split()[1] for fault in missing] == [".".join(use["path"]) for use in gone]


def test_all_that_is_used_exists_in_tensorrt_rtx() -> None:
    if importlib.util.find_spec("tensorrt_rtx") is None:
        pytest.skip("Python package tensorrt-rtx-cu13 is not installed")
    assert faults("tensorrt_rtx", uses("tensorrt_rtx"), {})[1] == []


def test_the_scan_finds_what_the_sources_are_known_to_use() -> None:
    """So that an empty list of faults means something."""
    both = {kind: {".".join(use["path"]) for use in uses(kind)} for kind in KINDS.values()}
    for known in (
        "NetworkDefinitionCreationFlag.STRONGLY_TYPED",
        "Builder.build_serialized_network",
        "IBuilderConfig.clear_flag",
        "IOptimizationProfile.set_shape",
        "IProgressMonitor.step_complete",
        "IProfiler.report_layer_time",
        "IExecutionContext.execute_async_v3",
        "ICudaEngine.device_memory_size_v2",
        "Refitter.refit_cuda_engine",
        "ITensor.shape",
        "ParserError.desc",
        "EngineStat.TOTAL_WEIGHTS_SIZE",
    ):
        assert known in both["tensorrt"] & both["tensorrt_rtx"], known
    assert "HardwareCompatibilityLevel.AMPERE_PLUS" in both["tensorrt"] - both["tensorrt_rtx"]
    assert "ComputeCapability.SM120" in both["tensorrt_rtx"] - both["tensorrt"]
    assert "DynamicShapesKernelSpecializationStrategy.EAGER" in both["tensorrt_rtx"] - both["tensorrt"]
    calls = {".".join(use["path"]): use["positional"] for use in uses("tensorrt") if use["positional"] is not None}
    assert (calls["IOptimizationProfile.set_shape"], calls["IExecutionContext.set_input_shape"]) == (4, 2)
