"""Tasks: what a network is trained to do. A picture → the picture that goes in and the one that should come out.

Data and NumPy only; torch and the operators are not imported here. reference_models/training makes float planes of the
same tasks; here everything is a picture, as a user would give and get it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Literal

from reference_models.errors import UserError, unknown
from reference_models.spec import ModelSpec

if TYPE_CHECKING:
    import numpy as np

    from reference_models.pictures import Picture

Kind = Literal["image operator", "super-resolution", "denoising", "restoration", "colorization", "segmentation"]

SCALES = (2, 3, 4)
SIGMAS = (10.0, 30.0, 50.0, 70.0)
"""Noise levels of RED-Net, deviations of 255. Source: section 4.1 of its paper."""


@dataclass(frozen=True)
class Task:
    """One thing to learn."""

    name: str
    """The word on the command line and in cards."""
    kind: Kind
    description: str
    """One line for `bench train --help` and for cards."""
    operator: str | None = None
    """Name in reference_models.operators of what makes the target from the input."""
    scales: tuple[int, ...] = ()
    """Sides are reduced by one of these (imresize, bicubic with antialiasing); the target is the whole picture."""
    sigmas: tuple[float, ...] = ()
    """Gaussian noise of one of these deviations, of 255, is added."""

    @property
    def labelled(self) -> bool:
        """Whether what should come out is a map of classes, which nothing can make of the picture alone."""
        return self.kind == "segmentation"

    def why_not(self, spec: ModelSpec) -> str:
        """Why a network cannot learn this, in a few words; empty where it can."""
        if spec.onnx:
            return "it is an ONNX file, and holds no torch module"
        if self.kind == "colorization":
            return "" if spec.input == "lightness" else f"its input is {spec.input}, not lightness"
        if self.labelled:
            return "" if spec.output == "classes" else f"it makes {spec.output}, not classes"
        if spec.input not in {"rgb", "bgr", "luma"} or spec.output != spec.input:
            return f"it makes {spec.output} of {spec.input}"
        if spec.constant_planes:
            return "its constant planes choose between operators, and this is a single task"
        if self.kind == "super-resolution" and len(self.scales) == 1:
            scale = self.scales[0]
            same = spec.enlarges == scale or (spec.task == "denoising" and spec.enlarges == 1)
            return "" if same else f"it enlarges {spec.enlarges} times, not {scale}"
        if self.scales and spec.upscale != 1:
            return f"it enlarges by {spec.upscale} itself, and this task has several scales"
        if self.scales and spec.pre_upscale == 1 and spec.task != "denoising":
            return "it does not enlarge"
        if self.kind != "super-resolution" and spec.enlarges != 1:
            return f"it enlarges {spec.enlarges} times"
        return ""

    def pictures(self, picture: Picture, spec: ModelSpec, rng: np.random.Generator) -> tuple[Picture, Picture]:
        """The picture that a network of `spec` is given, and the one that should come out: uint8 (H, W, 3) RGB.

        Operators: the picture, and what the operator makes of it. Super-resolution: the picture cut to a multiple of
        the scale and reduced (and enlarged again, for a network that does not enlarge), and the cut one. Noise: the
        picture with noise, rounded and clipped, and the picture. Of several scales or levels `rng` draws one. Colours:
        the picture twice, since a network of colours takes its lightness itself.

        Raises:
            UserError: the operator is not there.
        """
        assert not self.labelled
        if self.operator is not None:
            from reference_models.operators import get as get_operator

            return picture, get_operator(self.operator)(picture)
        choice = self.drawn(rng)
        if choice is None:
            return picture, picture
        noun, value = choice
        if noun == "scale":
            return _reduced(picture, int(value), enlarged=spec.enlarges == 1)
        return _noisy(picture, value, rng), picture

    def drawn(self, rng: np.random.Generator) -> tuple[str, float] | None:
        """One of the degradations, ("scale", 3) or ("sigma", 30.0); None where there is none."""
        choices = [*(("scale", float(s)) for s in self.scales), *(("sigma", s) for s in self.sigmas)]
        return choices[int(rng.integers(len(choices)))] if choices else None


def _reduced(picture: Picture, scale: int, enlarged: bool) -> tuple[Picture, Picture]:
    from reference_models.resample import imresize

    height, width = (side // scale * scale for side in picture.shape[:2])
    if not height or not width:
        raise UserError(
            f"a picture of {picture.shape[1]}x{picture.shape[0]} pixels for scale {scale}",
            f"sides of at least {scale}",
            "Give a larger picture",
        )
    target = picture[:height, :width]
    planes = imresize(_planes(target), height // scale, width // scale)
    if enlarged:
        planes = imresize(_planes(_picture(planes)), height, width)
    return _picture(planes), target


def _noisy(picture: Picture, sigma: float, rng: np.random.Generator) -> Picture:
    import numpy as np

    planes = _planes(picture)
    return _picture(planes + np.float32(sigma) * rng.standard_normal(planes.shape, np.float32))


def _planes(picture: Picture) -> np.ndarray:
    import numpy as np

    return np.ascontiguousarray(picture.transpose(2, 0, 1), np.float32)


def _picture(planes: np.ndarray) -> Picture:
    import numpy as np

    return np.ascontiguousarray((np.clip(planes, 0, 255) + 0.5).astype(np.uint8).transpose(1, 2, 0))


@cache
def _tasks() -> dict[str, Task]:
    from reference_models.can import OPERATORS

    found = [
        Task(name, "image operator", f"what the operator {name} makes of the picture", operator=name)
        for name in OPERATORS
    ]
    found += [
        Task(f"super-resolution x{s}", "super-resolution", f"the picture from one reduced {s} times", scales=(s,))
        for s in SCALES
    ]
    found += [
        Task("super-resolution mixed", "super-resolution", "one network for x2, x3 and x4, as VDSR's", scales=SCALES),
        *(
            Task(f"denoising sigma {s:g}", "denoising", f"Gaussian noise of deviation {s:g} of 255", sigmas=(s,))
            for s in SIGMAS
        ),
        Task("denoising mixed", "denoising", "one network for deviations 10, 30, 50 and 70", sigmas=SIGMAS),
        Task("restoration", "restoration", "noise or reduction, as RED-Net's joint", scales=SCALES, sigmas=SIGMAS),
        Task("colorization", "colorization", "a grey photograph's colours"),
        Task("segmentation", "segmentation", "classes: 20 kinds of generated leaf and the ground, or yours (--labels)"),
    ]
    return {task.name: task for task in found}


def names() -> list[str]:
    """Names of all tasks: the operators in the order of CAN, then the others."""
    return list(_tasks())


def get(name: str) -> Task:
    """The task of this name; `_` or `-` may stand for a space.

    Raises:
        UserError: no task has this name; the nearest one is suggested.
    """
    known = {plain(task): task for task in _tasks()}
    if plain(name) not in known:
        raise unknown("--task", name, "task", names(), "`bench train --help` lists them")
    return _tasks()[known[plain(name)]]


def plain(name: str) -> str:
    """A name as it is compared: `L0-smoothing` and `l0_smoothing` are one."""
    return name.lower().replace("-", " ").replace("_", " ").strip()


def tasks_of(spec: ModelSpec) -> list[Task]:
    """The tasks that this network can learn."""
    return [task for task in _tasks().values() if not task.why_not(spec)]
