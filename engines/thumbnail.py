"""Runs a network whose statistics come from a thumbnail of each picture, on any engine whose sessions can refit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from engines.engine import Engine, Options, Session
from engines.tile_choice import Tiling
from engines.tiled_session import TiledSession
from export.network import Graph, Network

if TYPE_CHECKING:
    import numpy as np


def load_network(engine: Engine, network: Network, options: Options, tiling: Tiling | None = None) -> Session:
    """A session for a whole network: its main graph, or for `thumbnail` statistics both graphs in turn.

    Args:
        tiling: run the main graph tile by tile; the thumbnail's always sees the whole picture.

    Raises:
        UserError: as Engine.load.
    """
    if network.thumbnail is None:
        return _main_session(engine, network.main, options, tiling)
    return ThumbnailSession(engine, network, options, tiling)


def _main_session(engine: Engine, graph: Graph, options: Options, tiling: Tiling | None) -> Session:
    if tiling is None:
        return engine.load(graph, options)
    if tiling.branch is None:
        return TiledSession(engine.load(graph, options), tiling)
    refittable = replace(options, refittable=(*options.refittable, tiling.reach.branch[0]))
    branch = engine.load(tiling.branch, options)
    return TiledSession(engine.load(tiling.graph, refittable), tiling, branch)


class ThumbnailSession(Session):
    """Per inference: thumbnail → scales and offsets → folded into the main graph's weights → main graph."""

    def __init__(self, engine: Engine, network: Network, options: Options, tiling: Tiling | None = None) -> None:
        assert network.thumbnail is not None
        super().__init__(network.main, options)
        self._base = _base_weights(network)
        self._rule = network.refit_rule
        self._small = engine.load(network.thumbnail, options)
        names = tuple(name for pair in network.refit_rule for name in pair)
        self._main = _main_session(engine, network.main, replace(options, refittable=names), tiling)
        self._describe()

    def _describe(self) -> None:
        said = "thumbnail, folding and new weights are in every inference"
        self.contract = {**self._main.contract, "statistics": said}

    @property
    def tiled(self) -> Session:
        """The session of the main graph, which may be tiled."""
        return self._main

    def _bind(self, x: np.ndarray) -> None:
        self._small.bind(x)
        self._main.bind(x)
        self._describe()

    def _enqueue(self) -> None:
        self._small.enqueue()
        self._small.synchronize()
        tensors: dict[str, np.ndarray] = {}
        for (weight, bias), (scale, offset) in zip(self._rule, self._small.read(), strict=True):
            tensors[weight] = self._base[weight] * scale.reshape(-1, 1, 1, 1)
            tensors[bias] = offset
        self._main.refit(tensors)
        self._main.enqueue()

    def _synchronize(self) -> None:
        self._main.synchronize()

    def _read(self) -> np.ndarray:
        return self._main.peek()

    def read(self) -> np.ndarray:
        """As the main graph's session: without a copy where that is tiled."""
        return self._main.read()

    def _refit(self, tensors: Mapping[str, np.ndarray]) -> None:
        raise ValueError("a thumbnail session refits itself")

    def prepare(self) -> None:
        self._main.prepare()

    def _close(self) -> None:
        self._small.close()
        self._main.close()


def _base_weights(network: Network) -> dict[str, np.ndarray]:
    from safetensors.numpy import load_file

    state = load_file(network.main.state_path)
    return {weight: state[weight] for weight, _ in network.refit_rule}
