"""All that differs between TensorRT 10, TensorRT 11 and TensorRT-RTX, in this one file; the rest is written once.

Each kind of library is an object, chosen by the engine that holds it and never by a process-wide switch, so that one
process can use both. Nothing is imported before `module` is asked for. Where a name of the vendor's is used by one kind
only, it stands in that kind's class: the tests look it up in the real bindings of that kind alone.
"""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

from engines.engine import Setting
from engines.installed import package_missing, package_version
from engines.plugins.ptx import triton_missing
from reference_models.errors import UserError

_ON = ("off", "on")
LEAN, LEAN_DISTRIBUTIONS = "tensorrt_lean", ("tensorrt-lean-cu13", "tensorrt-lean-cu12", "tensorrt-lean")
LEAN_INSTALL = "pip install tensorrt-lean-cu13"


class Api(ABC):
    """One kind of library. What it calls `engine` is our plan."""

    title: ClassVar[str]
    package: ClassVar[str]
    """The module's name."""
    distributions: ClassVar[tuple[str, ...]]
    install: ClassVar[str]
    settings: ClassVar[tuple[Setting, ...]]
    """Those that only this kind has, and that its plans depend on."""
    run_settings: ClassVar[tuple[Setting, ...]] = ()
    """Those of its own that only matter when a plan runs."""
    needs_device_to_build: ClassVar[bool]
    capabilities: ClassVar[tuple[tuple[int, int], ...]] = ()
    """Compute capabilities that can run its plans; empty: whatever the library says when it is asked."""

    @property
    def module(self) -> Any:
        return importlib.import_module(self.package)

    def runtime_module(self, settings: Mapping[str, str]) -> Any:
        """What runs plans: the library itself, or a smaller one that can do nothing else."""
        return self.module

    def new_runtime(self, logger: Any, settings: Mapping[str, str]) -> Any:
        """What loads plans that were built with these settings, and that the user trusts."""
        return self.runtime_module(settings).Runtime(logger)

    def missing(self) -> str | None:
        return package_missing(self.package, self.distributions)

    def runtime_missing(self, settings: Mapping[str, str]) -> str | None:
        """As `missing`, of what runs plans."""
        return self.missing()

    def check_settings(self, settings: Mapping[str, str]) -> None:  # noqa: B027  most go together
        """
        Raises:
            UserError: settings that do not go together.
        """

    def runnable(self, settings: Mapping[str, str]) -> dict[str, str]:
        """Settings with which a plan that was built with these can run here."""
        return dict(settings)

    def version(self) -> str:
        return package_version(self.distributions)

    def capability_missing(self, capability: tuple[int, int]) -> str | None:
        """None where a device of this compute capability can run plans, else the sentence that says why not."""
        if not self.capabilities or capability in self.capabilities:
            return None
        known = ", ".join(f"{major}.{minor}" for major, minor in self.capabilities)
        return (
            f"{self.title} runs on devices of compute capability {known}; this one has {capability[0]}.{capability[1]}"
        )

    def graph(self, onnx_path: str, settings: Mapping[str, str], precision: str) -> tuple[bytes, list[str]]:
        """The ONNX model to parse, and the names of the plugins that it asks for."""
        return Path(onnx_path).read_bytes(), []

    @abstractmethod
    def set_target(self, trt: Any, config: Any, settings: Mapping[str, str]) -> None:
        """Writes into a builder configuration which devices and versions the plan is for."""

    @abstractmethod
    def load_timings(self, trt: Any, config: Any, stored: bytes) -> None:
        """Gives the builder the timings of earlier builds; empty bytes: none yet."""

    @abstractmethod
    def stored_timings(self, config: Any) -> bytes:
        """The timings after a build; empty where this kind takes none."""

    @abstractmethod
    def create_context(self, trt: Any, engine: Any, settings: Mapping[str, str], compiled: bytes) -> tuple[Any, Any]:
        """An execution context, and what `stored_kernels` takes.

        Args:
            compiled: what `stored_kernels` gave in an earlier process; empty: nothing yet.
        """

    def weights_bytes(self, trt: Any, engine: Any) -> int | None:
        """Of the plan's weights on the device; None where the library does not tell (TensorRT 10.13)."""
        if not hasattr(engine, "get_engine_stat"):
            return None
        return int(engine.get_engine_stat(trt.EngineStat.TOTAL_WEIGHTS_SIZE))

    @abstractmethod
    def stored_kernels(self, kernel_cache: Any) -> bytes:
        """Kernels that were compiled on this device; empty where the plan already holds them."""


