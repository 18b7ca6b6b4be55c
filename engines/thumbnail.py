"""Runs a network whose statistics come from a thumbnail of each picture, on any engine whose sessions can refit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from engines.engine import Engine, Options, Session
from export.network import Network


def load_network(engine: Engine, network: Network, options: Options) -> Session:
    """A session for a whole network: its main graph, or for `thumbnail` statistics both graphs in turn.

    Raises:
        UserError: as Engine.load.
    """
    if network.thumbnail is None:
        return engine.load(network.main, options)
    return ThumbnailSession(engine, network, options)


class ThumbnailSession(Session):
    """Per inference: thumbnail → scales and offsets → folded into the main graph's weights → main graph."""

    def __init__(self, engine: Engine, network: Network, options: Options) -> None:
        assert network.thumbnail is not None
        super().__init__(network.main, options)
        self._base = _base_weights(network)
        self._rule = network.refit_rule
        self._small = engine.load(network.thumbnail, options)
        names = tuple(name for pair in network.refit_rule for name in pair)
        self._main = engine.load(network.main, replace(options, refittable=names))
        self.contract = {
            **self._main.contract,
            "statistics": "thumbnail, folding and new weights are in every inference",
        }

    def _bind(self, x: np.ndarray) -> None:
        self._small.bind(x)
        self._main.bind(x)

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
        return self._main.read()

    def _refit(self, tensors: Mapping[str, np.ndarray]) -> None:
        raise ValueError("a thumbnail session refits itself")

    def _close(self) -> None:
        self._small.close()
        self._main.close()


def _base_weights(network: Network) -> dict[str, np.ndarray]:
    from safetensors.numpy import load_file

    state = load_file(network.main.state_path)
    return {weight: state[weight] for weight, _ in network.refit_rule}
