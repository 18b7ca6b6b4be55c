"""The network of "Let there be Color!": lightness (1, 1, H, W) float32 in [0, 1] → colour planes in [0, 1], same size.

What the planes mean is in reference_models/lightness.py. Nothing is trained here; batch normalisation and the
classification head are there to train with.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from reference_models.errors import UserError
from reference_models.weights import mismatch

Space = Literal["lab", "rgb", "yuv"]

GLOBAL_SIDE_PX = 224
"""Side of the picture that the global features are taken from: section 3.2.2."""
CLASSES = 205
"""Scenes of the Places data set: section 3.3."""
FEATURES = 256
"""Global features of a picture, and mid-level features of a position: table 1."""
EPSILON = 1e-5
"""Default of batch normalisation in Torch7 and PyTorch."""
PLANES = {"lab": 2, "rgb": 3, "yuv": 2}

# Output channels and stride of the 3x3 convolutions: table 1.
_LOW = ((64, 2), (128, 1), (128, 2), (256, 1), (256, 2), (512, 1))
_GLOBAL = ((512, 2), (512, 1), (512, 2), (512, 1))
_MID = ((512, 1), (FEATURES, 1))


class Layer(nn.Module):
    """ReLU of a convolution or full connection, batch normalisation between them where `norm` is there."""

    def __init__(self, linear: nn.Conv2d | nn.Linear, batch_norm: bool) -> None:
        super().__init__()
        self.linear = linear
        width = linear.weight.shape[0]
        kind = nn.BatchNorm2d if isinstance(linear, nn.Conv2d) else nn.BatchNorm1d
        self.norm = kind(width, EPSILON) if batch_norm else None

    def forward(self, x: Tensor) -> Tensor:
        return self.activated(self.linear(x))

    def activated(self, x: Tensor) -> Tensor:
        return F.relu(x if self.norm is None else self.norm(x))

    def fold_(self) -> None:
        """Puts the norm into the linear map, in place: norm(Wx + b) = gain Wx + gain (b - mean) + beta."""
        if self.norm is not None:
            self.linear.weight, self.linear.bias = self._with_norm(self.linear.weight, self.linear.bias)
            self.norm = None

    def _with_norm(self, weight: Tensor, bias: Tensor | None) -> tuple[nn.Parameter, nn.Parameter]:
        norm = self.norm
        assert norm is not None
        assert norm.running_mean is not None
        assert norm.running_var is not None
        statistics = norm.running_mean, norm.running_var
        return fuse_conv_bn_weights(weight, bias, *statistics, norm.eps, norm.weight, norm.bias)


class Fusion(Layer):
    """ReLU(b + W [global; mid]) at every position, W of 256 x 512: section 3.2.4.

    W stands as its two halves, `features` for the global ones and `linear` for the mid-level ones. The first gives the
    same everywhere, so it is applied once and added: the features are never repeated over the picture, which at 4K
    would take 130 MB. The paper writes a general sigma; it is ReLU, as in all layers but the last.
    """

    def __init__(self, batch_norm: bool) -> None:
        super().__init__(nn.Conv2d(FEATURES, FEATURES, 1), batch_norm)
        self.features = nn.Conv2d(FEATURES, FEATURES, 1, bias=False)

    def forward(self, features: Tensor, mid: Tensor) -> Tensor:  # type: ignore[override]
        """(N, 256) global features and (N, 256, h, w) mid-level features → (N, 256, h, w)."""
        return self.activated(self.linear(mid) + self.features(features[..., None, None]))

    def fold_(self) -> None:
        if self.norm is not None:
            self.features.weight = self._with_norm(self.features.weight, None)[0]
        super().fold_()


class GlobalFeatures(nn.Module):
    """Low-level features of a 224x224 picture (N, 512, 28, 28) → (N, 512), which are classified, and (N, 256)."""

    def __init__(self, batch_norm: bool) -> None:
        super().__init__()
        self.convs = _convs(_LOW[-1][0], _GLOBAL, batch_norm)
        side = GLOBAL_SIDE_PX // 8 // 4
        self.full1 = _full(_GLOBAL[-1][0] * side * side, 1024, batch_norm)
        self.full2 = _full(1024, 512, batch_norm)
        self.full3 = _full(512, FEATURES, batch_norm)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        scene = self.full2(self.full1(self.convs(x).flatten(1)))
        return scene, self.full3(scene)


class Colours(nn.Module):
    """Fused features (N, 256, h, w) → colour planes (N, planes, 8h, 8w) in [0, 1]: section 3.2.5.

    The last convolution works at half of the picture's size, as published; its planes are then doubled. Every doubling
    repeats pixels (nearest neighbour).
    """

    def __init__(self, planes: int, batch_norm: bool) -> None:
        super().__init__()
        self.conv1 = _conv(FEATURES, 128, 1, batch_norm)
        self.conv2 = _conv(128, 64, 1, batch_norm)
        self.conv3 = _conv(64, 64, 1, batch_norm)
        self.conv4 = _conv(64, 32, 1, batch_norm)
        self.last = nn.Conv2d(32, planes, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv3(self.conv2(_doubled(self.conv1(x))))
        return _doubled(torch.sigmoid(self.last(self.conv4(_doubled(x)))))


class Colorization(nn.Module):
    """Local features of a picture, fused with global ones of the picture at 224x224, made into colours.

    Input (N, 1, H, W) float32 lightness in [0, 1], H and W multiples of 8; output (N, planes, H, W) in [0, 1]: a*b*,
    RGB or UV, as `space` says. `mean` is taken off the input first, as the released code does with the mean of its
    training pictures; that number stands in the released weights file alone, so untrained networks have 0.5.

    Where the paper is open or its release (colorize.lua) differs:
    - The paper trains with batch normalisation throughout and table 1 lists no places: with `batch_norm`, every layer
      but the two outputs, colours and classes, is normalised (running statistics in eval mode). `folded` makes the
      network without it that computes the same, which is what is deployed and what this class makes by default.
    - The picture for the global features is interpolated bilinearly between pixel centres (align_corners=False, no
      smoothing), which every engine has. The release takes Torch7's image.scale: when it shrinks, a new pixel is the
      mean of the area that it covers; when it enlarges, corners are aligned. In training nothing is resized.
    - The last doubling repeats pixels as the two before it do; the release enlarges the half-size output bilinearly.
    - The release feeds luma (0.299 R + 0.587 G + 0.114 B) less the mean; here it is L* / 100 less the mean.

    Untrained weights: He's uniform initialisation from a fixed seed.

    Source: sections 3.1 to 3.4 and table 1 of the paper; https://github.com/satoshiiizuka/siggraph2016_colorization.

    Args:
        space: the colour space of the output.
        classifier: whether the classification head of section 3.3 is there. Colours do not depend on it: what the paper
            calls the model without classification is this network trained with the colour loss alone (alpha = 0).
        batch_norm: whether normalisation is there, as training needs it.
    """

    mean: Tensor

    def __init__(self, space: Space = "lab", classifier: bool = True, batch_norm: bool = False) -> None:
        super().__init__()
        # On "meta" nothing is drawn: PyTorch's own initialisation would take its time, and the caller's random numbers.
        device = torch.get_default_device()
        with torch.device("meta"):
            self.low = _convs(1, _LOW, batch_norm)
            self.mid = _convs(_LOW[-1][0], _MID, batch_norm)
            self.features = GlobalFeatures(batch_norm)
            self.fusion = Fusion(batch_norm)
            self.colours = Colours(PLANES[space], batch_norm)
            head = nn.Sequential(_full(512, 256, batch_norm), nn.Linear(256, CLASSES)) if classifier else None
            self.classifier = head
        self.to_empty(device=device)
        self.register_buffer("mean", torch.tensor(0.5))
        _initialise_(self)

    def forward(self, x: Tensor) -> Tensor:
        return self.colours(self.fusion(self.global_features(x), self.mid(self.low(x - self.mean))))

    def colours_and_classes(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """What training compares: `forward(x)` and `classes(x)`, the global branch computed once.

        Raises:
            ValueError: this network was made without the head.
        """
        scene, features = self._scene(x)
        return self.colours(self.fusion(features, self.mid(self.low(x - self.mean)))), self._classified(scene)

    def global_features(self, x: Tensor) -> Tensor:
        """What the picture as a whole says: (N, 1, H, W) lightness of any size → (N, 256)."""
        return self._scene(x)[1]

    def classes(self, x: Tensor) -> Tensor:
        """Scores of the 205 scenes, before softmax: (N, 1, H, W) lightness of any size → (N, 205).

        Raises:
            ValueError: this network was made without the head.
        """
        return self._classified(self._scene(x)[0])

    def _classified(self, scene: Tensor) -> Tensor:
        if self.classifier is None:
            raise ValueError("this network has no classification head; make it with classifier=True")
        return self.classifier(scene)

    def styled(self, lightness: Tensor | None = None) -> StyledColorization:
        """This network with the global features of another picture, (1, 1, h, w) of any size; None: all of them zero.

        It shares this network's tensors.
        """
        if lightness is None:
            return StyledColorization(self, torch.zeros(1, FEATURES))
        with torch.no_grad():
            return StyledColorization(self, self.global_features(lightness))

    def folded(self) -> Colorization:
        """A copy without batch normalisation that computes the same as this network in eval mode."""
        network = copy.deepcopy(self).eval()
        with torch.no_grad():
            for layer in network.modules():
                if isinstance(layer, Layer):
                    layer.fold_()
        return network

    def _scene(self, x: Tensor) -> tuple[Tensor, Tensor]:
        size = (GLOBAL_SIDE_PX, GLOBAL_SIDE_PX)
        small = F.interpolate(x - self.mean, size=size, mode="bilinear", align_corners=False)
        return self.features(self.low(small))


class StyledColorization(nn.Module):
    """Colorization with the style of another picture: `global_features` (1, 256) are data, there is no global branch.

    Input and output as those of `Colorization`. An output pixel sees 115 x 115 pixels, none further off than 64.
    Source: the paper's style transfer, which feeds the global features network with another picture.
    """

    mean: Tensor
    global_features: Tensor

    def __init__(self, network: Colorization, global_features: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", network.mean)
        self.register_buffer("global_features", global_features)
        self.low, self.mid = network.low, network.mid
        self.fusion, self.colours = network.fusion, network.colours
        self.train(network.training)

    def forward(self, x: Tensor) -> Tensor:
        return self.colours(self.fusion(self.global_features, self.mid(self.low(x - self.mean))))


def state_from_trained(
    tensors: Mapping[str, np.ndarray], space: Space = "lab", classifier: bool = True, batch_norm: bool = False
) -> dict[str, np.ndarray]:
    """State of a network made with batch_norm=True → state of the folded network, as is deployed, or as it is.

    Raises:
        UserError: tensors are missing, misshapen or belong to no layer; all are named.
    """
    if "fusion.norm.weight" not in tensors:  # said before a network is made, which takes a second
        raise UserError(
            "no batch normalisation is among the tensors",
            "those of a network made with batch_norm=True",
            "Load weights that are folded already as they are",
        )
    trained = Colorization(space, classifier, batch_norm=True)
    state = trained.state_dict()
    # Inference uses no counters, and a network without the head no classifier.
    counters = {name: np.zeros((), np.int64) for name, tensor in state.items() if not tensor.is_floating_point()}
    head = () if classifier else tuple(name for name in tensors if name.startswith("classifier."))
    tensors = {**{name: tensor for name, tensor in tensors.items() if name not in head}, **counters}
    if problem := mismatch(tensors, {name: tuple(tensor.shape) for name, tensor in state.items()}, list(counters)):
        raise UserError(
            problem, f"the {len(state)} tensors of a network with batch_norm=True", "Give those of training"
        )
    if batch_norm:
        return {name: np.array(tensors[name], order="C") for name in state}
    trained.load_state_dict({name: torch.from_numpy(np.array(tensors[name])) for name in state})
    return {name: tensor.numpy() for name, tensor in trained.folded().state_dict().items()}


def _conv(planes: int, width: int, stride: int, batch_norm: bool) -> Layer:
    return Layer(nn.Conv2d(planes, width, 3, stride=stride, padding=1), batch_norm)


def _full(planes: int, width: int, batch_norm: bool) -> Layer:
    return Layer(nn.Linear(planes, width), batch_norm)


def _convs(planes: int, layers: Sequence[tuple[int, int]], batch_norm: bool) -> nn.Sequential:
    widths = [planes, *(width for width, _ in layers)]
    return nn.Sequential(*(_conv(widths[i], *layer, batch_norm) for i, layer in enumerate(layers)))


def _doubled(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="nearest")


def _initialise_(network: nn.Module) -> None:
    """He's uniform weights, zero biases, norms that change nothing: planes neither explode nor die out below ReLU."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                bound = math.sqrt(6 / module.weight[0].numel())
                module.weight.uniform_(-bound, bound, generator=generator)
                if module.bias is not None:
                    module.bias.zero_()
            elif isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                module.reset_parameters()