class TensorRtApi(Api):
    """TensorRT 10 and 11: measures kernels on the device while it builds."""

    title = "TensorRT"
    package = "tensorrt"
    distributions = ("tensorrt", "tensorrt-cu13", "tensorrt-cu12")
    install = (
        "pip install tensorrt cuda-python --extra-index-url https://pypi.nvidia.com (an NVIDIA GPU and its driver)"
    )
    needs_device_to_build = True
    settings = (
        Setting(
            "hardware",
            "same",
            ("same", "ampere_plus", "same_capability"),
            "devices that can run the plan: this one's kind, every one since Ampere, or every one of its capability",
        ),
        Setting(
            "version_compatible",
            "off",
            ("off", "on", "excluded"),
            "a plan that the lean runtime can run too. `on` puts that runtime into the plan, for newer versions, which "
            "then run code out of the plan; `excluded` leaves it out, and a plan is no program",
        ),
        Setting(
            "plugins",
            "off",
            (*_ON, "picture"),
            "own kernels in the plan for PixelShuffle and pixel deconvolution (needs triton, while it is built). "
            "`picture`: as on, and a shuffle that ends a plan with ends=picture writes the uint8 picture; whether the "
            "library allows that is not known",
        ),
    )
    run_settings = (
        Setting(
            "runtime",
            "full",
            ("full", "lean"),
            "library that runs the plan; `lean` (pip install tensorrt-lean-cu13) is smaller, cannot build or take new "
            "weights, and runs plans with version_compatible alone",
        ),
    )

    def runtime_module(self, settings: Mapping[str, str]) -> Any:
        return importlib.import_module(LEAN) if settings["runtime"] == "lean" else self.module

    def new_runtime(self, logger: Any, settings: Mapping[str, str]) -> Any:
        trt = self.runtime_module(settings)
        runtime = trt.Runtime(logger)
        if settings["version_compatible"] == "on":
            # The plan brings the lean runtime as host code, and is not loaded without this word of trust.
            runtime.engine_host_code_allowed = True
        return runtime

    def runtime_missing(self, settings: Mapping[str, str]) -> str | None:
        return package_missing(LEAN, LEAN_DISTRIBUTIONS) if settings["runtime"] == "lean" else self.missing()

    def check_settings(self, settings: Mapping[str, str]) -> None:
        if settings["runtime"] == "lean" and settings["version_compatible"] == "off":
            raise UserError(
                f"`{self.package}:runtime=lean`: it runs plans that are version compatible, and this one is not",
                "version_compatible=excluded, or on, beside it",
                f"Add `--set {self.package}.version_compatible=excluded`",
            )
        if reason := self.runtime_missing(settings):
            raise UserError(f"`{self.package}:runtime={settings['runtime']}`: {reason}", "both libraries", LEAN_INSTALL)

    def runnable(self, settings: Mapping[str, str]) -> dict[str, str]:
        """With the lean runtime where that one alone is there; the contract of a session says which one ran."""
        lean = {**settings, "runtime": "lean"}
        alone = self.missing() and settings["version_compatible"] != "off" and not self.runtime_missing(lean)
        return lean if alone else dict(settings)

    def graph(self, onnx_path: str, settings: Mapping[str, str], precision: str) -> tuple[bytes, list[str]]:
        if settings["plugins"] == "off":
            return super().graph(onnx_path, settings, precision)
        if reason := triton_missing():
            asked = f"`--set {self.package}.plugins={settings['plugins']}`"
            raise UserError(f"{asked}: {reason}", "triton", "pip install triton")
        import onnx

        from engines.plugins.nodes import use_plugins

        model = onnx.load(onnx_path)
        products = ("FLOAT16", "INT8", *(("FLOAT",) if precision == "tf32" else ()))
        products = products if self._has_tensor_cores() else ()
        if names := use_plugins(model, products, pictures=settings["plugins"] == "picture"):
            self._register_plugins()
        return model.SerializeToString(), names

    def _has_tensor_cores(self) -> bool:
        """Whether the device that builds, and will run the plan, has those that our kernels use."""
        from engines.plugins.pixel_dcl_maps import LEAST_CAPABILITY
        from engines.trt.device import capability, current_device

        major, minor = capability(current_device())
        return 10 * major + minor >= LEAST_CAPABILITY

    @cache  # noqa: B019  one object for the whole process, which is what may register them once
    def _register_plugins(self) -> None:
        from engines.plugins.ptx import CAPABILITIES
        from engines.plugins.registration import register_plugins

        # PTX for the oldest device runs on every later one, and these kernels use no newer instruction.
        register_plugins(self.module, importlib.import_module(f"{self.package}.plugin"), CAPABILITIES[0])

    def set_target(self, trt: Any, config: Any, settings: Mapping[str, str]) -> None:
        levels = trt.HardwareCompatibilityLevel
        if settings["hardware"] == "ampere_plus":
            config.hardware_compatibility_level = levels.AMPERE_PLUS
        elif settings["hardware"] == "same_capability":
            config.hardware_compatibility_level = levels.SAME_COMPUTE_CAPABILITY
        if settings["version_compatible"] != "off":
            config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
        if settings["version_compatible"] == "excluded":
            config.set_flag(trt.BuilderFlag.EXCLUDE_LEAN_RUNTIME)

    def load_timings(self, trt: Any, config: Any, stored: bytes) -> None:
        cache = config.create_timing_cache(stored)
        config.set_timing_cache(cache, False)

    def stored_timings(self, config: Any) -> bytes:
        cache = config.get_timing_cache()
        return bytes(cache.serialize())

    def create_context(self, trt: Any, engine: Any, settings: Mapping[str, str], compiled: bytes) -> tuple[Any, Any]:
        return engine.create_execution_context(), None

    def stored_kernels(self, kernel_cache: Any) -> bytes:
        return b""


