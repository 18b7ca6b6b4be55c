"""Tensors of the CAN release (TensorFlow names, HWIO) → states of `reference_models.networks.can` (OIHW). No torch.

Not converted: optimiser state, and the moving averages, which the released network never updates and never uses.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from reference_models.errors import UserError
from reference_models.tf_checkpoint import is_training_state
from reference_models.weights import mismatch

if TYPE_CHECKING:
    import numpy as np

_MOVING_AVERAGE = re.compile(r"^g_conv\d+/BatchNorm/moving_(mean|variance)$")
_LAST_LAYER = 9
"""Number that the release gives to the last 3x3 layer, whatever the depth: CAN24 has no layer 8."""


def layer_scopes(layers: int) -> list[str]:
    """TensorFlow scopes of the 3x3 convolutions in order: 1, 2, … and 9 for the last one.

    Source: `build` in CAN24_AN/demo.py (24 channels) and Single_Network/combined.py (32 channels, with layer 8) of
    https://github.com/CQFIO/FastImageProcessing.
    """
    return [f"g_conv{number}" for number in (*range(1, layers), max(layers, _LAST_LAYER))]


def _ends(width: int, layers: int, planes: int) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Convolutions and last layer: TensorFlow name → (our name, TensorFlow shape)."""
    layout: dict[str, tuple[str, tuple[int, ...]]] = {}
    for i, scope in enumerate(layer_scopes(layers)):
        layout[f"{scope}/weights"] = f"convs.{i}.weight", (3, 3, width if i else planes, width)
    layout["g_conv_last/weights"] = "last.weight", (1, 1, width, 3)
    layout["g_conv_last/biases"] = "last.bias", (3,)
    return layout


def state_from_tensorflow(
    tensors: Mapping[str, np.ndarray],
    width: int,
    dilations: Sequence[int],
    planes: int = 3,
    normalisation: Literal["adaptive", "batch"] = "adaptive",
) -> dict[str, np.ndarray]:
    """State of `Can`: our name → float32 array, convolution weights OIHW.

    Args:
        tensors: TensorFlow name → array, convolution weights HWIO; optimiser state and moving
            averages may be among them.
        width: channels of the hidden layers.
        dilations: one per 3x3 layer; only their number counts here.
        planes: of the input, such as 13 in Single_Network.
        normalisation: with `batch` there are no w0 and w1.

    Raises:
        UserError: tensors are missing, misshapen, not float, not finite, or belong to no layer; all are named.
    """
    layout = _ends(width, len(dilations), planes)
    for i, scope in enumerate(layer_scopes(len(dilations))):
        if normalisation == "adaptive":
            layout[f"{scope}/w0"] = f"norms.{i}.scale_identity", ()
            layout[f"{scope}/w1"] = f"norms.{i}.scale_norm", ()
        layout[f"{scope}/BatchNorm/beta"] = f"norms.{i}.beta", (width,)
    return _renamed(tensors, layout, f"of a CAN of width {width} with {len(dilations)} dilated layers, as released")


def state_without_norm_from_tensorflow(
    tensors: Mapping[str, np.ndarray], width: int, dilations: Sequence[int], planes: int = 3
) -> dict[str, np.ndarray]:
    """State of `CanWithoutNorm`, from what slim.conv2d writes without a normaliser: weights and biases.

    Arguments, result and errors as `state_from_tensorflow`.
    """
    layout = _ends(width, len(dilations), planes)
    for i, scope in enumerate(layer_scopes(len(dilations))):
        layout[f"{scope}/biases"] = f"convs.{i}.bias", (width,)
    return _renamed(tensors, layout, f"of a CAN of width {width} with {len(dilations)} layers and no normalisation")


def _renamed(
    tensors: Mapping[str, np.ndarray], layout: Mapping[str, tuple[str, tuple[int, ...]]], whose: str
) -> dict[str, np.ndarray]:
    import numpy as np

    used = {n: t for n, t in tensors.items() if not (is_training_state(n) or _MOVING_AVERAGE.match(n))}
    problem = mismatch(used, {name: shape for name, (_, shape) in layout.items()})
    if problem:
        raise UserError(
            problem, f"the {len(layout)} tensors {whose}", "Check that this checkpoint belongs to the model asked for"
        )
    state = {}
    for name, (ours, shape) in layout.items():
        stored = used[name].transpose(3, 2, 0, 1) if len(shape) == 4 else used[name]
        state[ours] = np.array(stored, dtype=np.float32, order="C")
    return state
