"""Networks built on pixel deconvolution: the U-Net that scores classes, and a decoder that makes pictures of noise."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reference_models.networks.can import picture_statistics
from reference_models.networks.pixel_dcn import UPSAMPLING, IPixelCL, SameConv

EPSILON = 1e-5
"""Of the batch normalisation in utils/ops.py of the published code."""

_CONVOLUTION: dict[str, type[nn.Module]] = {"conv": SameConv, "ipixel_cl": IPixelCL}


@torch.no_grad()
def initialise_(model: nn.Module, gain: float) -> None:
    """Sets every kernel to normal values of variance gain / fan-in, from a fixed seed; other tensors stay."""
    generator = torch.Generator().manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            fan_in = module.weight[0].numel()
        elif isinstance(module, nn.ConvTranspose2d):
            fan_in = module.weight[:, 0].numel() // (module.stride[0] * module.stride[1])
        else:
            continue
        module.weight.normal_(0, (gain / fan_in) ** 0.5, generator=generator)


class Stage(nn.Module):
    """A layer, batch normalisation with the picture's own statistics (beta, no gamma), and ReLU unless it is the last.

    Source: utils/ops.py of the published code, which leaves normalisation in training mode at test time. Its
    convolutions have a bias in front of the normalisation; taking the mean off cancels it, so there is none here.
    """

    def __init__(self, layer: nn.Module, width: int, rectify: bool = True) -> None:
        super().__init__()
        self.layer = layer
        self.beta = nn.Parameter(torch.zeros(width))
        self.rectify = rectify

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer(x)
        return self.normalised(x, *picture_statistics(x))

    def normalised(self, x: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
        """The layer's output under (N, C, 1, 1) statistics, rectified."""
        x = (x - mean) * torch.rsqrt(variance + EPSILON) + self.beta.view(1, -1, 1, 1)
        return F.relu(x) if self.rectify else x


