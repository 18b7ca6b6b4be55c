"""The CAN network against an independent float64 NumPy implementation, published outputs, and its own folding."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from reference_models import create_model, get
from reference_models.colour import picture_from_tensor, tensor_from_picture
from reference_models.networks.can import AdaptiveNorm, BatchNorm, Can, CanWithoutNorm, picture_statistics
from reference_models.networks.statistics import Foldable, ThumbnailAffines, calibrated_affines, fold_
from reference_models.pictures import calibration_pictures, read_picture

OPERATORS = ["L0_smoothing", "Pencil_drawing", "Multiscale_tone_manipulation", "Dark_channel_dehazing"]
SMALL = {"width": 5, "dilations": (1, 2, 4, 1)}


def numpy_conv(x, weight, dilation):
    """(C, H, W) float64 with an OIHW kernel, zeros around, same size out."""
    reach = dilation * (weight.shape[2] // 2)
    padded = np.pad(x, ((0, 0), (reach, reach), (reach, reach)))
    height, width = x.shape[1:]
    y = np.zeros((weight.shape[0], height, width))
    for row, column in np.ndindex(*weight.shape[2:]):
        part = padded[:, row * dilation : row * dilation + height, column * dilation : column * dilation + width]
        y += np.einsum("oi,ihw->ohw", weight[:, :, row, column], part)
    return y


def numpy_can(state, x, dilations):
    """(C, H, W) through the network as the release describes it; returns the output and each layer's statistics."""
    state, statistics = {name: tensor.double().numpy() for name, tensor in state.items()}, []
    x = x.astype(np.float64)
    for i, dilation in enumerate(dilations):
        x = numpy_conv(x, state[f"convs.{i}.weight"], dilation)
        if f"norms.{i}.beta" not in state:
            x = x + state[f"convs.{i}.bias"][:, None, None]
            x = np.maximum(0.2 * x, x)
            continue
        pixels = x.shape[1] * x.shape[2]
        mean = x.sum((1, 2)) / pixels
        variance = ((x - mean[:, None, None]) ** 2).sum((1, 2)) / pixels
        statistics.append((mean, variance))
        normal = (x - mean[:, None, None]) / np.sqrt(variance + 0.001)[:, None, None]
        normal += state[f"norms.{i}.beta"][:, None, None]
        w0, w1 = (state.get(f"norms.{i}.{name}") for name in ("scale_identity", "scale_norm"))
        x = normal if w0 is None else w0 * x + w1 * normal
        x = np.maximum(0.2 * x, x)
    return numpy_conv(x, state["last.weight"], 1) + state["last.bias"][:, None, None], np.array(statistics)


def random_ablation(name, seed=0):
    """Random weights in a network without adaptive normalisation, in which every tensor matters."""
    model, generator = create_model(name), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            deviation = parameter[0].numel() ** -0.5 if parameter.ndim == 4 else 0.3
            parameter.normal_(0, deviation, generator=generator)
        for conv in model.convs:  # as in `randomise`: far taps meet zeros where the picture is small
            conv.weight[:, :, 1, 1] *= 2
    return model


def with_planes(x, name, **options):
    """(1, 3, H, W) → the network's input: its constant planes behind."""
    constant = [np.full((1, 1, *x.shape[2:]), value, np.float32) for value in get(name, options).constant_planes]
    return np.concatenate([x, *constant], 1)


def run(model, x):
    with torch.inference_mode():
        return model(torch.from_numpy(x)).numpy()


@pytest.mark.parametrize("name", ["can24", "can32"])
@pytest.mark.parametrize(("height", "width"), [(48, 64), (7, 5), (1, 1), (1, 6)])
def test_random_weights_give_what_an_independent_implementation_gives(name, height, width, randomise, picture):
    can = randomise(create_model(name), seed=1)
    x = picture(height, width)
    wanted, _ = numpy_can(can.state_dict(), x[0], get(name).options["dilations"])
    assert np.abs(run(can, x)[0] - wanted).max() < 2e-5 * max(1, np.abs(wanted).max())


def test_statistics_are_those_of_an_independent_implementation(randomise, picture):
    can, x = randomise(Can(**SMALL)), picture(7, 9)
    _, wanted = numpy_can(can.state_dict(), x[0], SMALL["dilations"])
    with torch.inference_mode():
        got = can.statistics(torch.from_numpy(x))
    assert got.shape == (1, 4, 2, 5)
    assert np.allclose(got[0].numpy(), wanted, atol=1e-5)


