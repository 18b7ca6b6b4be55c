"""Runs of a baseline and a candidate → pairs of like cases, what is missing, what may not be compared, what differs.

A case is what was to be measured: network, size, engine with its settings, device, precision. Library versions, commit
and weights are what a gate is for: they may differ, and are listed. docs/gate.md has the list.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from bench.record import Run
from export.recipe import Recipe
from reference_models.errors import UserError

CASE = (
    *("model", "options", "trained", "resolution", "input_shape", "output_shape"),
    *("variant", "device", "precision", "recipe", "statistics", "tile", "memory_mib", "way", "original"),
)
"""What makes two runs of one case; `trained`, since devices may be faster on a network of zeros."""
NEWER = frozenset({"options", "recipe", "memory_mib", "way", "original"})
"""Of these, what runs of earlier versions do not state."""
UNKNOWN = "unknown"
"""The commit of runs that hold none."""
MACHINE = ("cpu", "architecture", "cores_usable", "cpu_quota", "isa", "virtualised")
"""What makes two machines one; of GPUs, their names too."""
CONDITIONS = ("memory_mib", "os", "kernel", "python", "governor")
"""Facts of the machine that may differ, and are listed."""


@dataclass(frozen=True)
class Pairing:
    """Every case of both sides, by the last run of it."""

    pairs: Sequence[tuple[Run, Run]]
    missing: Sequence[tuple[Run, str]]
    """Cases that the baseline measured and the candidate did not, each with the reason."""
    extra: Sequence[tuple[Run, str]]
    """Runs that cannot be judged since the baseline has no figure for them, each with the reason."""


def pair_runs(baseline: Iterable[Run], candidate: Iterable[Run]) -> Pairing:
    """Pairs like cases, in the order of the baseline.

    Where a case has no like one, the only one that was judged against another original (`--original`), or none, takes
    its place: operators leave the picture that goes in as it is. Tasks do not (noise, reduction), and still part cases.
    """
    a, b = (_latest(runs) for runs in (baseline, candidate))
    unpaired = [{key: run for key, run in x.items() if key not in y} for x, y in ((a, b), (b, a))]
    loose = [_by_loose_key(runs.values()) for runs in unpaired]
    pairs, missing, extra, used = [], [], [], set(a)
    for key, run in a.items():
        fitting = [side.get(_loose_key(run), []) for side in loose]
        other = b.get(key) or (fitting[1][0] if [len(runs) for runs in fitting] == [1, 1] else None)
        if run["status"] != "ok":
            extra.append((run, f"{run['status']} in the baseline: {run.get('reason')}"))
        elif other is None:
            missing.append((run, _what_is_missing(run, unpaired[1].values())))
        elif other["status"] != "ok":
            missing.append((run, f"{other['status']} in the candidate: {other.get('reason')}"))
        else:
            pairs.append((run, other))
        used |= {case_key(other)} if other else set()
    extra += [(run, "not in the baseline") for key, run in b.items() if key not in used]
    return Pairing(pairs, missing, extra)


def _by_loose_key(runs: Iterable[Run]) -> dict[str, list[Run]]:
    found: dict[str, list[Run]] = {}
    for run in runs:
        found.setdefault(_loose_key(run), []).append(run)
    return found


def _loose_key(run: Run) -> str:
    """Equal for runs of one case, whichever operators they were judged against."""
    from reference_models import operators

    case = run["case"]
    return case_key({**run, "case": {**case, "original": None}} if case.get("original") in operators.names() else run)


def _what_is_missing(run: Run, others: Iterable[Run]) -> str:
    """That there is no like case, and what one of the same name that has no partner either has otherwise."""
    said = "the candidate has no run of this case"
    for other in others:
        if title_of(other) == title_of(run):
            apart = _differing(*(_facts_of_case(r) for r in (run, other)))
            return f"{said}; one of the same name differs in {', '.join(f'{n} ({x} → {y})' for n, x, y in apart)}"
    return said


def _facts_of_case(run: Run) -> dict[str, str]:
    """The case in words, its recipe taken apart: what differs in it is one of many things that do not."""
    case = _case(run)
    recipe = case.pop("recipe", None)
    told = {**asdict(Recipe("")), **recipe} if recipe else {}
    return {name: _word(list(value) if isinstance(value, tuple) else value) for name, value in {**case, **told}.items()}


def title_of(run: Run) -> str:
    """A few words that name the case."""
    case = run["case"]
    options = "".join(f":{name}={value}" for name, value in (case.get("options") or {}).items())
    words = (f"{case['model']}{options}", case["resolution"], case["variant"], case["precision"], case["statistics"])
    marks = [] if case["trained"] else ["untrained"]
    if (tile := case.get("tile", "off")) != "off":
        granted = case.get("memory_mib")
        marks.append(f"tile {tile}" + (f" in {granted:g} MiB" if granted else ""))
    if (way := case.get("way", "back to back")) != "back to back":
        marks.append(f"({way})")
    device = () if case["device"] == "cpu" else (case["device"],)
    return " ".join(str(word) for word in (*words, *device, *marks) if word)


def refusals(a: Run, b: Run, across_machines: bool = False) -> list[str]:
    """Why no figure of these two runs may be compared, each a clause; empty where nothing speaks against it."""
    if a["id"] == b["id"]:
        return ["the same run stands on both sides"]
    found = []
    if not across_machines:
        found += [f"another machine: {name} {x} → {y}" for name, x, y in _differing(machine_of(a), machine_of(b))]
    contracts = [{str(k): _word(v) for k, v in (run.get("contract") or {}).items()} for run in (a, b)]
    shared = contracts[0].keys() & contracts[1].keys()
    found += [
        f"another contract: {name} {x} → {y}" for name, x, y in _differing(*contracts) if name in shared
    ]  # what only one of them states is news of a newer version, and listed
    threads = [_word(run["case"].get("threads", "not stated")) for run in (a, b)]
    if threads[0] != threads[1] and "threads" not in shared:
        found.append(f"another number of threads: {threads[0]} → {threads[1]}")
    return found


def machine_of(run: Run) -> dict[str, str]:
    """What must be equal for two runs to be of one machine."""
    machine = run.get("machine") or {}
    facts = {name: _word(machine.get(name)) for name in MACHINE}
    return facts | {"gpus": ", ".join(str(gpu.get("name")) for gpu in machine.get("gpus") or []) or "none"}


def differences(pairs: Sequence[tuple[Run, Run]]) -> list[tuple[str, str, str]]:
    """Name, value in the baseline, value in the candidate, of whatever is not the same on both sides.

    Several values of one side are joined by " | ".
    """
    found = []
    sides = [[_facts(pair[side]) for pair in pairs] for side in (0, 1)]
    for name in dict.fromkeys(name for side in sides for facts in side for name in facts):
        values = [" | ".join(sorted({facts.get(name, "none") for facts in side})) for side in sides]
        if values[0] != values[1]:
            found.append((name, values[0], values[1]))
    return found


def check_runs(runs: Iterable[Run], source: str) -> list[Run]:
    """The runs, each known to have what pairing and judging read.

    Raises:
        UserError: a run was changed by hand.
    """
    checked = list(runs)
    for run in checked:
        case, status = run.get("case"), run.get("status")
        if not isinstance(case, Mapping) or status not in {"ok", "failed", "skipped"}:
            raise _broken(source, run, "`case` and `status`")
        if missing := [name for name in CASE if name not in case and name not in NEWER]:
            raise _broken(source, run, f"`case.{missing[0]}`")
        for name in ("machine", "contract", "versions", "memory", "quality"):
            if not isinstance(run.get(name) or {}, Mapping):
                raise _broken(source, run, f"an object `{name}`")
        latency = run.get("latency_ms")
        if status == "ok" and not (isinstance(latency, Mapping) and _are_samples(latency.get("samples"))):
            raise _broken(source, run, "`latency_ms.samples`, lists of numbers above 0,")
    return checked


def _are_samples(found: object) -> bool:
    return isinstance(found, list) and all(
        isinstance(samples, list)
        and all(isinstance(s, int | float) and not isinstance(s, bool) and s > 0 for s in samples)
        for samples in found
    )


def _broken(source: str, run: Run, wanted: str) -> UserError:
    return UserError(
        f"{source}: run {run.get('id')} has no {wanted} as it should", "a run of this program", "Measure it again"
    )


def _latest(runs: Iterable[Run]) -> dict[str, Run]:
    """Case → its last run by time, in the order of the file. A failure after a success counts: it is the last word."""
    kept = list(runs)
    found = {case_key(run): run for run in sorted(kept, key=lambda run: str(run.get("time")))}
    return {case_key(run): found[case_key(run)] for run in kept}


def case_key(run: Run) -> str:
    """Equal for runs of one case."""
    return _word(_case(run))


def _case(run: Run) -> dict[str, Any]:
    """What makes the run one of its case; what runs of earlier versions do not state is as it was then."""
    case = {"way": "back to back", **run["case"]}
    return {name: case.get(name) or None for name in CASE}


def _facts(run: Run) -> dict[str, str]:
    machine, case = run.get("machine") or {}, run["case"]
    drivers = ", ".join(str(gpu.get("driver")) for gpu in machine.get("gpus") or [])
    return {
        "commit": _word(run.get("commit") or UNKNOWN),
        f"version of {case.get('engine')}": _word(case.get("engine_version")),
        **{f"version of {name}": _word(value) for name, value in (run.get("versions") or {}).items()},
        "weights": _word(case.get("weights_sha256") or "untrained")[:12],
        "pictures": ", ".join(map(str, run.get("pictures") or [])) + _digest(run.get("pictures_sha256")),
        **{name: _word(machine.get(name)) for name in CONDITIONS},
        "gpu driver": drivers or "none",
        **{f"contract: {name}": _word(value) for name, value in (run.get("contract") or {}).items()},
        **{f"machine: {name}": value for name, value in machine_of(run).items()},
    }


def _digest(digests: Any) -> str:
    return f" ({str(digests[0])[:8]}…)" if isinstance(digests, list) and digests else ""


def _differing(a: Mapping[str, str], b: Mapping[str, str]) -> list[tuple[str, str, str]]:
    names = dict.fromkeys((*a, *b))
    return [(n, a.get(n, "not stated"), b.get(n, "not stated")) for n in names if a.get(n) != b.get(n)]


def _word(value: Any) -> str:
    """One line of text, the same for equal values."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_word(item)}" for name, item in sorted(value.items()))
    if isinstance(value, list | tuple):
        return " ".join(_word(item) for item in value)
    return "none" if value is None else str(value)
