"""torch → ONNX with dynamic height and width, checked against torch at sizes that the export never saw."""

from __future__ import annotations

import contextlib
import copy
import io
import json
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from export.cache import content_key, made_once
from export.network import INPUT, OUTPUT, Graph, Network, file_sha256
from reference_models.errors import UserError
from reference_models.spec import ModelSpec

OPSET = 20
"""Oldest opset whose Q/DQ take FP16 scales and that TensorRT 10 and 11, ONNX Runtime and OpenVINO all read."""
TRACED_SIZE = (40, 56)
CHECKED_SIZES = ((63, 49), (23, 41), (37, 29))
"""Height and width; brought to what the network takes."""
TOLERANCE = 1e-4
"""Largest difference to torch that the check allows, in units of the output's largest value or 1, whichever is more."""


@dataclass(frozen=True)
class ExportRequest:
    """What a network's files depend on; two equal requests give the same cache entry."""

    spec: ModelSpec
    weights: str | None
    """File of trained weights; None: the published initialisation."""
    statistics: str | None
    calibration: Sequence[np.ndarray] = ()
    """(H, W, 3) uint8 RGB pictures; used by `frozen` statistics only."""
    style: np.ndarray | None = None
    """(H, W, 3) uint8 RGB picture that the global branch sees in place of every input; None: the input itself."""


def export_network(request: ExportRequest, cache: Path) -> Network:
    """The network's files, made once per content: weights, definition, statistics, calibration and library versions.

    Raises:
        UserError: weights that do not fit, or statistics that the network does not offer.
    """
    return made_once(cache, content_key(request), lambda folder: _write_network(request, folder))


def _write_network(request: ExportRequest, folder: Path) -> Network:
    from reference_models import model_from_spec
    from reference_models.networks.statistics import ThumbnailAffines, calibrated_affines, fold_

    spec = request.spec
    published: Any = model_from_spec(spec, request.weights)
    write = _GraphWriter(spec, folder)
    if request.style is not None:
        return _network(request, write("main", _styled(published, request), "styled"), None, ())
    if request.statistics in {None, "image"}:
        return _network(request, write("main", published, "published"), None, ())
    if request.statistics == "frozen":
        folded = fold_(published.folded(), calibrated_affines(published, _tensors(request)))
        return _network(request, write("main", folded, "folded"), None, ())
    template = published.folded().eval()
    main = write("main", _with_distinct_weights(template), "folded", state=template.state_dict())
    small = write("thumbnail", ThumbnailAffines(published).eval(), "thumbnail_affines")
    return _network(request, main, small, template.refit_rule)


def _with_distinct_weights(template: Any) -> Any:
    """A copy whose refitted tensors are random: the exporter stores equal tensors once, and then they have one name."""
    import torch

    copied = copy.deepcopy(template)
    tensors, generator = dict(copied.named_parameters()), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name in (name for pair in template.refit_rule for name in pair):
            tensors[name].uniform_(-0.1, 0.1, generator=generator)
    return copied


def _network(
    request: ExportRequest, main: Graph, thumbnail: Graph | None, rule: tuple[tuple[str, str], ...]
) -> Network:
    return Network(request.spec.title, request.statistics, main, thumbnail, rule, OPSET)


def _styled(model: Any, request: ExportRequest) -> Any:
    import torch

    from reference_models.colour import tensor_from_picture

    assert request.style is not None
    if not request.spec.style:
        raise UserError(
            f"`--style` with model `{request.spec.name}`: it has no global branch",
            "a model that has one",
            "Leave it out",
        )
    with torch.inference_mode():
        return model.styled(torch.from_numpy(tensor_from_picture(request.style, request.spec))).eval()


def _tensors(request: ExportRequest) -> Iterator[Any]:
    import torch

    from reference_models.colour import tensor_from_picture

    if not request.calibration:
        raise UserError("statistics `frozen`: no calibration pictures", "at least one", "Give `--calibration DIR`")
    for picture in request.calibration:
        yield torch.from_numpy(tensor_from_picture(picture, request.spec))


@dataclass(frozen=True)
class _GraphWriter:
    spec: ModelSpec
    folder: Path

    def __call__(self, name: str, module: Any, role: str, state: Mapping[str, Any] | None = None) -> Graph:
        from safetensors.torch import save_file

        onnx_path, state_path = self.folder / f"{name}.onnx", self.folder / f"{name}.safetensors"
        write_onnx(module, onnx_path, self.spec)
        state = {key: value.detach().clone().contiguous() for key, value in (state or module.state_dict()).items()}
        save_file(state, state_path)
        options = json.loads(json.dumps(dict(self.spec.options)))
        sha256 = file_sha256(onnx_path)
        planes = self.spec.input_planes, self.spec.output_planes
        return Graph(
            str(onnx_path), sha256, str(state_path), self.spec.factory, options, role, *planes, self.spec.upscale
        )


def write_onnx(module: Any, path: Path, spec: ModelSpec) -> None:
    """Writes a (N=1, C, H, W) → tensor module as ONNX with dynamic H and W, then checks the file.

    Raises:
        RuntimeError: ONNX's checker or the comparison with torch refuses the file (our bug, or the exporter's).
    """
    import torch

    k = spec.size_multiple
    least = -(-spec.min_size // k)
    h, w = (torch.export.Dim(name, min=least, max=(1 << 15) // k) for name in ("h", "w"))
    x = torch.rand(1, spec.input_planes, *_taken(spec, TRACED_SIZE))
    with _quiet():
        torch.onnx.export(
            module,
            (x,),
            str(path),
            input_names=[INPUT],
            output_names=[OUTPUT],
            opset_version=OPSET,
            dynamo=True,
            dynamic_shapes=({2: k * h, 3: k * w},) if k > 1 else ({2: h, 3: w},),
            external_data=False,
            verbose=False,
        )
    check_onnx(module, path, spec.input_planes, [_taken(spec, size) for size in CHECKED_SIZES])


def _taken(spec: ModelSpec, size: tuple[int, int]) -> tuple[int, int]:
    """A height and width that the network takes, near these; at least two multiples: torch specialises on 1."""
    k = spec.size_multiple
    height, width = (max(-(-max(side, spec.min_size) // k), 2) * k for side in size)
    return height, width


def check_onnx(module: Any, path: Path, planes: int, sizes: Sequence[tuple[int, int]]) -> float:
    """Largest absolute difference between the file in ONNX Runtime (CPU) and the module, over random pictures.

    Raises:
        onnx.checker.ValidationError: the file is not valid ONNX.
        RuntimeError: the difference to torch is above TOLERANCE.
    """
    import onnx
    import onnxruntime as ort
    import torch

    onnx.checker.check_model(str(path), full_check=True)
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    worst = 0.0
    for height, width in sizes:
        x = torch.rand(1, planes, height, width, generator=torch.Generator().manual_seed(height))
        with torch.inference_mode():
            expected = module(x).numpy()
        got = session.run([OUTPUT], {INPUT: x.numpy()})[0]
        if got.shape != expected.shape:
            raise RuntimeError(f"{path}: gives {got.shape} at {height}x{width}, torch gives {expected.shape}")
        scale = max(1.0, float(np.abs(expected).max()))
        worst = float(np.maximum(worst, np.abs(got - expected).max() / scale))  # unlike max(), keeps NaN
    if not worst <= TOLERANCE:
        raise RuntimeError(f"{path}: differs from torch by {worst:.2g}, more than {TOLERANCE}")
    return worst


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporter logs about torchvision and deprecations in its own dependencies; errors still raise."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
