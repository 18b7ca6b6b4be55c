"""Quality of a network in other precisions, over sizes and pictures. No time is measured.

Every graph is read strictly (export/as_rounded.py), so that the figures hold for any engine that keeps the graph's
types and sums in float32, also for one that is not here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from bench.metrics import compare
from bench.reference import prepare
from export.as_rounded import as_rounded, strict_session
from export.network import INPUT, Network
from reference_models.colour import tensor_from_picture, unit_range
from reference_models.pictures import fit_picture, read_picture
from reference_models.spec import ModelSpec


def evaluate(job: Mapping[str, Any], emit: Callable[..., None]) -> dict[str, Any]:
    """The worker's job.

    Args:
        job: what bench/reference.py's `prepare` takes, without inputs, one of `statistics`, and `pictures`: name and
            file (None: the default picture), and `sizes`: {resolution: (width, height) of the picture that goes in}.

    Returns:
        {}. Emits a `row` per resolution, picture and precision, in this order and as soon as it is found: the figures
        of bench/metrics.py against the FP32 graph of the same statistics, and the layers of quantised precisions.
    """
    import onnx

    made = prepare({**job, "inputs": {}}, emit)
    spec = ModelSpec.from_json(job["spec"])
    networks = {key: Network.from_json(text) for key, text in made["networks"].items()}
    original = onnx.load(networks[str(job["statistics"][0])].main.onnx_path)
    recipes = {lowering["key"]: lowering["recipe"] for lowering in job["lowerings"]}
    refused = {key: told["reason"] for key, told in made["refused"].items()}
    for resolution, (width, height) in job["sizes"].items():
        for name, path in job["pictures"]:
            x = tensor_from_picture(fit_picture(_picture(path), width, height), spec)
            emit("phase", name=f"{spec.title} {resolution} fp32 {name}")
            # A session keeps the memory of its largest picture: at 4K two of them may be more than the machine has.
            expected = unit_range(strict_session(original, job["threads"]).run(None, {INPUT: x})[0], spec)
            for key, recipe in recipes.items():
                row = {"resolution": resolution, "picture": name, "recipe": recipe, "reason": refused.get(key)}
                if key in networks:
                    emit("phase", name=f"{spec.title} {resolution} {recipe['precision']} {name}")
                    model = as_rounded(onnx.load(networks[key].main.onnx_path))
                    got = strict_session(model, job["threads"]).run(None, {INPUT: x})[0]
                    row |= {"quality": compare(unit_range(got, spec), expected), "lowering": networks[key].lowering}
                    del got
                emit("row", row=row)  # what is known stays known if a larger picture takes more memory than there is
            del expected
    return {}


def _picture(path: str | None) -> np.ndarray:
    from reference_models.pictures import default_picture

    return default_picture() if path is None else read_picture(path)