class PixelDcn(nn.Module):
    """U-Net: (N, 3, H, W) float32 RGB in [0, 1] → (N, classes, H, W) scores; H, W multiples of 2^(depth - 1).

    - Encoder: depth - 1 blocks of two 3x3 stages, `width` planes in the first and twice as many in every next one, each
      block followed by 2x2 max pooling. Bottom: two stages, to twice the planes and back.
    - Decoder: up-sampling stage that keeps the planes, concatenation [up-sampled, block of the encoder], a stage with
      the planes of the up-sampled half (3x3, or IPixelCL), a 3x3 stage to half of them; in the last block to the
      classes, normalised but not rectified.
    - Statistics are taken per picture of the batch.
    - Untrained: normal kernels of variance 1 / fan-in (fixed seed), beta 0. The published code takes deviation 1 nearly
      everywhere; the normalisation behind every layer removes the scale, and FP16 likes small numbers.

    Source: network.py and utils/ops.py of the published code (2D); its default of 16 planes and 5 levels.
    """

    @torch.random.fork_rng(devices=[])
    def __init__(
        self,
        upsampling: str = "pixel_dcl",
        convolution: str = "conv",
        depth: int = 5,
        width: int = 16,
        classes: int = 21,
    ) -> None:
        super().__init__()
        up, conv = UPSAMPLING[upsampling], _CONVOLUTION[convolution]
        stages: dict[str, Stage] = {}

        def add(name: str, layer: type[nn.Module], planes_in: int, planes: int, rectify: bool = True) -> int:
            stages[name] = Stage(layer(planes_in, planes, 3), planes, rectify)
            return planes

        planes = 3
        for level in range(depth - 1):
            planes = add(f"down{level}_conv1", SameConv, planes, width << level)
            planes = add(f"down{level}_conv2", SameConv, planes, planes)
        add("bottom_conv1", SameConv, planes, 2 * planes)
        add("bottom_conv2", SameConv, 2 * planes, planes)
        for level in reversed(range(depth - 1)):
            add(f"up{level}_conv1", up, planes, planes)
            add(f"up{level}_conv2", conv, planes + (width << level), planes)
            planes = add(f"up{level}_conv3", SameConv, planes, planes // 2 if level else classes, rectify=level > 0)
        self.stages = nn.ModuleDict(stages)
        initialise_(self, 1.0)

    def forward(self, x: Tensor) -> Tensor:
        return _through_unet(self.stages.values(), x)

    def _stages(self) -> list[Stage]:
        return [stage for stage in self.stages.values() if isinstance(stage, Stage)]

    def statistics(self, x: Tensor) -> Tensor:
        """Mean and variance that every normalisation sees: (N, 3, H, W) → (N, layers, 2, planes of the widest layer).

        Narrower layers are filled up with zeros.
        """
        found: list[Tensor] = []
        widest = max(len(stage.beta) for stage in self._stages())

        def recorded(stage: Stage) -> Callable[[Tensor], Tensor]:
            def run(x: Tensor) -> Tensor:
                x = stage.layer(x)
                mean, variance = picture_statistics(x)
                found.append(F.pad(torch.stack((mean, variance), 1).flatten(2), (0, widest - x.shape[1])))
                return stage.normalised(x, mean, variance)

            return run

        _through_unet([recorded(stage) for stage in self._stages()], x)
        return torch.stack(found, 1)

    def affines(self, statistics: Tensor) -> list[list[Tensor]]:
        """Scale and offset for (N, layers, 2, widest) statistics: per picture and layer (2, planes of this layer)."""
        made = []
        for picture in statistics:
            rows = []
            for stage, (mean, variance) in zip(self._stages(), picture, strict=True):
                planes = len(stage.beta)
                scale = torch.rsqrt(variance[:planes] + EPSILON)
                rows.append(torch.stack((scale, stage.beta - scale * mean[:planes])))
            made.append(rows)
        return made

    def folded(self) -> FoldedPixelDcn:
        """This network with normalisation left to the convolutions, folded for scale 1 and offset 0."""
        return FoldedPixelDcn(self)


def _through_unet(stages: Iterable[Callable[[Tensor], Tensor]], x: Tensor) -> Tensor:
    """The wiring: `stages` are those of the encoder's blocks, the bottom and the decoder's blocks, in this order."""
    todo = list(stages)
    levels = (len(todo) - 2) // 5  # two stages down and three up for every level
    kept = []
    for level in range(levels):
        x = todo[2 * level + 1](todo[2 * level](x))
        kept.append(x)
        x = F.max_pool2d(x, 2)
    x = todo[2 * levels + 1](todo[2 * levels](x))
    for level in range(levels):
        up, conv2, conv3 = todo[2 * levels + 2 + 3 * level :][:3]
        x = conv3(conv2(torch.cat((up(x), kept.pop()), 1)))
    return x


class FoldedPixelDcn(nn.Module):
    """PixelDcn for fixed statistics; `refit_rule` names the tensors that take scale (axis 0) and offset of each layer.

    3x3 convolutions take them as weight and bias. The other layers are followed by scale and offset per plane: in
    PixelDCL and IPixelDCL later maps are made of earlier ones, which would all have to be scaled and scaled back.
    """

    def __init__(self, published: PixelDcn) -> None:
        super().__init__()
        self.stages = nn.ModuleDict({name: _folded(stage) for name, stage in published.stages.items()})

    def forward(self, x: Tensor) -> Tensor:
        return _through_unet(self.stages.values(), x)

    @property
    def refit_rule(self) -> tuple[tuple[str, str], ...]:
        """Per layer the names of its weight (times scale, along axis 0) and of its bias (which becomes offset)."""
        prefixes = (
            f"stages.{name}.layer" if isinstance(stage, FoldedStage) else f"stages.{name}"
            for name, stage in self.stages.items()
        )
        return tuple((f"{prefix}.weight", f"{prefix}.bias") for prefix in prefixes)


class FoldedStage(nn.Module):
    """3x3 convolution with bias, and ReLU unless it is the last."""

    def __init__(self, layer: SameConv, rectify: bool) -> None:
        super().__init__()
        self.layer = nn.utils.skip_init(nn.Conv2d, layer.in_channels, layer.out_channels, 3, padding=1)
        self.layer.weight.data.copy_(layer.weight.data)
        self.layer.bias.data.zero_()
        self.rectify = rectify

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer(x)
        return F.relu(x) if self.rectify else x


class ScaledStage(nn.Module):
    """Any layer, then weight (C, 1, 1, 1) times its planes plus bias (C), then ReLU."""

    def __init__(self, layer: nn.Module, width: int) -> None:
        super().__init__()
        self.layer = layer
        self.weight = nn.Parameter(torch.ones(width, 1, 1, 1))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.layer(x) * self.weight.view(1, -1, 1, 1) + self.bias.view(1, -1, 1, 1))


def _folded(stage: nn.Module) -> FoldedStage | ScaledStage:
    assert isinstance(stage, Stage)
    if isinstance(stage.layer, SameConv):
        return FoldedStage(stage.layer, stage.rectify)
    return ScaledStage(stage.layer, len(stage.beta))


class PixelVaeDecoder(nn.Module):
    """Decoder of a variational autoencoder: (N, latent, H, W) standard normal → (N, 3, 16H, 16W) RGB in [0, 1].

    3x3 convolution to 16 * width planes, ReLU; four up-sampling layers, each to half the planes, ReLU; 3x3 convolution
    to R, G, B, sigmoid. Convolutions have biases, up-sampling layers none. A 4x4 latent map gives the 64x64 of a face.

    Untrained: He's initialisation (fixed seed), biases 0.

    Source: the paper for the task: faces of CelebA from a standard VAE whose deconvolutions are replaced
    by pixel layers. Depth, widths and a latent map in place of a vector with a dense layer are ours: the map lets any
    size be made.
    """

    @torch.random.fork_rng(devices=[])
    def __init__(self, upsampling: str = "pixel_dcl", latent: int = 64, width: int = 16) -> None:
        super().__init__()
        up = UPSAMPLING[upsampling]
        self.first = nn.Conv2d(latent, 16 * width, 3, padding=1)
        self.ups = nn.ModuleList(
            up(2 * planes, planes, 3, F.relu) for planes in (8 * width, 4 * width, 2 * width, width)
        )
        self.last = nn.Conv2d(width, 3, 3, padding=1)
        initialise_(self, 2.0)
        for conv in (self.first, self.last):
            assert conv.bias is not None
            nn.init.zeros_(conv.bias)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.first(x))
        for up in self.ups:
            x = up(x)
        return torch.sigmoid(self.last(x))
