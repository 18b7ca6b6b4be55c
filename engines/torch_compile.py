"""torch_compile: the same module through torch.compile (inductor), compiled for the shape that is bound."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from typing import ClassVar

from engines.engine import Engine, Options, Session, Setting
from engines.torch_eager import ENGINE as EAGER
from engines.torch_eager import SETTINGS, TorchSession
from export.network import Graph


class TorchCompile(Engine):
    name = "torch_compile"
    title = "PyTorch, torch.compile with inductor"
    install = "pip install 'torch~=2.13.0', and a C++ compiler (apt-get install g++)"
    precisions: ClassVar[Mapping[str, tuple[str, ...]]] = EAGER.precisions
    rank: ClassVar[Mapping[str, int]] = {"cpu": 2, "cuda": 2}
    settings: ClassVar[tuple[Setting, ...]] = SETTINGS
    cuda_only: ClassVar[Mapping[str, str]] = EAGER.cuda_only
    runs_modules = True

    def missing(self) -> str | None:
        reason = EAGER.missing()
        if reason is None and not any(map(shutil.which, ("g++", "c++", "clang++"))):
            return "inductor needs a C++ compiler, and none is on the PATH"
        return reason

    def version(self) -> str:
        return EAGER.version()

    def environment(self, settings: Mapping[str, str]) -> dict[str, str]:
        return EAGER.environment(settings)

    def device_missing(self, device: str) -> str | None:
        return EAGER.device_missing(device)

    def _load(self, graph: Graph, options: Options) -> Session:
        return TorchSession(graph, options, compiled=True)


ENGINE = TorchCompile()
