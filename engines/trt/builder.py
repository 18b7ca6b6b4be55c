"""ONNX → serialized plan, strongly typed: the types stand in the graph, so that no precision is known here but TF32.

Input: a graph of any types (fp32, casts to fp16 or bf16, Q/DQ) with one input, (1, C, H, W) or uint8 (H, W, 3).
Output: the plan's bytes.
Needs the library; TensorRT-RTX needs no device. Does not cache, write or run anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from engines.engine import Setting
from engines.trt.api import Api
from engines.trt.preflight import Size, check_fits, size_in, with_size
from engines.trt.reporting import Messages, Report, new_logger, new_monitor
from reference_models.errors import UserError

SETTINGS = (
    Setting(
        "level", "3", ("0", "1", "2", "3", "4", "5"), "how long the builder looks for kernels; 3 is the library's own"
    ),
    Setting(
        "workspace_mib",
        "all",
        ("all", "64", "256", "1024", "4096", "16384"),
        "scratch memory that one layer's kernel may ask for; `all` is the device's",
    ),
    Setting("aux_streams", "auto", ("auto", "0", "1", "2", "4"), "streams besides the main one; 0: everything in turn"),
    Setting(
        "layer_names", "names", ("names", "detailed"), "what a plan can tell about its layers; `detailed` costs time"
    ),
)
"""What both libraries take; each kind's own stand in api.py."""


@dataclass(frozen=True)
class Profile:
    """Sizes (height, width) of the input that a plan takes: any from `least` to `most`, tuned for `tuned`."""

    least: Size
    tuned: Size
    most: Size

    @staticmethod
    def of(size: Size) -> Profile:
        """This size alone."""
        return Profile(size, size, size)


@dataclass(frozen=True)
class BuildRequest:
    """What a plan's bytes depend on, besides the library and the device."""

    onnx_path: str
    sha256: str
    """Of the ONNX file."""
    precision: str
    """Only whether it is `tf32` matters: everything else stands in the graph."""
    profiles: tuple[Profile, ...]
    settings: Mapping[str, str]
    """Every setting of the engine with its value."""
    size_multiple: int = 1
    refittable: bool = False


@dataclass(frozen=True)
class BuiltPlan:
    """A plan and what the build said about it."""

    plan: bytes
    timings: bytes
    """To give to the next build on this device; empty where the library takes none."""
    facts: dict[str, Any] = field(default_factory=dict)
    """`inputs` and `outputs` with name, dtype and shape (-1: dynamic); `layers`, `largest_tensor` (elements), `plugins`
    and `warnings`."""


def build_plan(
    api: Api, request: BuildRequest, report: Report, stored_timings: bytes = b"", device_bytes: int | None = None
) -> BuiltPlan:
    """The plan.

    Args:
        report: called with phase and share done.
        device_bytes: memory of the device, for the check before the build; None where there is none.

    Raises:
        UserError: a size that cannot fit.
        RuntimeError: the library refuses the graph; its first message is in it.
    """
    trt, messages = api.module, Messages()
    logger = new_logger(trt, messages)
    builder = trt.Builder(logger)
    model, plugins = api.graph(request.onnx_path, request.settings, request.precision)
    network = parsed_network(api, builder, logger, model, request.onnx_path)
    largest = [check_fits(trt, network, sizes.most, request.size_multiple, device_bytes) for sizes in request.profiles]
    config = _configured(api, builder, network, request)
    config.progress_monitor = new_monitor(trt, report)
    api.load_timings(trt, config, stored_timings)
    serialized = builder.build_serialized_network(network, config)
    if serialized is None:
        raise RuntimeError(f"{api.title} cannot build this graph: {messages.reason()}")
    facts = {
        "inputs": [_ends(network.get_input(i)) for i in range(network.num_inputs)],
        "outputs": [_ends(network.get_output(i)) for i in range(network.num_outputs)],
        "layers": network.num_layers,
        "largest_tensor": max(d.elements for d in largest),
        "plugins": plugins,
        "warnings": messages.warnings[:20],
    }
    return BuiltPlan(bytes(serialized), api.stored_timings(config), facts)


def parsed_network(api: Api, builder: Any, logger: Any, model: bytes, onnx_path: str) -> Any:
    """The library's network of an ONNX model; its external weights, if any, lie beside `onnx_path`.

    Raises:
        RuntimeError: the parser refuses the file; its first error and the node are named.
    """
    trt = api.module
    # Version 11 and RTX know no other networks and ignore the flag; version 10 does not.
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(model, path=onnx_path):
        error = parser.get_error(0)
        node = f" at node `{error.node_name()}` ({error.node_operator()})" if error.node_name() else ""
        raise RuntimeError(f"{api.title}'s parser refuses this graph{node}: {error.desc()}")
    return network


def _configured(api: Api, builder: Any, network: Any, request: BuildRequest) -> Any:
    trt, settings = api.module, request.settings
    config = builder.create_builder_config()
    # On by default in every version: an fp32 plan would compute convolutions with 10 bits of mantissa.
    if request.precision == "tf32":
        config.set_flag(trt.BuilderFlag.TF32)
    else:
        config.clear_flag(trt.BuilderFlag.TF32)
    if request.refittable:
        config.set_flag(trt.BuilderFlag.REFIT)
    config.builder_optimization_level = int(settings["level"])
    if settings["workspace_mib"] != "all":
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, int(settings["workspace_mib"]) << 20)
    if settings["aux_streams"] != "auto":
        config.max_aux_streams = int(settings["aux_streams"])
    if settings["layer_names"] == "detailed":
        config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    api.set_target(trt, config, settings)
    tensor = network.get_input(0)
    for sizes in request.profiles:
        _check_dynamic(tensor, sizes)
        profile = builder.create_optimization_profile()
        least, tuned, most = (with_size(tensor.shape, size) for size in (sizes.least, sizes.tuned, sizes.most))
        profile.set_shape(tensor.name, least, tuned, most)
        config.add_optimization_profile(profile)
    return config


def _check_dynamic(tensor: Any, sizes: Profile) -> None:
    own = size_in(tuple(tensor.shape))
    for size in (sizes.least, sizes.most):
        if any(side not in {-1, wanted} for side, wanted in zip(own, size, strict=True)):
            raise UserError(
                f"the graph's input is fixed to {own[1]}x{own[0]}, asked for {size[1]}x{size[0]}",
                "the size it is fixed to, or a graph with dynamic height and width",
                "Export it with dynamic sides",
            )


def _ends(tensor: Any) -> dict[str, Any]:
    word = tensor.dtype.name.lower()
    dtype = {"float": "float32", "half": "float16", "bf16": "bfloat16"}.get(word, word)
    return {"name": tensor.name, "dtype": dtype, "shape": list(tensor.shape)}
