"""torch → ONNX with dynamic height and width, checked against torch at sizes that the export never saw."""

from __future__ import annotations

import contextlib
import copy
import io
import json
import logging
import os
import shutil
import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from export.cache import content_key, forget_leftovers
from export.network import INPUT, OUTPUT, Graph, Network, file_sha256
from reference_models.errors import UserError
from reference_models.spec import ModelSpec

OPSET = 20
"""Oldest opset whose Q/DQ take FP16 scales and that TensorRT 10 and 11, ONNX Runtime and OpenVINO all read."""
TRACED_SIZE = (40, 56)
CHECKED_SIZES = ((64, 48), (23, 41))
TOLERANCE = 2e-4
"""Largest difference to torch that the check allows, in units of the output's range [0, 1]."""


@dataclass(frozen=True)
class ExportRequest:
    """What a network's files depend on; two equal requests give the same cache entry."""

    spec: ModelSpec
    weights: str | None
    """File of trained weights; None: the published initialisation."""
    statistics: str | None
    calibration: Sequence[np.ndarray] = ()
    """(H, W, 3) uint8 RGB pictures; used by `frozen` statistics only."""


def export_network(request: ExportRequest, cache: Path) -> Network:
    """The network's files, made once per content: weights, definition, statistics, calibration and library versions.

    Raises:
        UserError: weights that do not fit, or statistics that the network does not offer.
    """
    folder = cache / "networks" / content_key(request)
    done = folder / "network.json"
    if not done.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        forget_leftovers(folder.parent)
        scratch = Path(tempfile.mkdtemp(dir=folder.parent, prefix="."))
        try:
            start = time.perf_counter()
            network = replace(_write_network(request, scratch), export_s=time.perf_counter() - start)
            (scratch / "network.json").write_text(_with_folder(network, Path()).to_json())
            if not done.exists():
                shutil.rmtree(folder, ignore_errors=True)  # what somebody left of it
            with contextlib.suppress(OSError):  # another process was quicker: its files are as good
                os.rename(scratch, folder)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    return _with_folder(Network.from_json(done.read_text()), folder.resolve())


def _with_folder(network: Network, folder: Path) -> Network:
    """The same network with its files in `folder`: the cache stores names only, so that it can be moved."""

    def moved(graph: Graph) -> Graph:
        onnx_name, state_name = Path(graph.onnx_path).name, Path(graph.state_path).name
        return replace(graph, onnx_path=str(folder / onnx_name), state_path=str(folder / state_name))

    thumbnail = moved(network.thumbnail) if network.thumbnail else None
    return replace(network, main=moved(network.main), thumbnail=thumbnail)


def _write_network(request: ExportRequest, folder: Path) -> Network:
    from reference_models import create_model
    from reference_models.networks.statistics import ThumbnailAffines, calibrated_affines, fold_

    spec = request.spec
    published: Any = create_model(spec.name, request.weights, **spec.options)
    write = _GraphWriter(spec, folder)
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
    return Network(request.spec.name, request.statistics, main, thumbnail, rule, OPSET, request.spec.upscale)


def _tensors(request: ExportRequest) -> Iterator[Any]:
    import torch

    from reference_models.pictures import tensor_from_picture

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
        write_onnx(module, onnx_path, self.spec.size_multiple)
        state = {key: value.detach().clone().contiguous() for key, value in (state or module.state_dict()).items()}
        save_file(state, state_path)
        options = json.loads(json.dumps(dict(self.spec.options)))
        sha256 = file_sha256(onnx_path)
        return Graph(str(onnx_path), sha256, str(state_path), self.spec.factory, options, role)


def write_onnx(module: Any, path: Path, size_multiple: int = 1) -> None:
    """Writes a (N=1, 3, H, W) → tensor module as ONNX with dynamic H and W, then checks the file.

    Raises:
        RuntimeError: ONNX's checker or the comparison with torch refuses the file (our bug, or the exporter's).
    """
    import torch

    height, width = TRACED_SIZE
    k = size_multiple
    h, w = torch.export.Dim("h", min=1, max=1 << 15), torch.export.Dim("w", min=1, max=1 << 15)
    x = torch.rand(1, 3, height * k, width * k)
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
    check_onnx(module, path, [(a * k, b * k) for a, b in CHECKED_SIZES])


def check_onnx(module: Any, path: Path, sizes: Sequence[tuple[int, int]]) -> float:
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
        x = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(height))
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
