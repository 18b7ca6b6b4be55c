"""What a network was made to replace: which task it is judged by, its input and its target, and the comparison.

Pictures are uint8 (H, W, 3) RGB, as they would be displayed. Operators are run in bench/operator_run.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.case import Case
from bench.inputs import target_path
from bench.metrics import compare
from reference_models import tasks
from reference_models.cards import read_card
from reference_models.errors import UserError
from reference_models.pictures import Picture, fit_picture
from reference_models.spec import Evaluation, ModelSpec
from reference_models.tasks import Task

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SEED = 0
"""Of the noise that is added to the picture of a denoising network."""
MIXED = {"denoising mixed": "denoising sigma 30", "restoration": "denoising sigma 30"}
"""Tasks of several levels, and the one that a network of them is judged by."""
_GREY = 0.299, 0.587, 0.114
"""Source: ITU-R BT.601-7, section 2.5.1, full range."""


def originals_of(cases: Sequence[Case], word: str | None) -> dict[str, str]:
    """Model → name of the task that it is judged by, for those that have one.

    Args:
        word: what `--original` says; None: what the card beside the weights says, where there is one.

    Raises:
        UserError: an unknown task, one that a network cannot do, or a card that cannot be read.
    """
    found = {}
    for case in {case.model: case for case in cases}.values():
        name = _from_card(case) if word is None else _checked(case.spec, word)
        if name:
            found[case.model] = name
    return found


def _checked(spec: ModelSpec, word: str) -> str:
    from reference_models.errors import unknown

    known = [task.name for task in tasks.tasks_of(spec) if not task.labelled]
    try:
        task = tasks.get(word)
    except UserError:
        raise unknown("--original", word, "operator or task", known or tasks.names(), "Give one of these") from None
    if reason := "maps of classes are not pictures" if task.labelled else task.why_not(spec):
        raise UserError(
            f"`--original {task.name}`: not for `{spec.title}`: {reason}",
            ", ".join(known) or "no --original: this network has none",
            "Give one of these, or leave it out",
        )
    return _single(task.name, spec)


def _from_card(case: Case) -> str | None:
    card = None if case.weights is None or case.spec.onnx else read_card(Path(case.weights))
    if card is None or card.task not in tasks.names():
        return None
    task = tasks.get(card.task)
    if task.kind == "colorization" or task.labelled or task.why_not(case.spec):
        return None
    return _single(task.name, case.spec)


def _single(name: str, spec: ModelSpec) -> str:
    if name == "super-resolution mixed":
        return f"super-resolution x{spec.enlarges if spec.enlarges > 1 else 3}"
    return MIXED.get(name, name)


def pair(task: Task, case: Case, picture: Picture) -> tuple[Picture, Picture | None]:
    """The picture that goes in and the one that should come out; None where an operator has yet to make it.

    Degraded as the task says, with a fixed seed: the same pair in every process.
    """
    import numpy as np

    width, height = case.input_size
    if task.operator:
        return fit_picture(picture, width, height), None
    scale = max(task.scales, default=1)
    sides = [-(-side * case.spec.enlarges // scale) * scale for side in (width, height)]
    given, target = task.pictures(fit_picture(picture, *sides), case.spec, np.random.default_rng(SEED))
    return given[:height, :width], np.ascontiguousarray(target[: case.height, : case.width])


def baseline(task: Task, spec: ModelSpec, given: Picture, size: tuple[int, int]) -> tuple[str, Picture]:
    """What one has without the network, (name, picture of `size` height and width)."""
    height, width = size
    if spec.enlarges == 1:
        return ("bicubic" if task.scales else "the input"), given[:height, :width]
    import numpy as np

    from reference_models.resample import imresize

    planes = np.ascontiguousarray(given.transpose(2, 0, 1), np.float32)
    large = imresize(planes, given.shape[0] * spec.enlarges, given.shape[1] * spec.enlarges)[:, :height, :width]
    return "bicubic", np.ascontiguousarray((np.clip(large, 0, 255) + 0.5).astype(np.uint8).transpose(1, 2, 0))


def compare_pictures(made: Picture, target: Picture, evaluation: Evaluation) -> dict[str, Any]:
    """The figures of bench/metrics.py for two pictures, in the channels and within the border of the paper."""
    border = evaluation.border_px
    if min(target.shape[:2]) <= 2 * border:
        border = 0
    rows, columns = (slice(border, side - border) for side in target.shape[:2])
    a, b = (_planes(p[rows, columns], evaluation.channels) for p in (made, target))
    return compare(a, b)


def judge_original(
    job: Mapping[str, Any], spec: ModelSpec, output: NDArray[Any], number: int
) -> tuple[dict[str, Any], tuple[str, dict[str, Any]]]:
    """Figures of a network's output, and name and figures of what one has without it, against the target.

    Args:
        job: of bench/worker.py's job_case.
        output: (1, C, H, W), already cropped.
        number: of the picture.
    """
    import numpy as np

    from reference_models.colour import picture_from_tensor

    source, target = np.load(job["sources"][number]), np.load(target_path(Path(job["inputs"][number])))
    size = target.shape[:2]
    name, plain = baseline(tasks.get(job["original"]), spec, source, size)
    beside = name, compare_pictures(plain, target, spec.evaluation)
    if not np.isfinite(output).all():
        return {"psnr_db": None, "ssim": None, "max_abs": None, "identical": False, "finite": False}, beside
    made = picture_from_tensor(output, spec, source, size)
    return compare_pictures(made, target, spec.evaluation), beside


def convention(evaluation: Evaluation) -> dict[str, Any]:
    """What the figures of `compare_pictures` mean, for the runs file."""
    channels = "RGB" if evaluation.channels == "none" else evaluation.channels
    return {"pictures": "uint8 as displayed", "channels": channels, "border_px": evaluation.border_px}


def _planes(picture: Picture, channels: str) -> NDArray[np.float32]:
    """(1, C, H, W) over 255."""
    import numpy as np

    from reference_models.colour import luma_from_picture

    if channels == "Y":
        return luma_from_picture(picture)[None, None] / np.float32(255)
    if channels == "grey":
        weights = np.array(_GREY, np.float32)
        return (picture @ weights)[None, None] / np.float32(255)
    return np.divide(picture.transpose(2, 0, 1)[None], 255, dtype=np.float32)
