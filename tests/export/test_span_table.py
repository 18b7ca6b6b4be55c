"""The table of operators: each has a rule that takes it, and what sees the whole picture says how."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest

from export.span_rules import Fixed, Local, Node, WholePictureError
from export.span_table import RULES
from export.spans import Span

H, W = Span(0, Fraction(1), 40, 2, 38), Span(1, Fraction(1), 60, 3, 55)
PICTURE = Local((1, 8, H, W))
LAST = Local((1, H, W, 8))


def applied(op: str, *inputs: Any, **attributes: Any) -> Any:
    return RULES[op](Node(op, attributes, list(inputs), lambda _: None, ()))


def test_every_operator_of_the_table_is_one_of_onnx() -> None:
    import onnx

    known = {schema.name for schema in onnx.defs.get_all_schemas_with_history() if not schema.domain}
    assert set(RULES) <= known


@pytest.mark.parametrize(
    ("op", "inputs", "attributes"),
    [
        ("ReduceMean", [PICTURE], {"axes": [2, 3]}),
        ("ReduceMax", [PICTURE], {}),
        ("ArgMax", [PICTURE], {"axis": 2}),
        ("Softmax", [PICTURE], {"axis": -1}),
        ("LayerNormalization", [PICTURE, Fixed((60,))], {"axis": -1}),
        ("GlobalAveragePool", [PICTURE], {}),
        ("InstanceNormalization", [PICTURE], {}),
        ("BatchNormalization", [PICTURE], {"training_mode": 1}),
        ("MatMul", [LAST, LAST], {}),
        ("MatMul", [PICTURE, Fixed((60, 4))], {}),
    ],
)
def test_what_sees_the_whole_picture(op: str, inputs: list[Any], attributes: dict[str, Any]) -> None:
    with pytest.raises(WholePictureError):
        applied(op, *inputs, **attributes)


@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax", "Hardmax"])
@pytest.mark.parametrize("attributes", [{}, {"axis": 1}])
def test_before_opset_13_softmax_goes_on_to_the_last_axis(op: str, attributes: dict[str, Any]) -> None:
    with pytest.raises(WholePictureError):
        RULES[op](Node(op, attributes, [PICTURE], lambda _: None, (), opset=11))
    assert RULES[op](Node(op, {"axis": 1}, [PICTURE], lambda _: None, (), opset=13)) == PICTURE.dims


def test_what_works_on_channels_alone_does_not() -> None:
    assert applied("ReduceMean", PICTURE, axes=[1]) == (1, 1, H, W)
    assert applied("ReduceMean", PICTURE, axes=[1], keepdims=0) == (1, H, W)
    assert applied("ArgMax", PICTURE, axis=1) == (1, 1, H, W)
    assert applied("Softmax", PICTURE, axis=1) == PICTURE.dims
    assert applied("LayerNormalization", LAST, Fixed((8,)), axis=-1) == LAST.dims
    assert applied("BatchNormalization", PICTURE, Fixed((8,)), Fixed((8,))) == PICTURE.dims
    assert applied("MatMul", LAST, Fixed((8, 4))) == (1, H, W, 4)