def test_normalisation_has_epsilon_1e_3_and_biased_variance():
    norm = AdaptiveNorm(1)
    with torch.no_grad():
        norm.scale_identity.zero_()
        norm.scale_norm.fill_(1)
        norm.beta.fill_(0.25)
        side = 1e-3**0.5  # variance 1e-3, as large as epsilon; with n - 1 in the divisor it would be 2e-3
        y = norm(torch.tensor([0.7 - side, 0.7 + side]).view(1, 1, 1, 2))
        flat = norm(torch.full((1, 1, 3, 3), 0.7))
    assert torch.allclose(y.flatten(), torch.tensor([0.25 - 0.5**0.5, 0.25 + 0.5**0.5]), atol=1e-5)
    assert torch.allclose(flat, torch.full((1, 1, 3, 3), 0.25), atol=1e-5)  # beta alone: x is its own mean


def test_both_branches_of_the_normalisation_have_their_own_scale():
    norm = AdaptiveNorm(2)
    x = torch.rand(1, 2, 4, 6)
    assert torch.equal(norm(x), x)  # as initialised: identity
    with torch.no_grad():
        norm.scale_identity.fill_(0.5)
        norm.scale_norm.fill_(2)
        norm.beta.copy_(torch.tensor([0.1, -0.3]))
        batch_norm = torch.nn.functional.batch_norm(x, None, None, bias=norm.beta, training=True, eps=1e-3)
        assert torch.allclose(norm(x), 0.5 * x + 2 * batch_norm, atol=1e-5)


def test_the_variance_of_a_bright_plane_with_little_contrast_does_not_cancel():
    x = 1000 + 0.1 * torch.rand(1, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    mean, variance = picture_statistics(x)
    assert mean.item() == pytest.approx(x.double().mean().item(), rel=1e-6)
    assert variance.item() == pytest.approx(x.double().var(correction=0).item(), rel=1e-2)


def test_leaky_relu_has_slope_0_2():
    can = Can(3, (1,))  # identity kernels
    with torch.no_grad():
        can.last.weight.copy_(torch.eye(3).view(3, 3, 1, 1))
        y = can(torch.tensor([-1.0, 0.0, 2.0]).view(1, 3, 1, 1))
    assert torch.allclose(y.flatten(), torch.tensor([-0.2, 0.0, 2.0]))


@pytest.mark.parametrize("name", ["can24", "can32"])
def test_untrained_trunk_is_the_identity(name, picture):
    can, x = create_model(name), picture(9, 11)
    assert (x > 0).all()
    assert all(norm.scale_identity == 1 and norm.scale_norm == 0 and not norm.beta.any() for norm in can.norms)
    weight = can.last.weight.detach().numpy()[:, :3, 0, 0]
    assert np.allclose(run(can, x)[0], np.einsum("oi,ihw->ohw", weight, x[0]), atol=1e-6)
    bound = (6 / (can.last.in_channels + 3)) ** 0.5  # Glorot and Bengio 2010, equation 16
    assert 0.8 * bound < can.last.weight.abs().max() < bound
    assert not can.last.bias.any()


def test_every_picture_of_a_batch_has_its_own_statistics(randomise, picture):
    can = randomise(Can(**SMALL))
    x = np.concatenate([picture(12, 17, 1), 0.2 * picture(12, 17, 2)])
    both, alone = run(can, x), [run(can, x[i : i + 1])[0] for i in range(2)]
    assert np.abs(both - np.stack(alone)).max() < 1e-5
    with torch.inference_mode():
        assert can.statistics(torch.from_numpy(x)).shape == (2, 4, 2, 5)
        assert torch.allclose(can.statistics(torch.from_numpy(x))[1:], can.statistics(torch.from_numpy(x[1:])))


@pytest.mark.parametrize("name", ["can24", "can32"])
@pytest.mark.parametrize(("height", "width"), [(48, 64), (7, 5)])
def test_folding_a_pictures_own_statistics_changes_nothing(name, height, width, randomise, picture):
    can, x = randomise(create_model(name), seed=2), picture(height, width)
    with torch.inference_mode():
        affines = can.affines(can.statistics(torch.from_numpy(x)))
    assert affines.shape == (1, len(can.convs), 2, can.last.in_channels)
    published, folded = run(can, x), run(fold_(can.folded(), affines[0]), x)
    assert np.abs(published - folded).max() < 1e-4 * max(1, np.abs(published).max())


def test_folding_leaves_the_network_as_it_was(randomise):
    can = randomise(Can(**SMALL))
    before = {name: tensor.clone() for name, tensor in can.state_dict().items()}
    fold_(can.folded(), torch.full((4, 2, 5), 3.0))
    assert all(torch.equal(before[name], tensor) for name, tensor in can.state_dict().items())


def test_the_refit_rule_names_every_convolution_with_normalisation():
    folded = Can(**SMALL).folded()
    assert folded.refit_rule == tuple((f"convs.{i}.weight", f"convs.{i}.bias") for i in range(4))
    names = {name for pair in folded.refit_rule for name in pair}
    assert set(dict(folded.named_parameters())) - names == {"last.weight", "last.bias"}


# Ablations, and inputs of more than three planes


@pytest.mark.parametrize("name", ["can32_bn", "can32_no_norm"])
@pytest.mark.parametrize(("height", "width"), [(48, 64), (7, 5)])
def test_ablations_give_what_an_independent_implementation_gives(name, height, width, picture):
    can, x = random_ablation(name, seed=1), picture(height, width)
    wanted, _ = numpy_can(can.state_dict(), x[0], get(name).options["dilations"])
    assert wanted.std() > 0.05
    assert np.abs(run(can, x)[0] - wanted).max() < 2e-5 * max(1, np.abs(wanted).max())


def test_undilated_convolutions_give_what_an_independent_implementation_gives(randomise, picture):
    can, x = randomise(create_model("can32_plain_conv"), seed=1), picture(23, 31)
    wanted, _ = numpy_can(can.state_dict(), x[0], (1,) * 9)
    assert np.abs(run(can, x)[0] - wanted).max() < 2e-5 * max(1, np.abs(wanted).max())


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("can32_multi", {"operator": "pencil"}),
        ("can32_multi", {"operator": "tvl1"}),
        ("can32_param", {"parameter": 0.3}),
    ],
)
def test_constant_planes_are_planes_like_others(name, options, randomise, picture):
    can, x = randomise(create_model(name), seed=1), with_planes(picture(23, 31), name, **options)
    wanted, _ = numpy_can(can.state_dict(), x[0], get(name).options["dilations"])
    assert np.abs(run(can, x)[0] - wanted).max() < 2e-5 * max(1, np.abs(wanted).max())


