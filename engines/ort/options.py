"""Settings of ONNX Runtime's engines → session and run options. Builds no session."""

from __future__ import annotations

from typing import Any

from engines.engine import Options, Setting

GRAPH = Setting(
    "graph", "all", ("all", "extended", "basic", "off"), "graph optimisation level; `all` adds the blocked layout"
)
DENORMALS = Setting(
    "denormals", "zero", ("zero", "keep"), "denormal numbers in kernels; `zero` sets the flush-to-zero bits"
)
SPIN = Setting("spin", "on", ("on", "off"), "whether idle threads spin between operators")
DEVICE = (
    Setting("capture", "off", ("off", "on"), "CUDA only: whether inferences are replayed from a CUDA graph"),
    Setting("host_memory", "pinned", ("pinned", "pageable"), "CUDA only: host side of copies to and from the device"),
    Setting("l2", "warm", ("warm", "flushed"), "CUDA only: whether the second-level cache is emptied before each"),
)
CUDA_ONLY = {setting.name: setting.default for setting in DEVICE}
"""Of an engine that runs on the CPU too; see Engine.cuda_only."""
RTX_PACKAGE = "onnxruntime_ep_nv_tensorrt_rtx"
"""The plugin's module. Importing it loads NVIDIA's libraries."""
RECORD_PLACEMENT = "session.record_ep_graph_assignment_info"
NO_CAPTURE = "-1"
"""The graph id of a run that neither captures nor replays. Source: onnxruntime_run_options_config_keys.h."""


def session_options(options: Options) -> Any:
    """An onnxruntime.SessionOptions with what every provider shares."""
    import onnxruntime as ort

    chosen, settings = ort.SessionOptions(), options.settings
    chosen.intra_op_num_threads = options.threads
    chosen.inter_op_num_threads = 1
    chosen.log_severity_level = 3
    chosen.graph_optimization_level = level(options)
    for setting, value, entry in (
        ("denormals", "zero", "session.set_denormal_as_zero"),
        ("spin", "on", "session.intra_op.allow_spinning"),
    ):
        if setting in settings:
            chosen.add_session_config_entry(entry, "1" if settings[setting] == value else "0")
    return chosen


def run_options(captures: bool = True) -> Any:
    """An onnxruntime.RunOptions of a run that only enqueues.

    Args:
        captures: False for a run outside of any CUDA graph.
    """
    import onnxruntime as ort

    chosen = ort.RunOptions()
    chosen.log_severity_level = 3
    chosen.add_run_config_entry("disable_synchronize_execution_providers", "1")
    if not captures:
        chosen.add_run_config_entry("gpu_graph_id", NO_CAPTURE)
    return chosen


def level(options: Options) -> Any:
    """The graph optimisation level, in the library's own type."""
    import onnxruntime as ort

    levels = ort.GraphOptimizationLevel
    return {
        "all": levels.ORT_ENABLE_ALL,
        "extended": levels.ORT_ENABLE_EXTENDED,
        "basic": levels.ORT_ENABLE_BASIC,
        "off": levels.ORT_DISABLE_ALL,
    }[options.settings["graph"]]
