"""null: zeros of the right shape at once, and no verdict on their quality."""

from __future__ import annotations

import numpy as np
import pytest

import engines
from engines.engine import Options
from engines.thumbnail import load_network


@pytest.mark.parametrize("statistics", ["image", "frozen"])
def test_zeros_of_the_inputs_shape_at_every_size(networks, picture, statistics):
    with load_network(engines.get("null"), networks[statistics], Options()) as session:
        for height, width in ((5, 7), (9, 4)):
            y = session.run({"x": picture(height, width)})["y"]
            assert y.shape == (1, 3, height, width)
            assert y.dtype == np.float32
            assert not y.any()


def test_it_is_usable_everywhere_and_its_output_is_not_judged():
    engine = engines.get("null")
    assert engine.missing() is None
    assert engine.device_missing("cpu") is None
    assert not engine.computes
    assert all(engines.get(name).computes for name in engines.names() if name != "null")


def test_it_reads_no_file():
    from export.network import Graph

    graph = Graph("/no/such.onnx", "", "/no/such.safetensors", "no.module:C", {}, "published")
    with engines.get("null").load(graph, Options(threads=3)) as session:
        assert session.run({"x": np.ones((1, 3, 5, 4), np.float32)})["y"].shape == (1, 3, 5, 4)
        assert session.contract["threads"] == 3


def test_zeros_have_the_planes_and_size_of_the_graphs_output():
    from export.network import Graph

    graph = Graph("/no/such.onnx", "", "", "no.module:C", {}, "published", planes=1, output_planes=2, upscale=3)
    with engines.get("null").load(graph, Options()) as session:
        assert session.run({"x": np.ones((1, 1, 5, 4), np.float32)})["y"].shape == (1, 2, 15, 12)


def test_what_is_read_is_not_the_next_output(networks, picture):
    with engines.get("null").load(networks["image"].main, Options()) as session:
        first = session.run({"x": picture(4, 4)})["y"]
        first += 1
        assert not session.read().any()


def test_its_version_is_ours():
    from importlib import metadata

    assert engines.get("null").version() == metadata.version("fullres")


def test_a_set_delay_is_slept_in_every_inference():
    import time

    from export.network import Graph

    graph = Graph("/no/such.onnx", "", "", "no.module:C", {}, "published")
    with engines.get("null").load(graph, Options(settings={"delay_ms": "20.5"})) as session:
        session.bind(np.ones((1, 3, 5, 4), np.float32))
        start = time.perf_counter()
        session.enqueue()
        session.synchronize()
        assert time.perf_counter() - start >= 0.0205


@pytest.mark.parametrize("word", ["-1", "nan", "inf", "soon", "60001", ""])
def test_what_is_no_delay_is_refused(word):
    from reference_models.errors import UserError

    with pytest.raises(UserError, match="not a delay"):
        engines.get("null").complete_settings({"delay_ms": word})
