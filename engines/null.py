"""null: computes nothing, at once. What a case of it takes is the harness's own cost; tests use it as a double."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import metadata
from typing import ClassVar

import numpy as np

from engines.engine import CPU_CONTRACT, Engine, Options, Session
from export.network import Graph


class NullEngine(Engine):
    name = "null"
    title = "returns zeros at once: the harness's own cost"
    install = "It is always usable"
    precisions: ClassVar[Mapping[str, tuple[str, ...]]] = {"cpu": ("fp32",)}
    computes = False

    def missing(self) -> str | None:
        return None

    def version(self) -> str:
        return metadata.version("fullres")

    def _load(self, graph: Graph, options: Options) -> Session:
        return NullSession(graph, options)


class NullSession(Session):
    """Zeros of the graph's output shape, for graphs whose output has the input's size and planes."""

    def __init__(self, graph: Graph, options: Options) -> None:
        super().__init__(graph, options)
        self.contract = {**CPU_CONTRACT, "threads": options.threads}
        self._output = np.zeros((0,), np.float32)

    def _bind(self, x: np.ndarray) -> None:
        self._output = np.zeros(x.shape, np.float32)

    def _enqueue(self) -> None:
        pass

    def _synchronize(self) -> None:
        pass

    def _read(self) -> np.ndarray:
        return self._output

    def _refit(self, tensors: Mapping[str, np.ndarray]) -> None:
        pass

    def _close(self) -> None:
        self._output = np.zeros((0,), np.float32)


ENGINE = NullEngine()
