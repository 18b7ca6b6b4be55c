"""Where ONNX Runtime placed a session's nodes: none that computes pixels may be left to another provider.

ONNX Runtime adds its CPU provider behind every other and places there what that other one does not take, without a
word. For shape arithmetic this is wanted, so `session.disable_cpu_ep_fallback` would refuse too much. The profile of a
run would tell the same as the record read here, one run and one file later.
"""

from __future__ import annotations

from typing import Any

HEAVY = frozenset(
    (
        *("Conv", "ConvTranspose", "ConvInteger", "QLinearConv", "FusedConv", "NhwcConv", "NhwcFusedConv"),
        *("Gemm", "FusedGemm", "QGemm", "MatMul", "FusedMatMul", "MatMulInteger", "MatMulIntegerToFloat"),
        *("QLinearMatMul", "Einsum", "Attention", "MultiHeadAttention", "DeformConv", "GridSample", "Resize"),
        *("QuantizeLinear", "DequantizeLinear", "DepthToSpace", "SpaceToDepth", "Upsample"),
        *("AveragePool", "MaxPool", "GlobalAveragePool", "GlobalMaxPool", "BatchNormalization"),
        *("InstanceNormalization", "GroupNormalization", "LayerNormalization", "Softmax"),
        *("Relu", "LeakyRelu", "PRelu", "Elu", "Selu", "Gelu", "Sigmoid", "HardSigmoid", "HardSwish", "Tanh", "Erf"),
        *("QLinearLeakyRelu", "QLinearAdd", "QLinearMul", "QLinearSigmoid", "QLinearConcat"),
        *("ReduceMean", "ReduceSumSquare", "ReduceL2"),
    )
)
"""Operators that work on pictures and never on shapes. Add, Mul, Cast, Slice and the like do both, and are judged by
those beside them: a network of nothing else would pass."""


def placement_missing() -> str | None:
    """None where this ONNX Runtime tells where nodes were placed, else the sentence that says it does not."""
    import onnxruntime as ort

    if hasattr(ort.InferenceSession, "get_provider_graph_assignment_info"):
        return None
    return f"ONNX Runtime {ort.__version__} does not tell where it placed nodes; 1.24.1 and newer do"


def placed(session: Any) -> list[tuple[str, str, str]]:
    """(node, operator, provider) of a session that was made with RECORD_PLACEMENT, before its later optimisations:
    nodes that were merged afterwards stand there one by one."""
    return [
        (node.name, node.op_type, part.ep_name)
        for part in session.get_provider_graph_assignment_info()
        for node in part.get_nodes()
    ]


def check_placement(session: Any, provider: str) -> None:
    """
    Raises:
        RuntimeError: a node that computes pixels was placed elsewhere, or ONNX Runtime recorded nothing.
    """
    nodes = placed(session)
    if not nodes:
        raise RuntimeError("ONNX Runtime did not record where it placed the nodes of this session")
    elsewhere = [(name, kind, where) for name, kind, where in nodes if kind in HEAVY and where != provider]
    if elsewhere:
        words = ", ".join(f"`{name or 'without a name'}` ({kind}) to {where}" for name, kind, where in elsewhere[:3])
        more = f" and {len(elsewhere) - 3} more" if len(elsewhere) > 3 else ""
        raise RuntimeError(f"ONNX Runtime placed {words}{more}, not to {provider}: not a measurement of that one")
