"""Networks against what they were made to replace, over folders of pictures: weights down, folders across.

No time is measured. Planes and figures are those of the papers and of the cards beside weights
(reference_models/training/judging.py): float, clipped, not rounded. Precisions are read strictly, as in
bench/evaluate.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.metrics import WINDOW_PX, compare
from bench.reference import prepare
from export.as_rounded import as_rounded, strict_session
from export.network import INPUT, Network
from reference_models import tasks
from reference_models.colour import unit_range
from reference_models.pictures import DEFAULT_PICTURE_NAME, Picture, default_picture, fit_picture, read_picture
from reference_models.spec import ModelSpec
from reference_models.tasks import Task

if TYPE_CHECKING:
    from reference_models.training.judging import Trial


def generalise(job: Mapping[str, Any], emit: Callable[..., None]) -> dict[str, Any]:
    """The worker's job.

    Args:
        job: what bench/reference.py's `prepare` takes, without inputs and weights, one of `statistics`; `original`:
            name of a task; `weights`: per choice name, file (None: its own or none), trained and sha256; `fp32`: is
            that judged too; `sets`: names and lists of files (None: the default picture); `size`: (width, height)
            that pictures are brought to, or None; `targets`: where what operators make is kept.

    Returns:
        {"rows": [...]}: a row per set, picture, weights and precision with figures against the target and what they
        mean; `weights` is None in rows of what one has without a network. A picture that is too small, or a precision
        that does not fit, is a row with the reason.
    """
    from reference_models.training.judging import BASELINES, as_given, convention, trial_of
    from reference_models.training.targets import Targets

    spec, task = ModelSpec.from_json(job["spec"]), tasks.get(job["original"])
    sessions = list(_sessions(job, spec, emit))
    targets = Targets(Path(job["targets"]))
    meaning = {"convention": convention(task, spec), "size": job["size"]}
    beside = {"weights": None, "precision": None, "without": BASELINES[task.kind], "reason": None}
    rows: list[dict[str, Any]] = []
    pictures = [(name, number, path) for name, paths in job["sets"] for number, path in enumerate(paths)]
    for done, (name, number, path) in enumerate(pictures):
        title = Path(path).name if path else DEFAULT_PICTURE_NAME
        emit("phase", name=f"{name}: {title}", share=done / len(pictures))
        picture = read_picture(path) if path else default_picture()
        if job["size"]:
            picture = fit_picture(picture, *job["size"])
        where = {"set": name, "picture": title, **meaning}
        if reason := _too_small(picture, task, spec):
            rows += [
                {**where, **facts, "reason": f"{title}: {reason}"} for facts in (beside, *(f for f, _ in sessions))
            ]
            continue
        trial = trial_of(task, spec, number, (title, picture), targets)
        rows.append({**where, **beside, "quality": _figures(as_given(trial.pair), trial)})
        for facts, session in sessions:
            row = {**where, **facts}
            if session:
                output = session.run(None, {INPUT: np.ascontiguousarray(trial.pair.input[None])})[0]
                row["quality"] = _figures(unit_range(output, spec)[0], trial)
            rows.append(row)
    return {"rows": rows}


def _too_small(picture: Picture, task: Task, spec: ModelSpec) -> str:
    """Why nothing could be judged, empty where something can."""
    border = max(task.scales, default=0)
    least = max(spec.min_size * spec.enlarges, spec.size_multiple * spec.enlarges, 2 * border + WINDOW_PX)
    height, width = picture.shape[:2]
    return f"{width}x{height} pixels, and {least} a side are needed" if min(height, width) < least else ""


def _sessions(
    job: Mapping[str, Any], spec: ModelSpec, emit: Callable[..., None]
) -> Iterator[tuple[dict[str, Any], Any]]:
    """Facts of a row, and what computes it: None where the network does not fit the precision, with the reason."""
    import onnx

    plain = {str(job["statistics"][0]): {"precision": "fp32"}} if job["fp32"] else {}
    lowered = {lowering["key"]: lowering["recipe"] for lowering in job["lowerings"]}
    for choice in job["weights"]:
        made = prepare({**job, "weights": choice["file"], "inputs": {}}, emit)
        for key, recipe in (plain | lowered).items():
            facts = {
                "weights": choice["name"], "trained": choice["trained"], "weights_sha256": choice["sha256"],
                "precision": recipe["precision"], "recipe": lowered.get(key), "reason": None,
            }  # fmt: skip
            if key in made["refused"]:
                yield facts | {"reason": made["refused"][key]["reason"]}, None
                continue
            network = Network.from_json(made["networks"][key])
            model = onnx.load(network.main.onnx_path)
            facts["lowering"] = network.lowering
            yield facts, strict_session(as_rounded(model) if key in lowered else model, job["threads"])


def _figures(output: np.ndarray, trial: Trial) -> dict[str, Any]:
    """Those of bench/metrics.py within the part that is judged; not clipped where clipping would hide an infinity."""
    from reference_models.training.judging import judged_part

    made, target = (judged_part(planes, trial) for planes in (output, trial.pair.target))
    return compare((np.clip(made, 0, 1) if np.isfinite(made).all() else made)[None], target[None])