class TensorRtRtxApi(Api):
    """TensorRT for RTX: builds without a device, and compiles the plan's kernels on the device that runs it."""

    title = "TensorRT for RTX"
    package = "tensorrt_rtx"
    distributions = ("tensorrt-rtx-cu13", "tensorrt_rtx_cu13", "tensorrt-rtx")
    install = "pip install tensorrt-rtx-cu13 cuda-python (builds anywhere; running needs an RTX GPU and its driver)"
    needs_device_to_build = False
    capabilities = ((7, 5), (8, 6), (8, 9), (12, 0), (12, 1))
    settings = (
        Setting(
            "target",
            "all",
            ("all", "75", "80", "86", "89", "120", "121"),
            "compute capability that the plan is for; `all` holds what every supported one needs",
        ),
    )
    run_settings = (
        Setting(
            "specialise",
            "eager",
            ("eager", "lazy", "none"),
            "kernels for a dynamic plan's shape: compiled before its first run, in the background, or never; "
            "with `lazy` times change while they are measured",
        ),
    )

    def set_target(self, trt: Any, config: Any, settings: Mapping[str, str]) -> None:
        if settings["target"] != "all":
            config.num_compute_capabilities = 1
            known = trt.ComputeCapability
            targets = (known.SM75, known.SM80, known.SM86, known.SM89, known.SM120, known.SM121)
            config.set_compute_capability(next(t for t in targets if t.name == f"SM{settings['target']}"), 0)

    def load_timings(self, trt: Any, config: Any, stored: bytes) -> None:
        pass  # it measures nothing while it builds; the calls are there and deprecated

    def stored_timings(self, config: Any) -> bytes:
        return b""

    def create_context(self, trt: Any, engine: Any, settings: Mapping[str, str], compiled: bytes) -> tuple[Any, Any]:
        runtime_config = engine.create_runtime_config()
        kernel_cache = runtime_config.create_runtime_cache()
        if compiled:
            kernel_cache.deserialize(compiled)
        runtime_config.set_runtime_cache(kernel_cache)
        strategies = trt.DynamicShapesKernelSpecializationStrategy
        runtime_config.dynamic_shapes_kernel_specialization_strategy = {
            "eager": strategies.EAGER,
            "lazy": strategies.LAZY,
            "none": strategies.NONE,
        }[settings["specialise"]]
        return engine.create_execution_context(runtime_config), kernel_cache

    def stored_kernels(self, kernel_cache: Any) -> bytes:
        return bytes(kernel_cache.serialize())
