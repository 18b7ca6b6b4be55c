"""A side of `bench ab` that is a plan: what `bench build` wrote, measured as it lies there. Exports and builds nothing.

The plan's sidecar says what it is; without its weights nobody can say how far it is from FP32, so that quality is not
judged. `--model` with other words of a side does that.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import engines
from bench import record
from bench.case import Case, resolution_size, resolve_device
from bench.machine import usable_cores
from bench.spawn import JobFailed, run_job, thread_environment
from bench.ways import Way
from engines.sidecar import read_sidecar
from export.network import Graph, Network
from reference_models.errors import UserError
from reference_models.spec import ModelSpec


@dataclass(frozen=True)
class PlanWords:
    """What the command line says of how a plan is measured."""

    resolution: str
    device: str = "auto"
    threads: int | None = None
    way: Way = field(default_factory=Way)


def case_of_plan(plan: Path, words: PlanWords) -> Case:
    """The case that measuring this plan is.

    Raises:
        UserError: no plan, no sidecar of it, an engine that is not usable here, or a size that it was not built for.
    """
    if not plan.is_file():
        raise UserError(f"`plan:{plan}`: no such file", "a plan that `bench build` wrote", "Check the path")
    told = read_sidecar(plan)
    engine = engines.get(told["engine"]["name"])
    device = resolve_device(words.device)
    settings = engine.complete_settings(told["engine"]["settings"])
    if settings.get("version_compatible") == "on":
        raise UserError(
            f"`plan:{plan}`: holds a runtime, which is code (version_compatible=on)",
            "a plan that is no program: commands run no code out of plans",
            "Build it with version_compatible=excluded",
        )
    if reason := engine.plan_missing(settings) or engine.device_missing(device):
        raise UserError(f"`plan:{plan}`: engine `{engine.name}`: {reason}", "a usable engine", engine.install)
    width, height = resolution_size(words.resolution)
    case = Case(
        spec=ModelSpec.from_json(json.dumps(told["model"]["spec"])),
        resolution=words.resolution.lower(), width=width, height=height,
        engine=engine.name, device=device, precision=told["precision"], statistics=told["model"]["statistics"],
        weights=None, weights_name=told["model"]["weights"] or "untrained",
        threads=min(words.threads or usable_cores(), usable_cores()),
        settings=settings, way=words.way.word,
    )  # fmt: skip
    on_pictures = told.get("takes") == "pictures"
    _refuse_other_sizes(plan, told["sizes"], case.input_size[::-1] if on_pictures else case.input_shape[2:])
    return case


def _refuse_other_sizes(plan: Path, sizes: Sequence[Mapping[str, Any]], size: tuple[int, ...]) -> None:
    def within(profile: Mapping[str, Any]) -> bool:
        ranges = zip(profile["least"], size, profile["most"], strict=True)
        return all(least <= side <= most for least, side, most in ranges)

    if sizes and not any(map(within, sizes)):
        known = ", ".join(str(profile["resolution"]) for profile in sizes)
        raise UserError(f"`plan:{plan}`: was not built for {size[1]}x{size[0]}", known, "Give a --res that it takes")


@dataclass
class PlanTurn:
    """A bench.ab.Turn: measures one more process of a plan."""

    plan: Path
    case: Case
    run: record.Run
    budget_s: float
    """Of one process."""
    scratch: Path
    pictures: Sequence[Any]
    """(H, W, 3) uint8 RGB; the first is timed."""
    peaks: Mapping[str, Any] = field(default_factory=dict)
    _results: list[dict[str, Any]] = field(default_factory=list)
    _rates: list[float] = field(default_factory=list)

    def __call__(self) -> record.Run:
        if self.run["status"] == "failed":
            return self.run
        own = engines.get(self.case.engine).environment(self.case.settings)
        self._rates.append(_rate())
        try:
            self._results.append(run_job(self._job(), {**thread_environment(self.case.threads), **own}))
        except JobFailed as failure:
            self.run |= {"status": "failed", "reason": failure.reason, "log": failure.log}
            return self.run
        self._rates.append(_rate())
        self.run["work"] = self.run["work"] or {"gmac": None, "min_bytes": None, "limit_share": None, "limit": None}
        record.update(self.run, self.case, self._results, self._rates, self.peaks)
        return self.run

    def _job(self) -> dict[str, Any]:
        source, tensor = self.scratch / "source.npy", self.scratch / "x.npy"
        if not tensor.exists():
            _write_input(self.case, self.pictures[0], source, tensor)
        return {
            "job": "case",
            "case": self.case.to_dict(),
            "plan": str(self.plan.absolute()),
            "network": _no_network(),
            "inputs": [str(tensor)],
            "sources": [str(source)],
            "output_shape": self.case.output_shape,
            "rule": {"budget_s": self.budget_s},
            "judge": False,
            "pictures": {},
        }


def new_run(plan: Path, case: Case, facts: record.Run) -> record.Run:
    """The run of a plan, not measured yet."""
    told = read_sidecar(plan)
    run = record.new_run(case, facts)
    run["case"] |= {
        "plan": plan.name,
        "plan_sha256": told["plan"]["sha256"],
        "trained": told["model"]["trained"],
        "weights_sha256": told["model"]["weights_sha256"],
        "engine_built": told["engine"]["version"],
    }
    run["lowering"] = told["lowering"]
    run["memory"]["plan_mib"] = told["plan"]["bytes"] / 2**20
    return run


def _write_input(case: Case, picture: Any, source: Path, tensor: Path) -> None:
    import numpy as np

    from reference_models.colour import tensor_from_picture
    from reference_models.pictures import fit_picture

    fitted = fit_picture(picture, *case.input_size)
    np.save(source, fitted)
    np.save(tensor, tensor_from_picture(fitted, case.spec))


def _no_network() -> str:
    """What stands for a network in the worker's job: a plan needs none."""
    return Network("", None, Graph("", "", "", "", {}, ""), None, (), 0).to_json()


def _rate() -> float:
    """10^9 FLOP/s of a 512³ product in this process, best of 25: is the machine the same one?"""
    import numpy as np

    from bench.peaks import best_s

    a = np.ones((512, 512), np.float32)
    return 2 * 512**3 / best_s(lambda: a @ a, 25) / 1e9
