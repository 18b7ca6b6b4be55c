"""New weights in a model that is held in memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np


def replace_weights(model: Any, tensors: Mapping[str, np.ndarray], path: str) -> None:
    """Writes new values into a ModelProto's initializers.

    Raises:
        ValueError: it has none of this name and shape.
    """
    from onnx import numpy_helper

    initializers = {initializer.name: initializer for initializer in model.graph.initializer}
    for name, value in tensors.items():
        old = initializers.get(name)
        if old is None or tuple(old.dims) != value.shape:
            raise ValueError(f"{path} has no initializer {name!r} of shape {value.shape}")
        old.CopyFrom(numpy_helper.from_array(value, name))