def test_the_chosen_operator_changes_the_output(randomise, picture):
    can, x = randomise(create_model("can32_multi"), seed=1), picture(23, 31)
    outputs = [run(can, with_planes(x, "can32_multi", operator=o)) for o in ("l0_smoothing", "rof")]
    assert np.abs(outputs[0] - outputs[1]).max() > 1e-2


def test_batch_norm_is_torch_s_without_gamma_on_the_picture_s_statistics(picture):
    norm, x = BatchNorm(3), torch.from_numpy(picture(9, 7))
    with torch.no_grad():
        norm.beta.copy_(torch.tensor([0.1, -0.3, 0]))
        wanted = torch.nn.functional.batch_norm(x, None, None, bias=norm.beta, training=True, eps=1e-3)
        assert torch.allclose(norm(x), wanted, atol=1e-5)
    assert list(norm.state_dict()) == ["beta"]


@pytest.mark.parametrize("name", ["can32_bn", "can32_multi", "can32_param", "can32_plain_conv"])
def test_folding_is_exact_for_every_network_with_statistics(name, randomise, picture):
    can = random_ablation(name) if name == "can32_bn" else randomise(create_model(name), seed=2)
    x = with_planes(picture(48, 64), name)
    folded = fold_(can.folded(), calibrated_affines(can, [torch.from_numpy(x)]))
    published = run(can, x)
    assert np.abs(published - run(folded, x)).max() < 1e-4 * max(1, np.abs(published).max())
    assert not np.allclose(run(can, 0.5 * x), run(folded, 0.5 * x), atol=1e-2)
    assert folded.refit_rule == tuple((f"convs.{i}.weight", f"convs.{i}.bias") for i in range(9))


