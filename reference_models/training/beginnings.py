"""How a network that is to make pictures of pictures begins to learn: as one that passes the picture through."""

from __future__ import annotations

import torch
from torch import nn

from reference_models.networks.can import NEGATIVE_SLOPE, Can
from reference_models.networks.red_net import RedNet
from reference_models.networks.vdsr import Vdsr
from reference_models.spec import ModelSpec

PASSED = 3
"""Planes of the picture."""


KINDS = (Can, Vdsr, RedNet)
"""Networks that `pass_through_` knows."""


def passes_through(spec: ModelSpec) -> bool:
    """Whether `pass_through_` knows the network of this spec; builds none."""
    return spec.factory in {f"{kind.__module__}:{kind.__name__}" for kind in KINDS}


@torch.no_grad()
def pass_through_(model: nn.Module, seed: int) -> bool:
    """Sets the tensors of a CAN, a VDSR or a RED-Net, in place, so that it makes of a picture that picture; False, and
    nothing is set, where it is another network.

    - CAN: the release begins with identity kernels everywhere and a random last layer: then the first steps only bring
      the picture back, and all further planes begin as zeros. Here the first three planes carry the picture to the last
      layer, which takes them alone; the others begin as random features of it (He et al., Delving Deep into Rectifiers,
      2015), for the last layer to take what it can use. What that gave is in docs/training.md.
    - VDSR and RED-Net add their input to what the last layer gives: that layer begins as zeros. Their own
      initialisations add noise to the picture, which the first hundreds of steps would have to take away.
    """
    if isinstance(model, Vdsr):
        nn.init.zeros_(model.convs[-1].get_parameter("weight"))
    elif isinstance(model, RedNet):
        nn.init.zeros_(model.deconvs[-1].get_parameter("weight"))
    if not isinstance(model, Can):
        return isinstance(model, KINDS)
    generator = torch.Generator().manual_seed(seed)
    for conv in model.convs:
        assert isinstance(conv, nn.Conv2d)
        features = torch.empty_like(conv.weight)
        nn.init.kaiming_normal_(features, a=NEGATIVE_SLOPE, generator=generator)
        nn.init.zeros_(features[:PASSED])
        for plane in range(PASSED):
            features[plane, plane, 1, 1] = 1
        conv.weight.copy_(features)
    last = model.last
    nn.init.zeros_(last.weight)
    for plane in range(PASSED):
        last.weight[plane, plane] = 1
    return True
