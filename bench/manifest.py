"""What an output folder already holds, and what it was made by and from: the reason not to make a picture again.

One hidden file in the folder, one line of JSON per picture, written after the picture is whole. A line that was cut
short, and lines of other networks or settings, count for nothing.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from engines.trt.plans import write_whole
from export.cache import code_sha256
from export.network import Network, file_sha256

MANIFEST = ".fullres-apply.jsonl"
"""Its name in the output folder."""


def settings_key(job: Mapping[str, Any], engine_version: str) -> str:
    """SHA-256, in hexadecimal, of all that decides what a picture becomes: network with its weights and statistics,
    precision, engine with version, settings and device, tiling, and the code that converts pictures. Not the number of
    threads, which moves the last bits of a sum at most."""
    network = Network.from_json(job["network"])
    graphs = [network.main, *([network.thumbnail] if network.thumbnail else [])]
    facts = {
        "graphs": [graph.sha256 for graph in graphs],
        # With statistics of a thumbnail the weights that count are not those of the ONNX file.
        "weights": [file_sha256(graph.state_path) for graph in graphs if graph.state_path],
        "spec": job["spec"],
        "engine": [job["engine"], engine_version, job["device"], job["precision"], dict(job["settings"])],
        "tile": job.get("tile", "off"),
        "code": code_sha256(),
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


class Manifest:
    """The pictures of one output folder that one network with its settings has made."""

    def __init__(self, folder: Path, key: str) -> None:
        self._path, self._key = folder / MANIFEST, key
        self._made: dict[str, Any] = {}
        for line in self._lines():
            if line.get("key") == key:
                self._made[line["name"]] = line

    def _lines(self) -> list[dict[str, Any]]:
        found = []
        with contextlib.suppress(OSError):
            for text in self._path.read_text(errors="replace").splitlines():
                with contextlib.suppress(ValueError):
                    if isinstance(line := json.loads(text), dict) and "name" in line:
                        found.append(line)
        return found

    def holds(self, source: str, target: str) -> bool:
        """Whether the target is there as it was made, from a source that has not changed since: by size and time of
        change, as rsync judges."""
        line = self._made.get(Path(target).name)
        if line is None:
            return False
        try:
            return bool(line["source"] == [Path(source).name, *_state(source)] and line["target"] == _state(target))
        except (OSError, KeyError):
            return False

    def forget(self) -> None:
        """As if nothing had been made."""
        self._made.clear()

    def begin(self) -> None:
        """Drops the lines that no longer count, so that the file does not grow with every run.

        Raises:
            OSError: it cannot be written.
        """
        text = "".join(json.dumps(line) + "\n" for line in self._made.values())
        write_whole(self._path, text.encode())

    def add(self, source: str, target: str, state: list[int]) -> None:
        """A picture that was just made.

        Args:
            state: of the source, from `source_state`, before it was read.

        Raises:
            OSError: it cannot be written.
        """
        name = Path(target).name
        line = {"name": name, "key": self._key, "source": [Path(source).name, *state], "target": _state(target)}
        with self._path.open("a") as file:
            file.write(json.dumps(line) + "\n")


def source_state(path: str) -> list[int]:
    """Size in bytes and time of the last change in ns; of a file that is not there, nothing that any file has."""
    try:
        return _state(path)
    except OSError:
        return [-1, -1]


def _state(path: str) -> list[int]:
    found = os.stat(path)
    return [found.st_size, found.st_mtime_ns]
