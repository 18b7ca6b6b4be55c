"""Cases whose plan takes the uint8 picture and gives one (the setting `ends=picture`): which can, and what they give.

The figures of quality are those of the plan on tensors; the picture of the plan on pictures is compared with what the
host would have made of that plan's output.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from engines.engine import Engine
from export.network import Network
from reference_models.errors import UserError
from reference_models.spec import ModelSpec

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Limits:
    """How far the plan's picture may be from the host's."""

    share: float
    """Of values that differ by more than `beyond` grey values."""
    beyond: int
    lean: float
    """Grey values between the means of both: rounding goes either way, cutting off only one."""


EXACT = Limits(1e-4, 1, 0.02)
ROUNDED = Limits(1e-4, 16, 0.25)
"""Two builds of 16 bits or fewer round their sums in different orders."""
CLASSES = Limits(0.01, 0, 255.0)
"""Where two classes lie close together, the last digit decides which colour is shown."""


def limits_of(spec: ModelSpec, precision: str) -> Limits:
    if spec.output == "classes":
        return CLASSES
    return EXACT if precision == "fp32" else ROUNDED


def asked(settings: Mapping[str, str]) -> bool:
    return settings.get("ends") == "picture"


def refusal(spec: ModelSpec, statistics: str | None, tile: str) -> str | None:
    """Why a network cannot have its pictures in the graph, a clause; None where it can."""
    if statistics == "thumbnail":
        return "with thumbnail statistics new weights are folded for every picture, so that no graph takes pictures"
    if tile != "off":
        return "tiles are cut from tensors, and a plan with ends=picture takes none"
    from export.picture_graph import check_can_take_pictures

    try:
        check_can_take_pictures(spec)
    except UserError as error:
        return str(error.what)
    return None


def network_of(job: Mapping[str, Any], engine: Engine) -> Network:
    """That of a worker's job, with a graph on pictures, such as this engine can read, where that was asked for.

    Args:
        job: network (JSON), and case, as Case.to_dict, with spec (JSON) and settings.
    """
    network = Network.from_json(job["network"])
    if not asked(job["case"]["settings"]):
        return network
    from export.cache import cache_folder
    from export.picture_graph import picture_network

    spec = ModelSpec.from_json(job["case"]["spec"])
    return picture_network(network, spec, cache_folder(), exact=engine.has_float64)


def difference(shown: np.ndarray, wanted: np.ndarray, limits: Limits) -> dict[str, Any]:
    """How far two pictures, uint8 (H, W, 3), are apart: `most` grey values, `share` of values that differ, `lean`.

    Raises:
        RuntimeError: further than `limits`.
    """
    import numpy as np

    signed = shown.astype(np.int16) - wanted
    apart = np.abs(signed)
    found = {"most": int(apart.max()), "share": float((apart > 0).mean()), "lean": float(signed.mean())}
    beyond = float((apart > limits.beyond).mean())
    if beyond > limits.share or abs(found["lean"]) > limits.lean:
        raise RuntimeError(
            f"ends=picture: the plan's picture is not the host's: {found['share']:.2%} of its values differ, "
            f"{beyond:.2%} by more than {limits.beyond}, {found['most']} at most; the means by {found['lean']:+.2f}"
        )
    return found


def in_words(found: Mapping[str, Any]) -> str:
    if not found["most"]:
        return "the plan's picture is the host's, byte for byte"
    share = f"{found['share']:.2%}"
    return f"the plan's picture differs from the host's in {share} of its values, by {found['most']} at most"
