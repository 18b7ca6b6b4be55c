"""Pairs of whole pictures → batches of crops. Every batch is a function of the seed and the step alone.

So a run that goes on after a kill draws exactly what it would have drawn: nothing of the order needs to be stored.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reference_models.pictures import Picture
from reference_models.spec import ModelSpec
from reference_models.tasks import Task
from reference_models.training.labelled import HELD_OUT
from reference_models.training.pairs import UNKNOWN, Pair, Planes, float_planes, pair_from_map, pair_from_picture
from reference_models.training.sources import GENERATED, Pictures, generated, generated_with_map, resized
from reference_models.training.targets import Targets

OPEN_SCENES = 48
"""Pictures that crops of one step may come from."""
SMALLER = (1.0, 0.9, 0.8, 0.7, 0.6)
"""Factors that a picture is resized with where detail is to be restored: an enlarged one has none to learn from."""
RESIZED = (0.6, 1.0, 1.5, 2.0)
"""The same for operators: their papers' random resolutions, so that edges of every sharpness are met."""


def least_side(task: Task, crop_px: int) -> int:
    """The shorter side in pixels that a picture must have: operators may see it enlarged, detail must be its own."""
    return -(-crop_px // int(max(RESIZED))) if task.operator else crop_px


STEPS_PER_SCENE = {"image operator": 16}
"""Steps after which one open picture is exchanged; operators cost more than reading a picture."""


@dataclass(frozen=True)
class Plan:
    """What batches are made of."""

    task: Task
    spec: ModelSpec
    pictures: Pictures
    seed: int
    batch: int
    crop_px: int
    """Side of the target's crop, a multiple of what the network enlarges by."""
    generated: float
    """Share of pictures from the generator, 0 to 1."""
    targets: Targets = field(default_factory=Targets)


@dataclass
class Batches:
    """Step → batch; keeps the pairs of the open pictures."""

    plan: Plan
    _open: OrderedDict[int, Pair] = field(default_factory=OrderedDict)

    def batch(self, step: int) -> tuple[NDArray[Any], ...]:
        """Input (N, C, h, w) and target (N, C', h * upscale, w * upscale), float32, of this step; and (N,) int64 scenes
        where folders are scenes.

        The target is NaN where the network would see what lies beyond the crop and does not (`margin_px`).
        """
        numbers, rng = self._numbers(step)
        pairs = [self.pair(int(number)) for number in numbers]
        x, y = zip(*(self._crop(pair, rng) for pair in pairs), strict=True)
        self._close_before(self.first(step))
        scenes = [np.array([pair.scene for pair in pairs])] if self.plan.pictures.scenes else []
        return np.stack(x), np.stack(y), *scenes

    def _numbers(self, step: int) -> tuple[NDArray[np.int64], np.random.Generator]:
        """The pictures that this step's crops come from, and what draws the crops."""
        rng = np.random.default_rng([self.plan.seed, 3, step])
        first = self.first(step)
        return rng.integers(first, first + OPEN_SCENES, self.plan.batch), rng

    def scenes_met(self, steps: int) -> int:
        """How many different generated scenes so many steps were made of, where these alone are drawn."""
        numbers = {int(number) for step in range(steps) for number in self._numbers(step)[0]}
        return len({self._scene(number) for number in numbers})

    def _scene(self, number: int) -> int:
        """Of the endless scenes with maps: any but those that are judged, since nothing about them has to be kept."""
        return int(np.random.default_rng([self.plan.seed, 1, number]).integers(HELD_OUT))

    def first(self, step: int) -> int:
        """The lowest number of the pictures that are open at this step."""
        return step // STEPS_PER_SCENE.get(self.plan.task.kind, 2)

    def pair(self, number: int) -> Pair:
        """The pair of an open picture, made where this is its first use."""
        if number not in self._open:
            self._open[number] = self.made_pair(number)
        return self._open[number]

    def made_pair(self, number: int) -> Pair:
        """The pair of picture `number` of the endless row of pictures that this plan and its seed stand for."""
        if self.plan.task.labelled:
            return self._made_of_map(number)
        plan, rng = self.plan, np.random.default_rng([self.plan.seed, 1, number])
        count, least, scene = len(plan.pictures), plan.crop_px, UNKNOWN
        if not count or rng.random() < plan.generated:
            picture = generated(int(rng.integers(GENERATED)), least)
        else:
            place, picture = self._drawn(number)
            scene = plan.pictures.scenes[place] if plan.pictures.scenes else UNKNOWN
            factors = RESIZED if plan.task.operator else SMALLER
            picture = resized(picture, float(rng.choice(factors)), least)
        return replace(pair_from_picture(plan.task, plan.spec, picture, rng, plan.targets), scene=scene)

    def _drawn(self, number: int) -> tuple[int, Picture]:
        """Place and picture: all of them once, in random order, then all in another."""
        plan, count = self.plan, len(self.plan.pictures)
        order = np.random.default_rng([plan.seed, 2, number // count]).permutation(count)
        return plan.pictures.picture(int(order[number % count]))

    def _made_of_map(self, number: int) -> Pair:
        """Of a picture with a map, at its own size: between two classes there is none in the middle."""
        plan = self.plan
        if not len(plan.pictures):
            return pair_from_map(plan.spec, *generated_with_map(self._scene(number), plan.crop_px))
        place, picture = self._drawn(number)
        return pair_from_map(plan.spec, picture, plan.pictures.class_map(place, picture))

    def _crop(self, pair: Pair, rng: np.random.Generator) -> tuple[Planes, Planes]:
        """A crop at a random place, turned and mirrored at random, with noise where the pair has some."""
        up, low = self.plan.spec.upscale, self.plan.spec.output_range[0]
        side, margin = self.plan.crop_px // up, self.margin_px
        lengths = pair.input.shape[1:]
        # Drawn a margin beyond the borders, and brought back: the pictures' own borders are met often enough.
        top, left = (min(max(int(rng.integers(-margin, n - side + margin + 1)), 0), n - side) for n in lengths)
        x = pair.input[:, top : top + side, left : left + side]
        y = float_planes(pair.target[:, top * up : (top + side) * up, left * up : (left + side) * up])
        y = y * np.float32(self.plan.spec.output_range[1] - low) + np.float32(low)
        _hide(y, margin * up, (top > 0, top + side < lengths[0]), (left > 0, left + side < lengths[1]))
        turns, mirrored = int(rng.integers(4)), bool(rng.integers(2))
        x, y = float_planes(_turned(x, turns, mirrored)), np.ascontiguousarray(_turned(y, turns, mirrored))
        if pair.sigma:
            x = x + np.float32(pair.sigma) * rng.standard_normal(x.shape, np.float32)
        return x, y

    @property
    def margin_px(self) -> int:
        """Pixels of the input at each side of a crop that the network would see beyond it; 0 where that is more than
        a quarter of the crop, since too little would be left."""
        halo = self.plan.spec.halo_px
        return halo if halo is not None and 4 * halo <= self.plan.crop_px // self.plan.spec.upscale else 0

    def _close_before(self, first: int) -> None:
        for number in [number for number in self._open if number < first]:
            del self._open[number]


def _turned(planes: Planes, turns: int, mirrored: bool) -> Planes:
    turned = np.rot90(planes, turns, (1, 2))
    return turned[:, :, ::-1] if mirrored else turned


def _hide(target: Planes, margin: int, rows: tuple[bool, bool], columns: tuple[bool, bool]) -> None:
    """Sets to NaN, in place, the margins at those ends (before, after) where the picture goes on beyond the crop."""
    if not margin:
        return
    for planes, ends in ((target, rows), (target.swapaxes(1, 2), columns)):
        if ends[0]:
            planes[:, :margin] = np.nan
        if ends[1]:
            planes[:, -margin:] = np.nan