def test_a_thumbnail_of_a_flat_picture_has_its_statistics(picture):
    can, x = random_ablation("can32_bn"), np.repeat(np.repeat(picture(9, 11), 4, 2), 4, 3)
    small = torch.from_numpy(x[:, :, ::4, ::4].copy())
    with torch.inference_mode():
        got = ThumbnailAffines(can)(torch.from_numpy(x))
        wanted = can.affines(can.statistics(small))[0]
    assert torch.allclose(got, wanted, rtol=1e-3, atol=1e-3)


def test_without_normalisation_there_is_nothing_to_fold():
    assert not isinstance(create_model("can32_no_norm"), Foldable)
    assert isinstance(create_model("can32_bn"), Foldable)


@pytest.mark.parametrize("name", ["can32_no_norm", "can32_plain_conv"])
def test_untrained_ablations_are_the_identity_up_to_the_last_layer(name, picture):
    can, x = create_model(name), picture(9, 11)
    weight = can.last.weight.detach().numpy()[:, :3, 0, 0]
    assert np.allclose(run(can, x)[0], np.einsum("oi,ihw->ohw", weight, x[0]), atol=1e-6)


def test_making_a_network_leaves_the_callers_random_numbers_alone():
    before = torch.get_rng_state()
    Can(**SMALL).folded()
    CanWithoutNorm(**SMALL)
    assert torch.equal(torch.get_rng_state(), before)


# Published weights


@pytest.mark.parametrize("crop", ["000001_y400_x300_191x253", "000007_y600_x500_33x40"])
@pytest.mark.parametrize("operator", OPERATORS)
def test_published_float_outputs(originals, operator, crop):
    folder = originals / "can24_an"
    with np.load(folder / "float_crops" / f"{crop}.npz") as stored:
        x, wanted = stored["input_bgr_u8"], stored[f"output_bgr_f32__{operator}"]
    can = create_model("can24", str(folder / "weights" / f"{operator}.safetensors"))
    got = run(can, np.ascontiguousarray(x.transpose(2, 0, 1)[None] / np.float32(255), np.float32))
    assert np.abs(got[0].transpose(1, 2, 0) - wanted).max() < 2e-5


def psnr(a, b, peak):
    return 10 * np.log10(peak**2 / np.square(a.astype(np.float64) - b.astype(np.float64)).mean())


def full_picture(originals, number):
    return read_picture(originals / "can24_an" / "inputs" / f"{number}.png")


def db_to_published(originals, operator, number):
    can = create_model("can24", str(originals / "can24_an" / "weights" / f"{operator}.safetensors"))
    source = full_picture(originals, number)
    y = run(can, tensor_from_picture(source, get("can24")))
    published = read_picture(originals / "can24_an" / "outputs" / operator / f"{number}.png")
    return psnr(picture_from_tensor(y, get("can24"), source), published, 255)


def test_published_picture_at_full_size(originals):
    assert db_to_published(originals, "L0_smoothing", "000001") >= 85


@pytest.mark.slow
@pytest.mark.parametrize("number", ["000001", "000007"])
@pytest.mark.parametrize("operator", OPERATORS)
def test_all_published_pictures_at_full_size(originals, operator, number):
    assert db_to_published(originals, operator, number) >= (85 if operator == "L0_smoothing" else 80)


def statistics_db(originals, x):
    """PSNR of `thumbnail` and of `frozen` statistics against `image`, L0_smoothing."""
    can = create_model("can24", str(originals / "can24_an" / "weights" / "L0_smoothing.safetensors"))
    pictures = [tensor_from_picture(picture, get("can24")) for _, picture in calibration_pictures()]
    with torch.inference_mode():
        affines = {
            "thumbnail": ThumbnailAffines(can)(torch.from_numpy(x)),
            "frozen": calibrated_affines(can, map(torch.from_numpy, pictures)),
        }
    published = run(can, x)
    return {name: psnr(run(fold_(can.folded(), a), x), published, 1) for name, a in affines.items()}


@pytest.mark.slow
def test_what_other_statistics_cost_at_full_size(originals):
    db = statistics_db(originals, tensor_from_picture(full_picture(originals, "000001"), get("can24")))
    assert db["thumbnail"] > 48
    assert db["frozen"] > 40


def test_what_other_statistics_cost_on_a_part(originals):
    part = full_picture(originals, "000001")[500:860, 300:780]
    db = statistics_db(originals, tensor_from_picture(part, get("can24")))
    assert 40 < db["thumbnail"] < 70
    assert 30 < db["frozen"] < db["thumbnail"]
