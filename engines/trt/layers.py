"""Time, type and kernel of every layer of a plan: a pass of its own, since looking slows the inference down."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any


def layer_times_ms(trt: Any, context: Any, device: Any) -> dict[str, float]:
    """One inference of what is bound: layer → device time in ms, in the order of execution."""
    times: dict[str, float] = {}

    class Profiler(trt.IProfiler):
        def __init__(self) -> None:
            trt.IProfiler.__init__(self)

        def report_layer_time(self, layer_name: str, ms: float) -> None:
            times[layer_name] = times.get(layer_name, 0.0) + ms

    context.profiler = Profiler()
    context.enqueue_emits_profile = False  # or every enqueue would wait for the device
    ran = context.execute_async_v3(device.stream)
    device.synchronize()
    if not ran or not context.report_to_profiler() or not times:
        raise RuntimeError("the profiler tells the time of no layer")
    return times


def layer_facts(trt: Any, engine: Any) -> list[dict[str, Any]]:
    """What the plan tells about its layers: names only, unless it was built with `layer_names=detailed`."""
    inspector = engine.create_engine_inspector()
    told = json.loads(inspector.get_engine_information(trt.LayerInformationFormat.JSON))
    return [layer if isinstance(layer, dict) else {"Name": layer} for layer in told.get("Layers", [])]


def kinds_of(facts: Sequence[dict[str, Any]]) -> dict[str, str]:
    """Layer → what it is and the type and layout of what it gives, in the library's words, as far as it tells."""
    found = {}
    for told in facts:
        outputs = told.get("Outputs") or [{}]
        words = told.get("LayerType"), outputs[0].get("Format/Datatype") if isinstance(outputs[0], dict) else None
        found[told["Name"]] = ", ".join(word for word in words if isinstance(word, str))
    return found
