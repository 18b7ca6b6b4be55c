"""Every network of the registry goes through the export, and every engine that reads ONNX gives what torch gives.

The export itself compares ONNX Runtime with torch at three odd sizes. In the ordinary run each factory's smallest
network stands for its family; the slow tests take all of them, with all kinds of statistics.
"""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch

import engines
import reference_models
from engines.engine import Options
from engines.thumbnail import load_network
from export.network import INPUT, OUTPUT
from export.to_onnx import ExportRequest, export_network
from reference_models.colour import tensor_from_picture

TOLERANCE = 1e-4
"""Of the output's largest value, or of 1 where that is more."""
READERS = [
    name
    for name in engines.names()
    if engines.get(name).computes and not engines.get(name).runs_modules
    and "fp32" in engines.get(name).precisions.get("cpu", ())
]  # fmt: skip
"""Engines that build from the ONNX file and say that they run on a CPU."""
ORDINARY_NODES = {
    "Add", "AveragePool", "BatchNormalization", "Cast", "Clip", "Concat", "Constant", "Conv", "ConvTranspose",
    "DepthToSpace", "Div", "Expand", "Flatten", "Gather", "Gemm", "GlobalAveragePool", "LeakyRelu", "MatMul", "MaxPool",
    "Mul", "Neg", "Pad", "PRelu", "Reciprocal", "ReduceMean", "ReduceSum", "Relu", "Reshape", "Resize", "Shape",
    "Sigmoid", "Slice", "Sqrt", "Squeeze", "Sub", "Tanh", "Transpose", "Unsqueeze",
}  # fmt: skip
"""What graphs of networks of this kind are made of, in every engine; a rarer operator needs a look first."""


def input_of(spec):
    """A small picture with odd sides, as the network takes it."""
    picture = np.random.default_rng(1).integers(0, 256, (13, 11, 3), np.uint8)
    return tensor_from_picture(picture, spec)


def check(spec, statistics, cache, calibration):
    """Exports, then runs the files in every reader that is usable here."""
    used = calibration if statistics == "frozen" else ()
    network = export_network(ExportRequest(spec, None, statistics, used), cache)
    assert (network.model, network.statistics) == (spec.title, statistics)
    assert (network.main.planes, network.main.output_planes) == (spec.input_planes, spec.output_planes)
    assert network.main.upscale == spec.upscale
    x, found = input_of(spec), {}
    for name in (*READERS, "torch_eager"):
        engine = engines.get(name)
        if not engine.missing():
            options = Options(threads=1, settings=engine.complete_settings({}))
            with load_network(engine, network, options) as session:
                found[name] = session.run({INPUT: x})[OUTPUT]
    expected = found.pop("torch_eager")
    if statistics == (spec.statistics[0] if spec.statistics else None):
        with torch.inference_mode():
            published = reference_models.model_from_spec(spec)(torch.from_numpy(x)).numpy()
        assert np.abs(expected - published).max() < 1e-5 * max(1, np.abs(published).max())
    height, width = (side * spec.upscale for side in x.shape[2:])
    assert expected.shape == (1, spec.output_planes, height, width)
    assert "onnxruntime" in found
    for name, got in found.items():
        assert got.shape == expected.shape, name
        assert np.abs(got - expected).max() < TOLERANCE * max(1, np.abs(expected).max()), name
    return network


def test_there_are_engines_that_read_the_file():
    assert {"onnxruntime", "openvino"} <= set(READERS)


def test_every_network_is_the_same_in_every_engine(any_family, cache, calibration):
    spec = reference_models.get(any_family)
    network = check(spec, spec.statistics[0] if spec.statistics else None, cache, calibration)
    model = onnx.load(network.main.onnx_path)
    assert {node.op_type for node in model.graph.node} - ORDINARY_NODES == set()
    assert {entry.domain for entry in model.opset_import} == {""}
    shape = [side.dim_value for side in model.graph.input[0].type.tensor_type.shape.dim]
    assert shape == [1, spec.input_planes, 0, 0], "height and width are not dynamic"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "statistics"),
    [(n, s) for n in reference_models.names() for s in reference_models.get(n).statistics[1:]],
)
def test_every_kind_of_statistics_is_the_same_in_every_engine(name, statistics, cache, calibration):
    check(reference_models.get(name), statistics, cache, calibration)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "option", "value"),
    [
        (name, option.name, value)
        for name in reference_models.names()
        for option in reference_models.get(name).offers
        for value in option.choices
        if value != option.default
    ],
)
def test_every_choice_from_a_list_is_the_same_in_every_engine(name, option, value, cache, calibration):
    spec = reference_models.get(name, {option: value})
    check(spec, spec.statistics[0] if spec.statistics else None, cache, calibration)
