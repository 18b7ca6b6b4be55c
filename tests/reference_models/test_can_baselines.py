"""What the specs of the CAN paper's baselines declare: sizes counted by hand, receptive fields found by measurement."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from reference_models import get, model_from_spec
from reference_models.can_baselines import SPECS

NARROW = {"encoder_decoder": {"width": 1}, "fcn8s": {"divisor": 64}}
SPEC = pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)


def narrow(spec):
    """Few channels: what is measured with it does not depend on their number."""
    return model_from_spec(replace(spec, options=NARROW[spec.name]))


def parameters(name):
    with torch.device("meta"):  # shapes alone: fcn8s would take half a gigabyte
        return sum(p.numel() for p in model_from_spec(get(name)).parameters())


def test_both_baselines_are_declared():
    assert [spec.name for spec in SPECS] == list(NARROW)


def test_the_encoder_decoder_has_a_quarter_of_u_net_s_parameters():
    count, below = 0, 3
    for width in (32, 64, 128, 256, 512):  # half of 64 to 1024
        count += 9 * below * width + width + 9 * width * width + width
        below = width
    for width in (256, 128, 64, 32):
        count += 4 * 2 * width * width + width  # up-convolution 2x2
        count += 9 * 2 * width * width + width + 9 * width * width + width  # after the skip is appended
    count += 32 * 3 + 3
    assert parameters("encoder_decoder") == count == 7_760_163
    assert count == pytest.approx(31.03e6 / 4, rel=1e-2)  # U-Net as published, of 64 to 1024 channels


def test_fcn8s_is_vgg16_with_its_classifier_as_convolutions():
    vgg16 = 14_714_688 + 102_764_544 + 16_781_312  # all convolutions, fc6 and fc7 of configuration D
    scores = (4096 + 512 + 256) * 3 + 3 * 3
    up = 9 * (4 * 4 + 4 * 4 + 16 * 16)
    assert parameters("fcn8s") == vgg16 + scores + up == 134_277_737


@SPEC
def test_one_input_row_reaches_as_far_as_declared(spec):
    """NaN in one row of a picture: every output that depends on it, by whatever path, is NaN too."""
    k, halo = spec.size_multiple, spec.halo_px
    model = narrow(spec).double()  # in float64 there is no Winograd, which would spread the NaN by itself
    middle = -(-halo // k) * k
    reach = []
    for row in range(middle, middle + k):  # every position on the coarsest grid
        x = torch.rand(1, 3, 2 * middle + k, k, dtype=torch.float64)
        x[:, :, row] = torch.nan
        with torch.inference_mode():
            rows = model(x).isnan().any(3).any(1)[0].nonzero().flatten()
        reach += [row - int(rows[0]), int(rows[-1]) - row]
    assert max(reach) == halo
    assert spec.receptive_field_px == 1 + 2 * halo


@SPEC
@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (1, 3), (5, 2)])
def test_every_multiple_of_the_declared_size_is_taken(spec, rows, columns):
    k = spec.size_multiple
    with torch.inference_mode():
        y = narrow(spec)(torch.rand(1, 3, rows * k, columns * k))
    assert y.shape == (1, 3, rows * k, columns * k)


@SPEC
def test_the_declared_size_multiple_is_the_least(spec):
    half = spec.size_multiple // 2
    x = torch.rand(1, 3, 3 * half, 4 * half)
    with torch.inference_mode():
        try:
            shape = narrow(spec)(x).shape
        except RuntimeError:  # scales that do not fit together
            return
    assert shape != x.shape


def test_pictures_are_treated_as_the_release_of_the_paper_treats_them():
    for spec in SPECS:
        assert (spec.input, spec.output, spec.rounding, spec.upscale) == ("bgr", "bgr", "truncate", 1)
        assert (spec.min_size, spec.statistics, spec.whole_picture) == (spec.size_multiple, (), "")
