"""The CAN paper's baselines against independent float64 NumPy implementations, and their initialisation."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from reference_models import create_model
from reference_models.networks.can_baselines import EncoderDecoder, Fcn8s


def conv(state, name, x):
    """(C, H, W) float64 with zeros around, same size out."""
    weight, bias = state[f"{name}.weight"], state[f"{name}.bias"]
    reach = weight.shape[2] // 2
    padded = np.pad(x, ((0, 0), (reach, reach), (reach, reach)))
    y = np.zeros((weight.shape[0], *x.shape[1:]))
    for row, column in np.ndindex(*weight.shape[2:]):
        part = padded[:, row : row + x.shape[1], column : column + x.shape[2]]
        y += np.tensordot(weight[:, :, row, column], part, 1)
    return y + bias[:, None, None]


def up(state, name, x, stride):
    """Every pixel sends a kernel to the output, `stride` apart; a margin is cut: sides grow `stride` times."""
    weight = state[f"{name}.weight"]
    side = weight.shape[2]
    y = np.zeros((weight.shape[1], stride * (x.shape[1] - 1) + side, stride * (x.shape[2] - 1) + side))
    for row, column in np.ndindex(*x.shape[1:]):
        sent = np.tensordot(x[:, row, column], weight, 1)
        y[:, row * stride : row * stride + side, column * stride : column * stride + side] += sent
    cut = (side - stride) // 2
    y = y[:, cut : y.shape[1] - cut, cut : y.shape[2] - cut]
    return y + state[f"{name}.bias"][:, None, None] if f"{name}.bias" in state else y


def pooled(x):
    return x.reshape(x.shape[0], x.shape[1] // 2, 2, x.shape[2] // 2, 2).max((2, 4))


def relu_conv(state, name, x):
    return np.maximum(conv(state, name, x), 0)


def numpy_encoder_decoder(state, x):
    def twice(name, x):
        return relu_conv(state, f"{name}.conv1", relu_conv(state, f"{name}.conv0", x))

    scales = [twice("encoder.0", x)]
    for i in range(1, 5):
        scales.append(twice(f"encoder.{i}", pooled(scales[-1])))
    x = scales.pop()
    for i in range(4):
        x = twice(f"decoder.{i}", np.concatenate([scales.pop(), up(state, f"up.{i}", x, 2)]))
    return conv(state, "last", x)


def numpy_fcn8s(state, x):
    pools = []
    for block, layers in enumerate((2, 2, 3, 3, 3)):
        for layer in range(layers):
            x = relu_conv(state, f"blocks.{block}.{layer}", x)
        x = pooled(x)
        pools.append(x)
    x = conv(state, "score_fr", relu_conv(state, "fc7", relu_conv(state, "fc6", x)))
    x = up(state, "upscore2", x, 2) + conv(state, "score_pool4", pools[3])
    x = up(state, "upscore_pool4", x, 2) + conv(state, "score_pool3", pools[2])
    return up(state, "upscore8", x, 8)


def randomised(model):
    """Biases and up-convolutions random too, so that each of them matters."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.uniform_(-0.2, 0.2, generator=generator)
            elif name.startswith("upscore"):
                parameter.normal_(0, 0.2, generator=generator)
    return model.eval()


@pytest.mark.parametrize(
    ("model", "wanted", "size"),
    [
        (EncoderDecoder(3), numpy_encoder_decoder, (32, 48)),
        (EncoderDecoder(3), numpy_encoder_decoder, (16, 16)),
        (Fcn8s(32), numpy_fcn8s, (64, 96)),
        (Fcn8s(32), numpy_fcn8s, (32, 32)),
    ],
    ids=["encoder_decoder", "encoder_decoder_least", "fcn8s", "fcn8s_least"],
)
def test_an_independent_implementation_agrees(model, wanted, size, picture):
    x = picture(*size)
    model = randomised(model)
    expected = wanted(
        {name: tensor.double().numpy() for name, tensor in model.state_dict().items()}, x[0].astype(float)
    )
    with torch.inference_mode():
        got = model(torch.from_numpy(x))[0].numpy()
    assert expected.std() > 0.02
    assert np.abs(got - expected).max() < 2e-5 * max(1, np.abs(expected).max())


def test_widths_of_the_encoder_decoder_double_down_to_512():
    with torch.device("meta"):
        model = EncoderDecoder()
    assert [stage.conv1.out_channels for stage in model.encoder] == [32, 64, 128, 256, 512]
    assert [stage.conv0.in_channels for stage in model.decoder] == [512, 256, 128, 64]


@pytest.fixture(scope="module")
def fcn8s():
    """Half a gigabyte: made once."""
    before = torch.get_rng_state()
    model = create_model("fcn8s")
    assert torch.equal(torch.get_rng_state(), before)
    return model


def sane(model, picture):
    with torch.inference_mode():
        y = model(torch.from_numpy(picture(64, 96)))
    return y.abs().max() < 4 and y.std((0, 2, 3)).min() > 0.02


def test_untrained_fcn8s_neither_explodes_nor_dies_out(fcn8s, picture):
    assert sane(fcn8s, picture)
    assert fcn8s.fc6.weight.shape == (4096, 512, 7, 7)
    assert fcn8s.fc6.weight[::64].std().item() == pytest.approx((2 / (512 * 49)) ** 0.5, rel=1e-2)


def test_untrained_encoder_decoder_neither_explodes_nor_dies_out(picture):
    before = torch.get_rng_state()
    model = create_model("encoder_decoder")
    assert sane(model, picture)
    assert torch.equal(torch.get_rng_state(), before)
    # U-Net, section 3: standard deviation sqrt(2 / N), N incoming nodes.
    assert model.encoder[3].conv1.weight.std().item() == pytest.approx((2 / (256 * 9)) ** 0.5, rel=1e-2)


@pytest.mark.parametrize(("name", "stride"), [("upscore2", 2), ("upscore_pool4", 2), ("upscore8", 8)])
def test_up_convolutions_start_as_bilinear_interpolation(name, stride):
    model = Fcn8s(64)
    ramp = torch.arange(6.0).expand(1, 3, 6, 6) * torch.tensor([1.0, 2.0, -1.0]).view(3, 1, 1)
    with torch.inference_mode():
        y = getattr(model, name)(ramp)
        wanted = torch.nn.functional.interpolate(ramp, scale_factor=stride, mode="bilinear", align_corners=False)
    inner = slice(stride, -stride)  # zeros beyond the border count there, in place of the border itself
    assert torch.allclose(y[..., inner, inner], wanted[..., inner, inner], atol=1e-5)
