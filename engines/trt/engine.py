"""The engine of both TensorRT libraries; engines/tensorrt.py and engines/tensorrt_rtx.py each hold one of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from engines.engine import ENDS, Engine, LayerTime, Options, Session, Setting
from engines.installed import cuda_device_count, gpu_missing
from engines.profiling import WARM_UP, medians_of
from engines.trt.api import Api
from engines.trt.builder import SETTINGS as BUILD_SETTINGS
from export.network import Graph
from export.recipe import LOWERED, Recipe
from reference_models.errors import UserError

if TYPE_CHECKING:
    import numpy as np

    from engines.trt.session import GivenPlan

PROFILED = {"graph": "off", "streams": "1", "l2": "warm", "layer_names": "detailed"}
RUN_SETTINGS = (
    Setting("graph", "on", ("on", "off"), "whether inferences are replayed from a CUDA graph"),
    Setting(
        "profile",
        "static",
        ("static", "dynamic"),
        "one plan per size, or one for all sizes from 64x64 to 3840x2160, tuned for the first",
    ),
    Setting("host_memory", "pinned", ("pinned", "pageable"), "host side of copies to and from the device"),
    Setting(
        "streams",
        "1",
        ("1", "2", "4"),
        "inferences in flight, each with a stream, a context and an output of its own; a latency is then that of all",
    ),
    Setting("l2", "warm", ("warm", "flushed"), "whether the second-level cache is emptied before each inference"),
    ENDS,
)


class TrtEngine(Engine):
    """Builds plans, and runs them where there is a device for it."""

    precisions: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "cuda": ("fp32", "tf32", "bf16", "fp16", "int8", "int8+fp16", "fp8", "auto")
    }
    api: ClassVar[Api]
    tells_layer_times = ("cuda",)
    has_float64 = False

    def missing(self) -> str | None:
        return self.api.missing()

    def plan_missing(self, settings: Mapping[str, str]) -> str | None:
        return self.api.runtime_missing(self.api.runnable(settings))

    def version(self) -> str:
        return self.api.version()

    def build_missing(self) -> str | None:
        """None where plans can be built here, else one sentence that says why not."""
        reason = self.api.missing()
        if reason is None and self.api.needs_device_to_build and not cuda_device_count():
            reason = "it times kernels on the GPU while it builds, and the driver shows no CUDA device here"
        return reason

    def recipe(self, device: str, precision: str) -> Recipe | None:
        return Recipe(precision) if precision in LOWERED else None

    def device_missing(self, device: str) -> str | None:
        return gpu_missing(device, self.api.capability_missing)

    def layer_times(self, graph: Graph, options: Options, x: np.ndarray, runs: int = 10) -> list[LayerTime]:
        """In a plan of its own that can name kernels and types: one inference at a time, enqueued by hand."""
        settings = self.complete_settings({**options.settings, **PROFILED})
        with self.load(graph, replace(options, settings=settings)) as session:
            session.bind(x)
            told = [session.layer_times() for _ in range(WARM_UP + runs)]  # type: ignore[attr-defined]
        return medians_of(told[WARM_UP:])

    def check_settings(self, device: str, settings: Mapping[str, str]) -> None:
        self.api.check_settings(settings)

    def _load(self, graph: Graph, options: Options) -> Session:
        from engines.trt.session import TrtSession

        if options.refittable and options.settings.get("runtime") == "lean":
            raise UserError(
                "statistics `thumbnail` with runtime=lean: it cannot take the new weights of every picture",
                "frozen statistics, or runtime=full",
                "Choose one of the two",
            )
        return TrtSession(self.api, graph, options)

    def load_plan(self, graph: Graph, options: Options, given: GivenPlan) -> Session:
        """A session of a plan that was built before; `graph` says what goes in and comes out.

        Raises:
            UserError: the engine is not usable here or not on this device.
        """
        settings = self.api.runnable(self.complete_settings(options.settings))
        if reason := self.plan_missing(settings) or self.device_missing(options.device):
            todo = self.install if self.plan_missing(settings) else "Load it where there is such a device"
            raise UserError(f"engine `{self.name}`: {reason}", "a usable engine", todo)
        from engines.trt.session import TrtSession

        return TrtSession(self.api, graph, replace(options, settings=settings), given)


def settings_of(api: Api) -> tuple[Setting, ...]:
    """Everything that `--set` takes for this library."""
    return (*BUILD_SETTINGS, *api.settings, *api.run_settings, *RUN_SETTINGS)
