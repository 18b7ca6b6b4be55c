"""A sweep on a Ray cluster: every case on a slot of its own, on whichever machine is free; results in one store.

A CPU case takes as many of a machine's CPUs as it has threads, a CUDA case one GPU, and Ray gives neither to two tasks
at once: on a machine with as many CPUs as threads a case is alone. fullres of the same version is installed everywhere.
A worker that dies has its case measured again elsewhere; runs say which machine they are of.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench import record, store
from bench.case import Case
from bench.run import NotStored, Plan, execute
from engines.installed import package_missing
from reference_models.errors import UserError

TRIES = 3
"""Times that a case whose worker or machine has died is measured again."""
LOCAL = "local"


class Silent:
    """A bench.run.Reporter that shows nothing: the machine has nobody who looks."""

    @contextmanager
    def stage(self, title: str, total: float | None = None) -> Iterator[Callable[[float, str], None]]:
        yield lambda done, doing: None


def check_cluster() -> None:
    """
    Raises:
        UserError: Ray is not installed.
    """
    if reason := package_missing("ray", ("ray",)):
        raise UserError(f"`--cluster`: {reason}", "Ray", "pip install 'fullres[ray]'")


def sweep_on_cluster(plan: Plan, address: str, told: Callable[[str], None] = lambda _: None) -> list[record.Run]:
    """Measures every case of the plan on the cluster; each run is in the store as soon as its case is done.

    KeyboardInterrupt ends the measuring, not the function: what has not come is `skipped`.

    Args:
        address: of a running cluster; `auto`: that of this machine; `local`: starts one here for as long as it takes.
        told: called with a line whenever a case is done.

    Raises:
        UserError: no such cluster, or none that could ever hold one of these cases.
    """
    import ray

    here = not ray.is_initialized()
    if here:
        _connect(address)
    try:
        _refuse_too_small(plan.cases, ray.cluster_resources())
        return _gather(plan, told)
    finally:
        if here:
            ray.shutdown()


def _connect(address: str) -> None:
    import ray

    try:
        ray.init(address=None if address == LOCAL else address, log_to_driver=False, include_dashboard=False)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise UserError(
            f"`--cluster {address}`: {' '.join(str(error).split())[:200]}",
            "HOST:PORT of a Ray cluster, auto or local",
            "Start one with `ray start --head`",
        ) from None


def slot(case: Case) -> dict[str, float]:
    """What a case takes of a machine, in Ray's words."""
    return {"num_gpus": 1.0, "num_cpus": 1.0} if case.device.startswith("cuda") else {"num_cpus": float(case.threads)}


def _refuse_too_small(cases: Sequence[Case], whole: dict[str, float]) -> None:
    """Ray would wait for ever."""
    for case in cases:
        for name, key in (("num_cpus", "CPU"), ("num_gpus", "GPU")):
            wanted = slot(case).get(name, 0.0)
            if wanted > whole.get(key, 0.0):
                raise UserError(
                    f"`--cluster`: {case.title} takes {wanted:g} {key}s, and the cluster has {whole.get(key, 0):g}",
                    "a cluster with a machine for every case", "Choose fewer --threads, or another --device",
                )  # fmt: skip


def _gather(plan: Plan, told: Callable[[str], None]) -> list[record.Run]:
    import ray

    pictures: Any = ray.put(list(plan.pictures))
    remote = ray.remote(max_retries=TRIES)(measure_case)
    bare = replace(plan, pictures=(), left_out=(), picture_folder=None)
    waiting = {remote.options(**slot(case)).remote(replace(bare, cases=[case]), pictures): case for case in plan.cases}
    shared = record.facts(plan.argv, plan.picture_digests, plan.calibration_sha256)
    found = [record.new_run(case, shared) | {"reason": reason} for case, reason in plan.left_out]
    try:
        while waiting:
            (done, *_), _ = ray.wait(list(waiting))
            case = waiting.pop(done)
            run = _result(done, case, shared)
            with contextlib.suppress(UserError):  # the last store.put tries again, and says it
                store.put(plan.store_path, [run])
            found.append(run)
            told(f"{case.title}: {run['status']}; {len(waiting)} cases left")
    except KeyboardInterrupt:
        for task, case in waiting.items():
            ray.cancel(task, force=True)
            reason = "interrupted before it was measured"
            found.append(record.new_run(case, shared) | {"interrupted": True, "reason": reason})
    try:
        store.put(plan.store_path, found)
    except UserError as error:
        raise NotStored(error, found) from error
    return found


def _result(done: Any, case: Case, shared: record.Run) -> record.Run:
    """The case's run; a failed one with the reason where none came."""
    import ray

    try:
        run: record.Run = ray.get(done)
    except ray.exceptions.RayError as error:
        reason = f"no machine of the cluster ended it: {type(error).__name__}: {' '.join(str(error).split())[:300]}"
        return record.new_run(case, shared) | {"status": "failed", "reason": reason}
    return run


def measure_case(plan: Plan, pictures: Sequence[tuple[str, Any]]) -> record.Run:
    """Runs on a machine of the cluster: a plan of one case → its run. What is stored there is not kept."""
    with tempfile.TemporaryDirectory(prefix="fullres-") as folder:
        whole = replace(plan, pictures=pictures, store_path=Path(folder) / "runs.json")
        (run,) = execute(whole, Silent())
    return run
