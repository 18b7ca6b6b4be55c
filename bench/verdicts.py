"""Runs → sentences under a table: where a plugin earns its place, and which plans are slower than torch.compile.

Correctness comes first: a plugin whose output is worse is wrong, however fast. Times are compared by their intervals,
on a device with a clock of its own by that one, which the host's part of a short inference does not blur.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bench import stats
from bench.ways import BACK_TO_BACK

Run = Mapping[str, Any]
LOSS_DB = 1.0
"""More than this below the output without plugins, both against FP32, is another output: a plugin rounds no more often
than what it replaces."""
EXACT_DB = 90.0
"""Above this, PSNR against FP32 is rounding of the last bits, and compares nothing."""
YARDSTICK = "torch_compile"
PLANS = ("tensorrt", "tensorrt_rtx")


def plugin_verdicts(runs: Sequence[Run]) -> list[str]:
    """One sentence per run with plugins and the one without that differs from it in that setting alone."""
    return [_plugin_verdict(off, on) for off, on in _pairs(runs)]


def _pairs(runs: Sequence[Run]) -> Iterator[tuple[Run, Run]]:
    off = {_key(run): run for run in _measured(runs) if run["case"]["settings"].get("plugins") == "off"}
    for run in _measured(runs):
        if run["case"]["settings"].get("plugins", "off") != "off" and _key(run) in off:
            yield off[_key(run)], run


def _measured(runs: Sequence[Run]) -> list[Run]:
    return [run for run in runs if run["status"] == "ok"]


def _key(run: Run) -> tuple[Any, ...]:
    """All that makes two cases the same but the plugins."""
    case = run["case"]
    settings = sorted((k, v) for k, v in case["settings"].items() if k != "plugins")
    return (*_task(run), case["engine"], *settings)


def _plugin_verdict(off: Run, on: Run) -> str:
    case = on["case"]
    words = " ".join(filter(None, (case["model"], case["resolution"], case["precision"], case["statistics"])))
    choice = case["settings"]["plugins"]
    head = f"{words}, {case['engine']}{'' if choice == 'on' else f' with plugins={choice}'}:"
    if reason := _worse(off, on):
        return f"{head} native; the plugin's output is wrong ({reason})"
    before, after = _times(off), _times(on)
    ratio = stats.central(before) / stats.central(after)
    times = f"{stats.central(before):.4g} → {stats.central(after):.4g} ms"
    verdict = _apart(before, after)
    if verdict == 0:
        return f"{head} not told apart ({times}, intervals overlap)"
    how = f"{ratio:.2f} times as fast with it" if verdict < 0 else f"{1 / ratio:.2f} times as fast without it"
    return f"{head} {'plugin' if verdict < 0 else 'native'}, {how} ({times})"


def _worse(off: Run, on: Run) -> str | None:
    """Why the output with plugins is not the one without; None where it is."""
    before, after = ((run.get("quality") or {}).get("vs_same_statistics") or {} for run in (off, on))
    if not before or not after:
        return "it was not judged" if before else None
    if not after["finite"]:
        return "it holds what is no number"
    best, own = (q["psnr_db"] if q["psnr_db"] is not None else float("inf") for q in (before, after))
    if own >= min(best - LOSS_DB, EXACT_DB):
        return None
    return f"{own:.1f} dB against FP32, {best:.1f} without"


def _times(run: Run) -> Sequence[Sequence[float]]:
    """Samples in ms by the device's clock where it has one, else by the host's."""
    latency = run["latency_ms"]
    of_device: Mapping[str, Any] = latency.get("device") or {}
    samples: Sequence[Sequence[float]] = of_device.get("compute", latency)["samples"]
    return samples


def _apart(before: Sequence[Sequence[float]], after: Sequence[Sequence[float]]) -> int:
    """-1 where `after` is faster, 1 where it is slower, 0 where intervals overlap or there are none."""
    one, other = stats.median_interval(before), stats.median_interval(after)
    if one is None or other is None:
        return 0
    return -1 if other[1] < one[0] else 1 if other[0] > one[1] else 0


def defects(runs: Sequence[Run]) -> list[str]:
    """One sentence per plan that is slower than torch.compile's fastest on the same network, size and precision."""
    found = []
    for run in _measured(runs):
        if run["case"]["engine"] not in PLANS:
            continue
        rivals = [r for r in _measured(runs) if r["case"]["engine"] == YARDSTICK and _task(r) == _task(run)]
        rival = min(rivals, key=lambda r: stats.central(_times(r)), default=None)
        if rival and _apart(_times(rival), _times(run)) > 0:
            case = run["case"]
            factor = stats.central(_times(run)) / stats.central(_times(rival))
            words = " ".join(filter(None, (case["model"], case["resolution"], case["precision"], case["statistics"])))
            found.append(f"{words}: {case['variant']} takes {factor:.2f} times as long as {rival['case']['variant']}")
    return found


def _task(run: Run) -> tuple[Any, ...]:
    """What two engines must have in common to be rivals: all of the case but the engine."""
    case, words = run["case"], ("model", "weights_sha256", "resolution", "device", "precision", "statistics", "tile")
    options = sorted((case.get("options") or {}).items())
    return (*(case.get(word) for word in words), case.get("threads"), case.get("way", BACK_TO_BACK), *options)


def sentences(runs: Sequence[Run]) -> list[str]:
    """Both kinds, each with what it is in front."""
    return [
        *(f"plugin or native? {line}" for line in plugin_verdicts(runs)),
        *(f"defect: slower than torch.compile: {line}" for line in defects(runs)),
    ]
