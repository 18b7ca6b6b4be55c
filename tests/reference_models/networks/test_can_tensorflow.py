"""Names and layout of the CAN release → our own; what does not fit is named."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from reference_models.errors import UserError
from reference_models.networks.can_tensorflow import layer_scopes, state_from_tensorflow

ROOT = Path(__file__).resolve().parents[3]
WIDTH, DILATIONS = 4, (1, 2, 1)


def released(width: int = WIDTH, scopes: tuple[str, ...] = ("g_conv1", "g_conv2", "g_conv9")) -> dict[str, np.ndarray]:
    """A small network as the release would store it; every value occurs once."""
    rng = np.random.default_rng(0)
    tensors: dict[str, np.ndarray] = {}
    for i, scope in enumerate(scopes):
        tensors[f"{scope}/weights"] = rng.normal(size=(3, 3, width if i else 3, width)).astype(np.float32)
        for name in ("w0", "w1"):
            tensors[f"{scope}/{name}"] = rng.normal(size=()).astype(np.float32).reshape(())
        for name in ("beta", "moving_mean", "moving_variance"):
            tensors[f"{scope}/BatchNorm/{name}"] = rng.normal(size=width).astype(np.float32)
    tensors["g_conv_last/weights"] = rng.normal(size=(1, 1, width, 3)).astype(np.float32)
    tensors["g_conv_last/biases"] = rng.normal(size=3).astype(np.float32)
    return tensors


def test_scopes_of_the_released_networks() -> None:
    assert layer_scopes(8) == [f"g_conv{i}" for i in (1, 2, 3, 4, 5, 6, 7, 9)]  # CAN24: no layer 8
    assert layer_scopes(9) == [f"g_conv{i}" for i in range(1, 10)]  # CAN32


def test_every_tensor_goes_to_its_place() -> None:
    tensors = released()
    state = state_from_tensorflow(tensors, WIDTH, DILATIONS)
    assert len(state) == 3 * 4 + 2
    for i, scope in enumerate(("g_conv1", "g_conv2", "g_conv9")):
        assert state[f"norms.{i}.scale_identity"] == tensors[f"{scope}/w0"]
        assert state[f"norms.{i}.scale_norm"] == tensors[f"{scope}/w1"]
        assert np.array_equal(state[f"norms.{i}.beta"], tensors[f"{scope}/BatchNorm/beta"])
    assert np.array_equal(state["last.bias"], tensors["g_conv_last/biases"])
    assert {array.dtype for array in state.values()} == {np.dtype(np.float32)}
    assert all(array.flags.c_contiguous for array in state.values())


def test_convolution_weights_become_oihw() -> None:
    tensors = released()
    state = state_from_tensorflow(tensors, WIDTH, DILATIONS)
    hwio, oihw = tensors["g_conv2/weights"], state["convs.1.weight"]
    assert all(oihw[o, i, y, x] == hwio[y, x, i, o] for y, x, i, o in np.ndindex(*hwio.shape))
    assert state["convs.0.weight"].shape == (WIDTH, 3, 3, 3)
    assert state["last.weight"].shape == (3, WIDTH, 1, 1)


def test_optimiser_state_is_left_out() -> None:
    tensors = released()
    extra = {f"{name}/Adam": array for name, array in tensors.items()} | {"beta1_power": np.float32(0.5).reshape(())}
    assert set(state_from_tensorflow(tensors | extra, WIDTH, DILATIONS)) == set(
        state_from_tensorflow(tensors, WIDTH, DILATIONS)
    )


def test_a_deeper_width_or_depth_is_refused() -> None:
    with pytest.raises(UserError, match=r"misshapen: g_conv1/weights \(3, 3, 3, 4\) in place of \(3, 3, 3, 5\)"):
        state_from_tensorflow(released(), 5, DILATIONS)
    with pytest.raises(UserError, match="4 missing: g_conv3/weights, g_conv3/w0, g_conv3/w1, g_conv3/BatchNorm/beta"):
        state_from_tensorflow(released(), WIDTH, (1, 2, 4, 1))
    with pytest.raises(UserError, match="4 not of this model: g_conv2/weights"):
        state_from_tensorflow(released(), WIDTH, (1, 1))


def test_all_problems_stand_in_one_error() -> None:
    tensors = released()
    del tensors["g_conv1/w0"]
    tensors["g_conv8/w0"] = tensors["g_conv2/w0"]
    tensors["g_conv2/w1"] = np.array(3)
    tensors["g_conv9/BatchNorm/beta"] = np.full(WIDTH, np.nan, np.float32)
    with pytest.raises(UserError) as error:
        state_from_tensorflow(tensors, WIDTH, DILATIONS)
    for part in (
        "1 missing: g_conv1/w0",
        "1 not of this model: g_conv8/w0",
        "1 of a wrong dtype: g_conv2/w1 int64",
        "1 not finite in float32: g_conv9/BatchNorm/beta",
    ):
        assert part in error.value.what
    assert "width 4 with 3 dilated layers" in error.value.expected


@pytest.mark.parametrize(
    "operator", ["L0_smoothing", "Pencil_drawing", "Multiscale_tone_manipulation", "Dark_channel_dehazing"]
)
def test_published_weights_fit(originals: Path, operator: str) -> None:
    tensors = load_file(originals / "can24_an" / "weights" / f"{operator}.safetensors")
    state = state_from_tensorflow(tensors, 24, (1, 2, 4, 8, 16, 32, 64, 1))
    assert sum(array.size for array in state.values()) == 3 * 24 * 9 + 7 * 24 * 24 * 9 + 8 * (24 + 2) + 24 * 3 + 3
    assert np.array_equal(state["convs.7.weight"], tensors["g_conv9/weights"].transpose(3, 2, 0, 1))


def test_needs_no_torch() -> None:
    code = "import sys, reference_models.networks.can_tensorflow; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
