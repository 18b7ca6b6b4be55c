"""ModelSpec: what a network is, as data. No torch here: `bench models` and `bench --help` answer from these alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

Statistics = Literal["image", "frozen", "thumbnail"]
Task = Literal[
    "image operator", "denoising", "super-resolution", "colorization", "segmentation", "generation", "unknown"
]


OWN_FAMILY = "own network"
"""The family of every network that is not of this project: a factory or an ONNX file of the user's own."""


@dataclass(frozen=True)
class Option:
    """One choice that a network offers, as `--option NAME=VALUE` and as a keyword of `create_model`."""

    name: str
    default: int | float | str
    """Its type is the type of every value."""
    doc: str
    """One line for `bench models --options`."""
    choices: tuple[int | float | str, ...] = ()
    """The values allowed; empty: every value between `low` and `high`."""
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Evaluation:
    """How the paper judges a picture, so that our decibels mean the same as its own."""

    channels: Literal["RGB", "Y", "grey", "none"] = "RGB"
    """Y: BT.601 luma as MATLAB's rgb2ycbcr, 16 to 235; none: the paper states no PSNR."""
    border_px: int = 0
    """Output pixels cut from every side first."""
    note: str = ""
    """What else one must know, such as the degradation that makes the input."""


@dataclass(frozen=True)
class Figure:
    """A number that the paper states about its own network."""

    what: str
    value: float
    unit: str
    where: str
    """Table, figure or section."""


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
    task: Task = "image operator"
    options: Mapping[str, object] = field(default_factory=dict)
    """Keyword arguments of the factory, such as depth and width."""
    offers: tuple[Option, ...] = ()
    """What a user may choose. `configure` turns the choices into a spec."""
    configure: str | None = None
    """`package.module:function`: called with the name and a value for every offer, as keywords, it returns the spec of
    that choice; for the defaults it returns this spec. None: nothing is offered."""
    chosen: Mapping[str, int | float | str] = field(default_factory=dict)
    """The choices that differ from the defaults; set by `reference_models.get`."""

    input: Literal["rgb", "bgr", "luma", "lightness", "noise"] = "rgb"
    """How a picture becomes planes; colour.py describes each."""
    constant_planes: tuple[float, ...] = ()
    """Values of constant planes after those of the picture, such as a one-hot choice of operator."""
    pre_upscale: int = 1
    """The picture is enlarged by this factor before the network sees it: bicubic, as MATLAB's imresize."""
    output: Literal["rgb", "bgr", "luma", "ab", "yuv", "recoloured", "classes"] = "rgb"
    """How planes become a picture; colour.py describes each."""
    input_planes: int = 3
    """Channels of the input tensor, constant planes included."""
    output_planes: int = 3
    output_range: tuple[float, float] = (0.0, 1.0)
    """What the network calls black and white."""
    rounding: Literal["truncate", "nearest"] = "nearest"
    """How clipped output in [0, 1] becomes uint8: floor(255 y), or floor(255 y + 0.5)."""
    upscale: int = 1
    """Side of the network's output divided by side of its input."""
    size_multiple: int = 1
    """Height and width of the input tensor must be multiples of this; pictures are padded by repeating their border,
    and the output is cropped."""
    min_size: int = 1
    """Least height and width of the input tensor."""
    receptive_field_px: int | None = None
    """1 + 2 * halo: side of the input square that an output pixel can see, the widest over all output pixels; None
    where a convolution-free part of the network, such as a global branch, sees the whole picture."""
    whole_picture: str = ""
    """Why no tiling of this network is exact, in a few words; empty where a halo makes it exact (for networks with
    `statistics`: once they are frozen or of a thumbnail)."""
    statistics: tuple[Statistics, ...] = ()
    """How the network may obtain its normalisation statistics, the published way first; empty: it has none."""
    style: bool = False
    """Whether another picture may be given to its global branch (`--style`)."""
    evaluation: Evaluation = Evaluation()
    figures: tuple[Figure, ...] = ()
    """The paper's headline figures."""
    weights: Mapping[str, str] = field(default_factory=dict)
    """Name → file in reference_models/weights of the trained weights that this project ships."""
    importer: str | None = None
    """`package.module:function` from released tensors and `options` to this network's state; None: there is none."""
    onnx: str | None = None
    """A graph of the user's own; there is no torch module then."""

    @property
    def is_own(self) -> bool:
        """Whether it is a network of the user's own: what its weights are worth is not ours to say."""
        return self.family == OWN_FAMILY

    @property
    def halo_px(self) -> int | None:
        """Border of the input tensor that a tile needs on each side, in pixels; None where no border is enough."""
        return None if self.receptive_field_px is None else (self.receptive_field_px - 1) // 2

    @property
    def enlarges(self) -> int:
        """Side of the picture that comes out divided by side of the picture that goes in."""
        return self.pre_upscale * self.upscale

    def tensor_size(self, width: int, height: int) -> tuple[int, int]:
        """Height and width of the tensor for an input picture of this size: enlarged first, then padded."""
        k = self.size_multiple
        height, width = (max(side * self.pre_upscale, self.min_size) for side in (height, width))
        return -(-height // k) * k, -(-width // k) * k

    @property
    def title(self) -> str:
        """The name, and the choices that differ from the defaults: `can depth=7 width=24`."""
        return " ".join([self.name, *(f"{name}={value}" for name, value in self.chosen.items())])

    @property
    def word(self) -> str:
        """What `--model` takes for this choice: `can:depth=7:width=24`."""
        return ":".join([self.name, *(f"{name}={value}" for name, value in self.chosen.items())])

    def with_choices(self, chosen: Mapping[str, int | float | str]) -> ModelSpec:
        """The same spec, with what was chosen written down."""
        return replace(self, chosen=dict(chosen))

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @staticmethod
    def from_json(text: str) -> ModelSpec:
        """The spec that `to_json` wrote; JSON has no tuples, so those among `options` come back as lists."""
        data: dict[str, Any] = json.loads(text)
        data["offers"] = tuple(Option(**{**o, "choices": tuple(o["choices"])}) for o in data["offers"])
        data["evaluation"] = Evaluation(**data["evaluation"])
        data["figures"] = tuple(Figure(**figure) for figure in data["figures"])
        for name in ("constant_planes", "output_range", "statistics"):
            data[name] = tuple(data[name])
        return ModelSpec(**data)
