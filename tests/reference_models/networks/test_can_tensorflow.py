"""Names and layout of the CAN release → our own; what does not fit is named."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from reference_models import create_model, get
from reference_models.choices import callable_from_path
from reference_models.errors import UserError
from reference_models.networks.can_tensorflow import (
    layer_scopes,
    state_from_tensorflow,
    state_without_norm_from_tensorflow,
)
from reference_models.weights import import_weights

ROOT = Path(__file__).resolve().parents[3]
WIDTH, DILATIONS = 4, (1, 2, 1)


def released(
    width: int = WIDTH, scopes: Sequence[str] = ("g_conv1", "g_conv2", "g_conv9"), planes: int = 3
) -> dict[str, np.ndarray]:
    """A small network as the release would store it; every value occurs once."""
    rng = np.random.default_rng(0)
    tensors: dict[str, np.ndarray] = {}
    for i, scope in enumerate(scopes):
        tensors[f"{scope}/weights"] = rng.normal(size=(3, 3, width if i else planes, width)).astype(np.float32)
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


@pytest.mark.parametrize(("name", "planes"), [("can32", 3), ("can32_multi", 13), ("can32_param", 4)])
def test_a_checkpoint_of_nine_layers_imports_by_name(
    name: str, planes: int, tmp_path: Path, write_checkpoint: Callable[..., Path]
) -> None:
    tensors = released(32, [f"g_conv{i}" for i in range(1, 10)], planes)
    slots = {"g_conv8/weights/Adam": tensors["g_conv8/weights"], "beta1_power": np.float32(0.5).reshape(())}
    prefix = write_checkpoint(tmp_path / "model.ckpt", tensors | slots)
    done = import_weights(get(name), prefix, tmp_path / "w.safetensors")
    assert (done["tensors"], done["dropped"]) == (9 * 4 + 2, 2 * 9 + 2)  # moving averages and optimiser state
    state = create_model(name, str(tmp_path / "w.safetensors")).state_dict()
    assert np.array_equal(state["convs.0.weight"].numpy(), tensors["g_conv1/weights"].transpose(3, 2, 0, 1))
    assert np.array_equal(state["convs.7.weight"].numpy(), tensors["g_conv8/weights"].transpose(3, 2, 0, 1))
    assert np.array_equal(state["convs.8.weight"].numpy(), tensors["g_conv9/weights"].transpose(3, 2, 0, 1))
    assert state["norms.7.scale_norm"] == float(tensors["g_conv8/w1"])


def test_weights_for_another_number_of_planes_are_refused() -> None:
    tensors = released(32, [f"g_conv{i}" for i in range(1, 10)], 13)
    with pytest.raises(UserError, match=r"misshapen: g_conv1/weights \(3, 3, 13, 32\) in place of \(3, 3, 4, 32\)"):
        state_from_tensorflow(tensors, 32, (1,) * 9, planes=4)


def test_batch_normalisation_has_no_scales() -> None:
    tensors = {name: t for name, t in released().items() if not name.endswith(("/w0", "/w1"))}
    state = state_from_tensorflow(tensors, WIDTH, DILATIONS, normalisation="batch")
    assert np.array_equal(state["norms.2.beta"], tensors["g_conv9/BatchNorm/beta"])
    assert len(state) == 3 * 2 + 2
    with pytest.raises(UserError, match="6 not of this model: g_conv1/w0"):
        state_from_tensorflow(released(), WIDTH, DILATIONS, normalisation="batch")


def test_without_normalisation_convolutions_have_biases() -> None:
    tensors = {name: t for name, t in released().items() if name.endswith(("/weights", "/biases"))}
    for scope in ("g_conv1", "g_conv2", "g_conv9"):
        tensors[f"{scope}/biases"] = np.random.default_rng(1).normal(size=WIDTH).astype(np.float32)
    state = state_without_norm_from_tensorflow(tensors, WIDTH, DILATIONS)
    assert np.array_equal(state["convs.2.bias"], tensors["g_conv9/biases"])
    assert np.array_equal(state["convs.1.weight"], tensors["g_conv2/weights"].transpose(3, 2, 0, 1))
    assert len(state) == 3 * 2 + 2
    with pytest.raises(UserError, match="no normalisation"):
        state_without_norm_from_tensorflow(released(), WIDTH, DILATIONS)


@pytest.mark.parametrize("name", ["can", "can32_bn", "can32_plain_conv", "can32_no_norm", "can32_multi"])
def test_importer_and_network_agree_on_names_and_shapes(name: str) -> None:
    spec, model = get(name), create_model(name)
    scopes = [f"g_conv{i}" for i in range(1, 10)]
    tensors = released(32, scopes, spec.input_planes)
    if name in {"can32_bn", "can32_no_norm"}:
        tensors = {n: t for n, t in tensors.items() if not n.endswith(("/w0", "/w1"))}
    if name == "can32_no_norm":
        beta = {f"{scope}/biases": tensors.pop(f"{scope}/BatchNorm/beta") for scope in scopes}
        tensors |= beta
    assert spec.importer is not None
    state = callable_from_path(spec.importer)(tensors, **spec.options)
    assert {n: t.shape for n, t in state.items()} == {n: tuple(t.shape) for n, t in model.state_dict().items()}


def test_needs_no_torch() -> None:
    code = "import sys, reference_models.networks.can_tensorflow; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
