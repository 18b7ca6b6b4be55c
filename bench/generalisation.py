"""Networks against what they were made to replace, over folders of pictures: weights down, folders across.

No time is measured. Planes and figures are those of the papers and of the cards beside weights
(reference_models/training/judging.py): float, clipped, not rounded. Precisions are read strictly, as in
bench/evaluate.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from bench.metrics import compare
from bench.reference import prepare
from export.as_rounded import as_rounded, strict_session
from export.network import INPUT, Network
from reference_models import tasks
from reference_models.colour import unit_range
from reference_models.pictures import DEFAULT_PICTURE_NAME, default_picture, fit_picture, read_picture
from reference_models.spec import ModelSpec
from reference_models.training.judging import BASELINES, Trial, as_given, convention, judged_part, trial_of
from reference_models.training.targets import Targets


def generalise(job: Mapping[str, Any], emit: Callable[..., None]) -> dict[str, Any]:
    """The worker's job.

    Args:
        job: what bench/reference.py's `prepare` takes, without inputs and weights, one of `statistics`; `original`:
            name of a task; `weights`: names and files (None: untrained); `sets`: names and lists of files (None: the
            default picture); `size`: (width, height) that pictures are brought to, or None; `targets`: where what
            operators make is kept.

    Returns:
        {"rows": [...], "convention": words}: a row per set, picture, weights and precision with figures against the
        target; `weights` is None in rows of what one has without a network.
    """
    spec, task = ModelSpec.from_json(job["spec"]), tasks.get(job["original"])
    sessions = list(_sessions(job, spec, emit))
    targets = Targets(Path(job["targets"]))
    rows: list[dict[str, Any]] = []
    total = sum(len(paths) for _, paths in job["sets"])
    done = 0
    for name, paths in job["sets"]:
        for number, path in enumerate(paths):
            title = Path(path).name if path else DEFAULT_PICTURE_NAME
            emit("phase", name=f"{name}: {title}", share=done / total)
            picture = read_picture(path) if path else default_picture()
            if job["size"]:
                picture = fit_picture(picture, *job["size"])
            trial = trial_of(task, spec, number, (title, picture), targets)
            where = {"set": name, "picture": trial.name}
            beside = {"weights": None, "precision": None, "without": BASELINES[task.kind], "reason": None}
            rows.append({**where, **beside, "quality": _figures(as_given(trial.pair), trial)})
            for facts, session in sessions:
                row = {**where, **facts}
                if session:
                    output = session.run(None, {INPUT: np.ascontiguousarray(trial.pair.input[None])})[0]
                    row["quality"] = _figures(unit_range(output, spec)[0], trial)
                rows.append(row)
            done += 1
    return {"rows": rows, "convention": convention(task, spec)}


def _sessions(
    job: Mapping[str, Any], spec: ModelSpec, emit: Callable[..., None]
) -> Iterator[tuple[dict[str, Any], Any]]:
    """Facts of a row, and what computes it: None where the network does not fit the precision, with the reason."""
    import onnx

    plain = {str(job["statistics"][0]): "fp32"} if job["fp32"] else {}
    for name, file in job["weights"]:
        made = prepare({**job, "weights": file, "inputs": {}}, emit)
        recipes = {lowering["key"]: lowering["recipe"]["precision"] for lowering in job["lowerings"]}
        for key, precision in (plain | recipes).items():
            facts = {"weights": name, "trained": file is not None, "precision": precision, "reason": None}
            if key in made["refused"]:
                yield facts | {"reason": made["refused"][key]["reason"]}, None
                continue
            model = onnx.load(Network.from_json(made["networks"][key]).main.onnx_path)
            yield facts, strict_session(as_rounded(model) if key in recipes else model, job["threads"])


def _figures(output: np.ndarray, trial: Trial) -> dict[str, Any]:
    """Those of bench/metrics.py within the part that is judged; NaN stays NaN when clipped."""
    made, target = (judged_part(planes, trial) for planes in (output, trial.pair.target))
    return compare(np.clip(made, 0, 1)[None], target[None])
