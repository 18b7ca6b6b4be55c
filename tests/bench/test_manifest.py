"""A picture counts as made only by the same network and settings, from the same file, and as it was left."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from bench.manifest import MANIFEST, Manifest, settings_key, source_state
from export.network import Graph, Network


@pytest.fixture
def pair(tmp_path: Path) -> tuple[str, str]:
    """A source, and a target in a folder of its own."""
    (tmp_path / "out").mkdir()
    source, target = tmp_path / "a.jpg", tmp_path / "out" / "a.png"
    source.write_bytes(b"source")
    target.write_bytes(b"target")
    return str(source), str(target)


def made(pair: tuple[str, str], key: str = "k") -> Manifest:
    """The folder's list, after the pair was made."""
    place = Manifest(Path(pair[1]).parent, key)
    place.begin()
    place.add(*pair, source_state(pair[0]))
    return Manifest(Path(pair[1]).parent, key)


def test_what_was_made_is_held_and_nothing_else(pair: tuple[str, str]) -> None:
    place = made(pair)
    assert place.holds(*pair)
    assert not place.holds(pair[0], pair[1] + "x")
    assert not Manifest(Path(pair[1]).parent, "another network").holds(*pair)
    place.forget()
    assert not place.holds(*pair)


@pytest.mark.parametrize("changed", [0, 1], ids=["source", "target"])
@pytest.mark.parametrize("how", ["content", "time", "gone"])
def test_a_file_that_changed_is_made_again(changed: int, how: str, pair: tuple[str, str]) -> None:
    place, path = made(pair), Path(pair[changed])
    if how == "content":
        path.write_bytes(b"longer than before")
    elif how == "time":
        os.utime(path, (1, 1))
    else:
        path.unlink()
    assert not place.holds(*pair)


def test_a_source_that_changes_while_it_is_read_is_made_again(pair: tuple[str, str]) -> None:
    state = source_state(pair[0])
    Path(pair[0]).write_bytes(b"another picture")
    place = Manifest(Path(pair[1]).parent, "k")
    place.add(*pair, state)
    assert not Manifest(Path(pair[1]).parent, "k").holds(*pair)


def test_a_line_cut_short_counts_for_nothing_and_ends_nothing(pair: tuple[str, str]) -> None:
    made(pair)
    path = Path(pair[1]).parent / MANIFEST
    path.write_text(path.read_text() + '{"name": "b.png", "key": "k", "sou')
    assert Manifest(path.parent, "k").holds(*pair)
    path.write_bytes(b"\xff\xfe no text at all\n[1]\n")
    assert not Manifest(path.parent, "k").holds(*pair)


def test_lines_of_other_settings_do_not_pile_up(pair: tuple[str, str]) -> None:
    for key in ("a", "b", "c"):
        made(pair, key)
    lines = (Path(pair[1]).parent / MANIFEST).read_text().splitlines()
    assert [json.loads(line)["key"] for line in lines] == ["c"]


def job(tmp_path: Path, **changes: Any) -> dict[str, Any]:
    state = tmp_path / "state"
    state.write_bytes(changes.pop("weights", b"w"))
    graph = Graph("g.onnx", changes.pop("sha256", "1"), str(state), "", {}, "published")
    network = Network("m", None, graph, None, (), 20).to_json()
    return {"network": network, "spec": "{}", "engine": "e", "device": "cpu", "precision": "fp32", "settings": {},
            **changes}  # fmt: skip


def test_the_key_tells_apart_all_that_changes_a_picture(tmp_path: Path) -> None:
    changes: list[dict[str, Any]] = [
        {}, {"weights": b"v"}, {"sha256": "2"}, {"spec": "{ }"}, {"engine": "f"}, {"device": "cuda:0"},
        {"precision": "int8"}, {"settings": {"a": "b"}}, {"tile": "auto"},
    ]  # fmt: skip
    keys = [settings_key(job(tmp_path, **change), "1.0") for change in changes]
    keys.append(settings_key(job(tmp_path), "2.0"))
    assert len(set(keys)) == len(keys)
    assert settings_key(job(tmp_path), "1.0") == keys[0]
