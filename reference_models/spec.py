"""ModelSpec: what a network is, as data. No torch here: `bench models` and `bench --help` answer from these alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Statistics = Literal["image", "frozen", "thumbnail"]


@dataclass(frozen=True)
class ModelSpec:
    """One network, declared. The tests over the registry measure every declaration."""

    name: str
    """The word on the command line, in the runs file and in the reports."""
    family: str
    """The paper's name for the kind of network."""
    factory: str
    """`package.module:Callable` that returns the torch.nn.Module; called with `options`."""
    source: str
    """Paper, section and URL that define the network."""
    licence: str
    """Licence of the published code or weights that the definition follows."""
    description: str
    """One line for `bench models`."""
    options: Mapping[str, object] = field(default_factory=dict)
    """Keyword arguments of the factory, such as depth and width."""
    channels: Literal["BGR", "RGB"] = "RGB"
    """Order of the network's three planes. Pictures are RGB everywhere outside of pre- and post-processing."""
    rounding: Literal["truncate", "nearest"] = "nearest"
    """How clipped output in [0, 1] becomes uint8: floor(255 y), or floor(255 y + 0.5)."""
    upscale: int = 1
    """Output side divided by input side."""
    size_multiple: int = 1
    """Height and width of the input must be multiples of this."""
    receptive_field_px: int | None = None
    """Side of the input square that one output pixel sees through convolutions; None where it is the whole picture."""
    statistics: tuple[Statistics, ...] = ()
    """How the network may obtain its normalisation statistics, the published way first; empty: it has none."""
    weights: Mapping[str, str] = field(default_factory=dict)
    """Name → file in reference_models/weights of the trained weights that this project ships."""
    importer: str | None = None
    """`package.module:function` from released tensors and `options` to this network's state; None: there is none."""

    @property
    def halo_px(self) -> int | None:
        """Input border that a tile needs on each side, in pixels; None where no border is enough."""
        return None if self.receptive_field_px is None else (self.receptive_field_px - 1) // 2
