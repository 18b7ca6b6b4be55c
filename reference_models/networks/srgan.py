"""The networks of SRGAN: the generator that is deployed, and what trains it (discriminator, VGG content loss).

Generator: float32 NCHW planes R, G, B in [0, 1] → four times as high and wide in [-1, 1], not clipped.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reference_models.errors import UserError
from reference_models.networks.srcnn import pass_picture_
from reference_models.weights import mismatch

if TYPE_CHECKING:
    import numpy as np

EPSILON = 1e-5
"""Of batch normalisation. The paper states none; torch's default, which weights trained with torch expect."""


def _conv(planes_in: int, planes_out: int, size: int, stride: int = 1, bias: bool = True) -> nn.Conv2d:
    return nn.Conv2d(planes_in, planes_out, size, stride, padding=size // 2, bias=bias)


def _norm(width: int, folded: bool) -> nn.Module:
    return nn.Identity() if folded else nn.BatchNorm2d(width, eps=EPSILON)


class ResidualBlock(nn.Module):
    """x + norm(conv(prelu(norm(conv(x))))): (N, width, H, W) → the same. Source: figure 4 of the paper."""

    def __init__(self, width: int, folded: bool) -> None:
        super().__init__()
        self.conv1 = _conv(width, width, 3, bias=folded)
        self.norm1 = _norm(width, folded)
        self.activation = nn.PReLU(width)
        self.conv2 = _conv(width, width, 3, bias=folded)
        self.norm2 = _norm(width, folded)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.norm2(self.conv2(self.activation(self.norm1(self.conv1(x)))))


class Enlarging(nn.Module):
    """Sub-pixel convolution: (N, width, H, W) → (N, width, 2 H, 2 W). Source: figure 4 of the paper."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = _conv(width, 4 * width, 3)
        self.shuffle = nn.PixelShuffle(2)
        self.activation = nn.PReLU(width)

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(self.shuffle(self.conv(x)))


class SrResNet(nn.Module):
    """The generator: 9x9, PReLU, residual blocks, 3x3 and norm with a skip over all blocks, two enlargings, 9x9.

    Input: (N, 3, H, W) float32 R, G, B in [0, 1], any H, W >= 1. Output: (N, 3, 4 H, 4 W) in [-1, 1], linear, since
    figure 4 ends in a convolution (many implementations add tanh).

    The paper trained on planes in the order B, G, R; R, G, B here, as later implementations: the order is a matter of
    the weights alone, of which the authors released none. It leaves open: PReLU has a slope per channel (He et al.,
    whom it cites); convolutions before a norm have no bias, which the norm would take away; zeros beyond the border.

    `batch_norm="folded"` is the network without norms, its convolutions with biases: `fold_batch_norm` makes it.

    Untrained weights (fixed seed): those of `pass_picture_`; the residual blocks add little; black is -1, white is 1.

    Source: section 2.1 of the paper and figure 4; section 3.2 for 16 blocks and the ranges.
    """

    @torch.random.fork_rng(devices=[])
    def __init__(self, blocks: int = 16, width: int = 64, batch_norm: str = "folded") -> None:
        super().__init__()
        folded = batch_norm == "folded"
        self.first = _conv(3, width, 9)
        self.activation = nn.PReLU(width)
        self.blocks = nn.ModuleList(ResidualBlock(width, folded) for _ in range(blocks))
        self.conv = _conv(width, width, 3, bias=folded)
        self.norm = _norm(width, folded)
        self.enlarging = nn.ModuleList(Enlarging(width) for _ in range(2))
        self.last = _conv(width, 3, 9)
        self._initialise(torch.Generator().manual_seed(0))

    @torch.no_grad()
    def _initialise(self, generator: torch.Generator) -> None:
        pass_picture_(self.first, generator, planes=3)
        for conv in (m for m in (*self.blocks.modules(), self.conv) if isinstance(m, nn.Conv2d)):
            # Two in a row add 4 % to a block's input, and the 3x3 after all blocks 20 %.
            conv.weight.normal_(0, 0.2 * conv.weight[0].numel() ** -0.5, generator=generator)
            if conv.bias is not None:
                conv.bias.zero_()
        for module in self.enlarging:
            assert isinstance(module, Enlarging)
            pass_picture_(module.conv, generator, planes=3, copies=4)
        pass_picture_(self.last, generator, planes=3, value=2.0)
        assert self.last.bias is not None
        self.last.bias.fill_(-1)

    def forward(self, x: Tensor) -> Tensor:
        x = first = self.activation(self.first(x))
        for block in self.blocks:
            x = block(x)
        x = first + self.norm(self.conv(x))
        for enlarging in self.enlarging:
            x = enlarging(x)
        return self.last(x)


def fold_batch_norm(network: SrResNet) -> SrResNet:
    """A network without norms that gives what `network` gives in eval mode: float32 on the CPU, in eval mode."""
    state = {name: tensor.detach().cpu().numpy() for name, tensor in network.state_dict().items()}
    width = network.first.out_channels
    folded = SrResNet(len(network.blocks), width, "folded")
    folded.load_state_dict({name: torch.from_numpy(array) for name, array in _folded(state).items()})
    return folded.eval()


def state_from_trained(
    tensors: Mapping[str, np.ndarray], blocks: int, width: int, batch_norm: str
) -> dict[str, np.ndarray]:
    """State of the network asked for, from that of a trained SrResNet with its norms: folded, or as it is.

    Raises:
        UserError: tensors are missing, misshapen, of a wrong dtype, not finite, or belong to no layer; all are named.
    """
    import numpy as np

    trained = SrResNet(blocks, width, "kept").state_dict()
    # Inference uses no counters: a file may lack them.
    counters = {name: np.zeros((), np.int64) for name, tensor in trained.items() if not tensor.is_floating_point()}
    tensors = {**tensors, **counters}
    problem = mismatch(tensors, {name: tuple(tensor.shape) for name, tensor in trained.items()}, list(counters))
    if problem:
        raise UserError(
            problem,
            f"the {len(trained)} tensors of an SRResNet of {blocks} blocks of {width} channels with batch norm",
            "Check that this file belongs to the model asked for",
        )
    if batch_norm == "folded":
        return _folded(tensors)
    return {name: np.array(tensors[name], order="C") for name in trained}


def _folded(state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Convolutions with the affine map of the norm that follows them; `norm1` belongs to `conv1`, and so on.

    gamma * (conv(x, w) - mean) / sqrt(var + eps) + beta = conv(x, scale * w) + beta - scale * mean, in float64.
    """
    import numpy as np

    norms = [name.removesuffix(".running_mean") for name in state if name.endswith(".running_mean")]
    folded = {n: np.array(a, np.float32) for n, a in state.items() if n.rpartition(".")[0] not in norms}
    for norm in norms:
        gamma, beta, mean, variance = (
            state[f"{norm}.{part}"].astype(np.float64) for part in ("weight", "bias", "running_mean", "running_var")
        )
        scale = gamma / np.sqrt(variance + EPSILON)
        conv = norm.replace("norm", "conv")
        folded[f"{conv}.weight"] = (state[f"{conv}.weight"] * scale[:, None, None, None]).astype(np.float32)
        folded[f"{conv}.bias"] = (beta - scale * mean).astype(np.float32)
    return folded


class Discriminator(nn.Module):
    """Tells pictures from generated ones: (N, 3, side, side) in [-1, 1] → (N, 1) probability of a real one.

    Eight 3x3 convolutions, every second one of stride 2, leaky ReLU 0.2, batch norm after all but the first, then two
    dense layers. The dense layers fix the size: `side` is a multiple of 16, 96 in the paper.

    Source: section 2.1 of the paper and figure 4.
    """

    LAYERS = ((64, 1), (64, 2), (128, 1), (128, 2), (256, 1), (256, 2), (512, 1), (512, 2))
    """Channels and stride."""

    @torch.random.fork_rng(devices=[])
    def __init__(self, side: int = 96) -> None:
        super().__init__()
        planes = [3, *(width for width, _ in self.LAYERS)]
        self.convs = nn.ModuleList(
            _conv(planes[i], width, 3, stride, bias=i == 0) for i, (width, stride) in enumerate(self.LAYERS)
        )
        self.norms = nn.ModuleList(_norm(width, i == 0) for i, (width, _) in enumerate(self.LAYERS))
        self.dense1 = nn.Linear(planes[-1] * (side // 16) ** 2, 1024)
        self.dense2 = nn.Linear(1024, 1)
        generator = torch.Generator().manual_seed(0)
        for module in (*self.convs, self.dense1, self.dense2):
            assert isinstance(module, nn.Conv2d | nn.Linear)
            nn.init.kaiming_normal_(module.weight, 0.2, generator=generator)
            if module.bias is not None:
                nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:
        return torch.sigmoid(self.logits(x))

    def logits(self, x: Tensor) -> Tensor:
        """(N, 1) log-odds: for losses, whose logarithm of a probability would lose its gradient near 0 and 1."""
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = F.leaky_relu(norm(conv(x)), 0.2)
        return self.dense2(F.leaky_relu(self.dense1(x.flatten(1)), 0.2))


class VggContentLoss(nn.Module):
    """Mean squared distance of VGG19 feature maps of two pictures: twice (N, 3, H, W) in [-1, 1] → a scalar.

    Maps after the activation, divided by 12.75 as the paper does. The mean runs over positions and channels; equation 5
    leaves the channels open. Pictures are brought to the mean and deviation that torchvision's weights were trained
    with. The loss has no parameters to train: VGG's are fixed.

    Args:
        state: tensors named as in torchvision's vgg19, `features.0.weight` and so on; what the layer does not need
            is left out. Nothing is downloaded.
        layer: `5_4`, the paper's SRGAN, or `2_2`.

    Raises:
        UserError: tensors are missing, misshapen, not float or not finite.

    Source: section 2.2.1 of the paper, equation 5, and section 3.2; Simonyan, Zisserman, Very Deep Convolutional
        Networks for Large-Scale Image Recognition, configuration E, https://arxiv.org/abs/1409.1556
    """

    STAGES = ((64, 2), (128, 2), (256, 4), (512, 4), (512, 4))
    """Channels and number of 3x3 convolutions before each max-pooling."""
    RESCALING = 1 / 12.75
    mean: Tensor
    deviation: Tensor

    @torch.random.fork_rng(devices=[])
    def __init__(self, state: Mapping[str, Tensor], layer: str = "5_4") -> None:
        super().__init__()
        if layer not in {"5_4", "2_2"}:
            raise UserError(f"VGG layer `{layer}`", "5_4 or 2_2", "The paper uses 5_4")
        self.features = _vgg(self.STAGES[: int(layer[0])])
        wanted = {f"features.{name}": tensor for name, tensor in self.features.state_dict().items()}
        used = {name: state[name].detach().cpu() for name in wanted if name in state}
        problem = mismatch(
            {name: tensor.numpy() for name, tensor in used.items()}, {n: tuple(t.shape) for n, t in wanted.items()}
        )
        if problem:
            raise UserError(problem, "the feature layers of VGG19", "Give the state dict of torchvision's vgg19")
        self.load_state_dict(used)
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("deviation", torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1), persistent=False)
        self.requires_grad_(False)

    def forward(self, generated: Tensor, original: Tensor) -> Tensor:
        return F.mse_loss(self.maps(generated), self.maps(original))

    def maps(self, x: Tensor) -> Tensor:
        """Rescaled feature maps of pictures in [-1, 1]."""
        return self.RESCALING * self.features(((x + 1) / 2 - self.mean) / self.deviation)


def _vgg(stages: tuple[tuple[int, int], ...]) -> nn.Sequential:
    """VGG19 up to the last activation of these stages, numbered as torchvision does."""
    layers: list[nn.Module] = []
    planes = 3
    for width, convs in stages:
        for _ in range(convs):
            layers += [_conv(planes, width, 3), nn.ReLU()]
            planes = width
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers[:-1])
