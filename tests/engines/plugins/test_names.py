"""Names that no parser takes for something else."""

from __future__ import annotations

import onnx

from engines.plugins.names import NAMESPACE, PIXEL_SHUFFLE, PLUGINS, TAILS, Tail


def test_no_plugin_has_the_name_of_an_operator():
    """TensorRT's parser would take the operator: it does not look at the domain."""
    operators = {schema.name for schema in onnx.defs.get_all_schemas_with_history()}
    assert len(set(PLUGINS)) == len(PLUGINS) == 1 + 16 + 3 + 3
    assert not set(PLUGINS) & operators
    assert NAMESPACE not in {"", "trt", "tensorrt", "std"}


def test_a_tail_s_name_says_what_it_is():
    assert Tail("float").name == f"{PIXEL_SHUFFLE}Tail"
    assert Tail("picture", of_int8=True).name == f"{PIXEL_SHUFFLE}PictureOfInt8"
    assert TAILS["FullresPixelShuffleTanhInt8"] == Tail("int8", tanh=True)
