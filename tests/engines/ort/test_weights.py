"""New weights are written in place, whole, or refused by name."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from engines.ort.weights import replace_weights


def test_a_weight_is_replaced_and_the_others_stay(enlarger):
    model = onnx.load(enlarger.onnx_path)
    new = np.ones((12, 3, 3, 3), np.float32)
    replace_weights(model, {"w": new}, "some.onnx")
    (stored,) = model.graph.initializer
    assert stored.name == "w"
    np.testing.assert_array_equal(onnx.numpy_helper.to_array(stored), new)


@pytest.mark.parametrize(("name", "shape"), [("nowhere", (1,)), ("w", (12, 3, 3)), ("w", ())])
def test_what_the_file_does_not_have_is_refused_with_its_name(enlarger, name, shape):
    with pytest.raises(ValueError, match=f"some.onnx has no initializer '{name}' of shape"):
        replace_weights(onnx.load(enlarger.onnx_path), {name: np.zeros(shape, np.float32)}, "some.onnx")
