"""SRGAN's losses: VGG's features in place of pixels, and a discriminator that learns beside the generator.

VGG19's weights are the user's: `--vgg FILE`, torchvision's state dict as .pth or .safetensors. None ship, and nothing
is downloaded.

Source: section 2.2 of the SRGAN paper, equations 3, 5 and 6; https://arxiv.org/abs/1609.04802
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from reference_models.errors import UserError
from reference_models.networks.srgan import Discriminator, VggContentLoss
from reference_models.spec import ModelSpec
from reference_models.training.loop import Critic
from reference_models.weights import read_tensors

LOSSES = ("perceptual", "adversarial")
ADVERSARIAL_SHARE = 1e-3
"""Of the discriminator's opinion, beside the content loss: equation 3."""
SIDE_MULTIPLE = 16
"""Of the crop: the discriminator halves its pictures four times, VGG's layer 5_4 too."""
MOST_PX = 256
"""Side of a crop: the discriminator's dense layer has 134 million weights then."""


def why_not(spec: ModelSpec, crop_px: int) -> str:
    """Why these losses cannot judge a network's crops, in a few words; empty where they can."""
    if spec.output not in {"rgb", "bgr"}:
        return f"VGG sees pictures of three colours, and model `{spec.name}` makes {spec.output}"
    if crop_px % SIDE_MULTIPLE or crop_px > MOST_PX:
        return f"--crop {crop_px} is no multiple of {SIDE_MULTIPLE} up to {MOST_PX}"
    return ""


def read_vgg(path: Path) -> VggContentLoss:
    """The content loss with the features of this file; no code in it is run.

    Raises:
        UserError: it cannot be read, or holds other tensors.
    """
    try:
        features = {name: array for name, array in read_tensors(path).items() if name.startswith("features.")}
        return VggContentLoss({name: torch.from_numpy(np.array(array)) for name, array in features.items()})
    except UserError as error:
        raise UserError(f"`--vgg {path}`: {error.what}", error.expected, error.todo) from None


@dataclass(frozen=True)
class Pictures:
    """Planes of a network → R, G, B in [-1, 1], as VGG and discriminator want them."""

    spec: ModelSpec

    def __call__(self, output: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Both, (N, 3, H, W), grey where the target is NaN: there nothing is judged, and the mean is smaller."""
        low, high = self.spec.output_range
        known = ~target.isnan()
        made, wanted = (torch.where(known, (planes - low) * (2 / (high - low)) - 1, 0.0) for planes in (output, target))
        return (made.flip(1), wanted.flip(1)) if self.spec.output == "bgr" else (made, wanted)


@dataclass(frozen=True)
class Perceptual:
    """Mean squared distance of VGG19's features, after the activation of layer 5_4: equation 5."""

    pictures: Pictures
    content: VggContentLoss

    def __call__(self, output: Tensor, target: Tensor) -> Tensor:
        loss: Tensor = self.content(*self.pictures(output, target))
        return loss


@dataclass(frozen=True)
class Adversarial:
    """Content, and a thousandth of what the discriminator says: equations 3 and 6, minimised as -log D."""

    perceptual: Perceptual
    discriminator: Discriminator

    def __call__(self, output: Tensor, target: Tensor) -> Tensor:
        made, wanted = self.perceptual.pictures(output, target)
        return self.perceptual.content(made, wanted) + ADVERSARIAL_SHARE * self._as(made, real=True)

    def critics_loss(self, output: Tensor, target: Tensor) -> Tensor:
        """Of the discriminator: both kinds of pictures count half. log 2 = 0.69 where it cannot tell them apart."""
        made, wanted = self.perceptual.pictures(output, target)
        return 0.5 * (self._as(wanted, real=True) + self._as(made, real=False))

    def _as(self, pictures: Tensor, real: bool) -> Tensor:
        logits = self.discriminator.logits(pictures)
        return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, float(real)))


def losses(
    name: str, spec: ModelSpec, content: VggContentLoss, crop_px: int, rate: float
) -> tuple[Callable[[Tensor, Tensor], Tensor], Critic | None]:
    """The loss of this name, and what learns beside the network; on the device of `content`."""
    perceptual = Perceptual(Pictures(spec), content)
    if name == "perceptual":
        return perceptual, None
    discriminator = Discriminator(crop_px).to(content.mean.device).train()
    adversarial = Adversarial(perceptual, discriminator)
    optimiser = torch.optim.Adam(discriminator.parameters(), rate, foreach=True)
    return adversarial, Critic(discriminator, optimiser, adversarial.critics_loss)
