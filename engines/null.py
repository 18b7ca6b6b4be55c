"""null: computes nothing, at once. What a case of it takes is the harness's own cost; tests use it as a double.

With a set delay it sleeps instead, so that a gate can be checked against a difference that is known.
"""

from __future__ import annotations

import select
from collections.abc import Mapping
from importlib import metadata
from typing import TYPE_CHECKING, ClassVar

from engines.engine import CPU_CONTRACT, Engine, Options, Session, Setting
from export.network import Graph
from reference_models.errors import UserError

if TYPE_CHECKING:
    import numpy as np

MAX_DELAY_MS = 60_000.0


class NullEngine(Engine):
    name = "null"
    title = "returns zeros at once: the harness's own cost"
    install = "It is always usable"
    precisions: ClassVar[Mapping[str, tuple[str, ...]]] = {"cpu": ("fp32",)}
    settings = (
        Setting("delay_ms", "0", (), "sleep in every inference, ms, any number from 0; for checks of the gate"),
    )
    computes = False

    def missing(self) -> str | None:
        return None

    def version(self) -> str:
        return metadata.version("fullres")

    def complete_settings(self, given: Mapping[str, str]) -> dict[str, str]:
        complete = super().complete_settings(given)
        delay_ms(complete)
        return complete

    def _load(self, graph: Graph, options: Options) -> Session:
        return NullSession(graph, options)


def delay_ms(settings: Mapping[str, str]) -> float:
    """The delay in ms that the settings ask for.

    Raises:
        UserError: no number, or out of range.
    """
    word = settings["delay_ms"]
    try:
        delay = float(word)
    except ValueError:
        delay = -1.0
    if not 0 <= delay <= MAX_DELAY_MS:
        raise UserError(f"`null.delay_ms={word}`: not a delay", f"ms from 0 to {MAX_DELAY_MS:.0f}", "Try delay_ms=10")
    return delay


class NullSession(Session):
    """Zeros of the graph's output shape."""

    def __init__(self, graph: Graph, options: Options) -> None:
        import numpy as np

        super().__init__(graph, options)
        self.contract = {**CPU_CONTRACT, "threads": options.threads}
        self._delay_s = delay_ms(options.settings) / 1e3
        self._output = np.zeros((0,), np.float32)

    def _bind(self, x: np.ndarray) -> None:
        import numpy as np

        height, width = (side * self.graph.upscale for side in x.shape[2:])
        self._output = np.zeros((1, self.graph.output_planes, height, width), np.float32)

    def _enqueue(self) -> None:
        if self._delay_s:
            select.select((), (), (), self._delay_s)

    def _synchronize(self) -> None:
        pass

    def _read(self) -> np.ndarray:
        return self._output

    def _refit(self, tensors: Mapping[str, np.ndarray]) -> None:
        pass

    def _close(self) -> None:
        import numpy as np

        self._output = np.zeros((0,), np.float32)


ENGINE = NullEngine()
