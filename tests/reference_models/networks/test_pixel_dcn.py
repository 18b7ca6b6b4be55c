"""The pixel layers against the stored results of the published code, and against their plain definition in NumPy."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import nn

from reference_models.networks.pixel_dcn import (
    UPSAMPLING,
    Deconvolution,
    IPixelCL,
    IPixelDCL,
    PixelDCL,
    ResizedIPixelCL,
    SameConv,
    interleave,
    is_open,
    same_padding,
)
from reference_models.networks.pixel_dcn_nets import Stage, picture_statistics

LAYERS = {"pixel_dcl": PixelDCL, "ipixel_dcl": IPixelDCL, "ipixel_cl": IPixelCL}
CASES = [
    "ipixel_cl__n1_h10_w4_c64to32_k3x3", "ipixel_cl__n1_h2_w2_c3to8_k3x3", "ipixel_cl__n1_h6_w10_c3to8_k4x4",
    "ipixel_cl__n1_h6_w8_c3to8_k3x3", "ipixel_cl__n1_h8_w8_c16to16_k6x6", "ipixel_cl__n2_h8_w6_c16to16_k3x3",
    "ipixel_cl_bn__n2_h6_w8_c16to16_k3x3", "ipixel_dcl__n1_h5_w7_c3to8_k3x3", "ipixel_dcl__n1_h6_w7_c3to8_k4x4",
    "ipixel_dcl__n1_h8_w5_c16to16_k6x6", "ipixel_dcl__n1_h9_w12_c64to32_k3x3", "ipixel_dcl__n2_h8_w6_c16to16_k3x3",
    "ipixel_dcl_bn__n2_h6_w5_c16to16_k3x3", "pixel_dcl__n1_h5_w6_c64to32_k6x6", "pixel_dcl__n1_h5_w7_c3to8_k3x3",
    "pixel_dcl__n1_h5_w7_c3to8_k3x4", "pixel_dcl__n1_h5_w7_c3to8_k4x3", "pixel_dcl__n1_h6_w7_c3to8_k4x4",
    "pixel_dcl__n1_h7_w9_c64to32_k4x4", "pixel_dcl__n1_h8_w5_c16to16_k6x6", "pixel_dcl__n1_h9_w12_c64to32_k3x3",
    "pixel_dcl__n2_h8_w6_c16to16_k3x3", "pixel_dcl_bn__n2_h6_w5_c16to16_k3x3",
]  # fmt: skip
CASE = pytest.mark.parametrize("name", CASES)
MASKED = pytest.mark.parametrize("name", [name for name in CASES if name.startswith("pixel_dcl__")])
LIMIT = 2e-5


def nchw(array):
    return np.ascontiguousarray(array.transpose(0, 3, 1, 2))


class NormalisedBatch(nn.Module):
    """A stage whose statistics are those of the whole batch, as stored: its pictures are laid one below another."""

    def __init__(self, layer, beta):
        super().__init__()
        self.stage = Stage(layer, len(beta))
        self.stage.beta.data.copy_(torch.from_numpy(beta))

    def forward(self, x):
        y = self.stage.layer(x)
        return self.stage.normalised(y, *picture_statistics(torch.cat(y.split(1), 2)))


@dataclass
class Case:
    arrays: dict
    linear: nn.Module
    rectified: nn.Module

    @property
    def x(self):
        return nchw(self.arrays["input"])


def load(originals, name):
    with np.load(originals / "pixel_dcl" / f"{name}.npz") as stored:
        arrays = dict(stored)
    kernel_size = tuple(map(int, arrays["kernel_size"]))
    planes = arrays["input"].shape[3], arrays["output"].shape[3]
    state = {
        key.replace("/weights", ".weight"): torch.from_numpy(value.transpose(3, 2, 0, 1).copy())
        for key, value in arrays.items()
        if key.endswith("/weights")
    }
    made = []
    for activation in (None, torch.relu):
        layer = LAYERS[name.partition("__")[0].removesuffix("_bn")](*planes, kernel_size, activation=activation)
        layer.load_state_dict(state)
        made.append(layer.eval())
    if "batch_norm/beta" in arrays:
        wrapped = [NormalisedBatch(made[0], arrays["batch_norm/beta"]) for _ in made]
        wrapped[0].stage.rectify = False
        made = wrapped
    return Case(arrays, *made)


def test_the_list_of_cases_is_the_folders(originals):
    assert sorted(path.stem for path in (originals / "pixel_dcl").glob("*.npz")) == CASES


@CASE
def test_stored_cases(originals, name):
    case = load(originals, name)
    with torch.inference_mode():
        linear, rectified = (m(torch.from_numpy(case.x)).numpy() for m in (case.linear, case.rectified))
    assert np.abs(linear - nchw(case.arrays["output_linear"])).max() < LIMIT
    assert np.abs(rectified - nchw(case.arrays["output"])).max() < LIMIT
    assert (nchw(case.arrays["output_linear"]) < -0.1).any()  # so that a forgotten or doubled ReLU shows


class AllCases(nn.Module):
    """Layers side by side, for inputs of one size: a single export is quicker than many."""

    def __init__(self, layers):
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, inputs):
        return [layer(x) for layer, x in zip(self.layers, inputs, strict=True)]


def export(module, inputs, shapes, path):
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            torch.onnx.export(
                module, (inputs,), str(path), opset_version=20, dynamo=True, dynamic_shapes=(shapes,), verbose=False,
                external_data=False,
            )  # fmt: skip
    finally:
        logging.disable(logging.NOTSET)


def check_after_export(originals, names, multiple, path):
    onnx = pytest.importorskip("onnx")
    ort = pytest.importorskip("onnxruntime")
    cases = [load(originals, name) for name in names]
    traced = [torch.rand(*case.x.shape[:2], 12, 14) for case in cases]  # no stored case has this size
    height, width = (torch.export.Dim(axis, min=1, max=1 << 12) for axis in "hw")
    shape = {2: multiple * height, 3: multiple * width}
    export(AllCases([case.linear for case in cases]).requires_grad_(False), traced, [shape] * len(cases), path)
    nodes = [node.op_type for node in onnx.load(path).graph.node]
    assert nodes.count("DepthToSpace") == len(cases)
    assert not {"ScatterND", "ScatterElements", "Reshape", "Where", "Loop", "If"} & set(nodes)
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [entry.name for entry in session.get_inputs()]
    for number, case in enumerate(cases):
        zeros = (np.zeros((*other.x.shape[:2], *case.x.shape[2:]), np.float32) for other in cases)
        y = session.run(None, dict(zip(names, zeros, strict=True)) | {names[number]: case.x})[number]
        assert np.abs(y - nchw(case.arrays["output_linear"])).max() < LIMIT


def test_stored_cases_after_export_with_dynamic_height_and_width(originals, tmp_path):
    """Padding alike and unlike on both sides, and the wrapped layer; the slow test below has all cases."""
    names = ["ipixel_dcl__n1_h6_w7_c3to8_k4x4", "pixel_dcl__n1_h5_w7_c3to8_k3x3", "pixel_dcl__n1_h5_w7_c3to8_k4x3"]
    check_after_export(originals, [*names, "pixel_dcl_bn__n2_h6_w5_c16to16_k3x3"], 1, tmp_path / "cases.onnx")


def test_stored_cases_after_export_with_dynamic_even_height_and_width(originals, tmp_path):
    names = ["ipixel_cl__n1_h2_w2_c3to8_k3x3", "ipixel_cl__n1_h6_w10_c3to8_k4x4"]
    check_after_export(originals, names, 2, tmp_path / "cases.onnx")


@pytest.mark.slow
@pytest.mark.parametrize("multiple", [1, 2], ids=["any size", "even sizes"])
def test_all_stored_cases_after_export(originals, tmp_path, multiple):
    names = [name for name in CASES if name.startswith("ipixel_cl") == (multiple == 2)]
    check_after_export(originals, names, multiple, tmp_path / "cases.onnx")


# The definition, in float64


def numpy_same(x, weight):
    """Stride-1 convolution of (C, H, W) with an OIHW kernel under SAME."""
    rows, columns = weight.shape[2:]
    padded = np.pad(x, ((0, 0), ((rows - 1) // 2, rows // 2), ((columns - 1) // 2, columns // 2)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (rows, columns), (1, 2))
    return np.einsum("oirc,ihwrc->ohw", weight, windows)


def numpy_mask(rows, columns):
    """0 and 1 in turn, down the columns: the first column first."""
    return np.resize([0.0, 1.0], rows * columns).reshape(columns, rows).T


def numpy_pixel_dcl(x, weights):
    """Grid before the masked convolution, and the output."""
    a = numpy_same(x, weights[0])
    b = numpy_same(a, weights[1])
    grid = np.zeros((a.shape[0], 2 * a.shape[1], 2 * a.shape[2]))
    grid[:, ::2, ::2], grid[:, 1::2, 1::2] = a, b
    return grid, grid + numpy_same(grid, weights[2] * numpy_mask(*weights[2].shape[2:]))


@MASKED
def test_the_definition_used_below_is_that_of_the_published_code(originals, name):
    arrays = load(originals, name).arrays
    weights = [arrays[f"conv{i}/weights"].transpose(3, 2, 0, 1).astype(np.float64) for i in range(3)]
    for picture in range(len(arrays["input"])):
        grid, y = numpy_pixel_dcl(nchw(arrays["input"])[picture].astype(np.float64), weights)
        assert np.abs(grid - nchw(arrays["interleaved"])[picture]).max() < LIMIT
        assert np.abs(y - nchw(arrays["output_linear"])[picture]).max() < LIMIT


@pytest.mark.parametrize("kernel_size", [1, 2, 3, 4, 5, (1, 2), (2, 1), (2, 3), (3, 2), (3, 5), (5, 3), (3, 7), (1, 3)])
@pytest.mark.parametrize(("height", "width"), [(6, 5), (1, 1), (2, 3)])
def test_the_masked_convolution_at_half_size_is_that_of_the_definition(kernel_size, height, width):
    torch.manual_seed(0)
    layer = PixelDCL(2, 3, kernel_size).double()
    x = np.random.default_rng(0).normal(size=(2, height, width))
    weights = [conv.weight.detach().numpy() for conv in (layer.conv0, layer.conv1, layer.conv2)]
    with torch.inference_mode():
        y = layer(torch.from_numpy(x[None]))[0].numpy()
    assert np.abs(y - numpy_pixel_dcl(x, weights)[1]).max() < 1e-12


@MASKED
def test_the_mask_is_the_stored_one(originals, name):
    stored = load(originals, name).arrays["mask"]
    rows, columns = stored.shape[:2]
    ours = np.array([[is_open(row, column, rows) for column in range(columns)] for row in range(rows)])
    assert (stored == ours[:, :, None, None]).all()


@pytest.mark.parametrize(
    ("kernel_size", "drawn"),
    [
        ((3, 3), [".#.", "#.#", ".#."]),
        ((4, 4), ["....", "####", "....", "####"]),
        ((3, 5), [".#.#.", "#.#.#", ".#.#."]),
        ((4, 3), ["...", "###", "...", "###"]),
    ],
)
def test_only_open_taps_of_the_stored_kernel_matter(kernel_size, drawn):
    torch.manual_seed(0)
    layer = PixelDCL(2, 2, kernel_size)
    layer(torch.rand(1, 2, 6, 7)).square().sum().backward()
    matters = layer.conv2.weight.grad.abs().sum((0, 1)) > 0
    assert ["".join(".#"[int(tap)] for tap in row) for row in matters] == drawn


@pytest.mark.parametrize("kernel_size", [2, 3, 4, 5, (3, 4)])
def test_deconvolution_is_the_transpose_of_a_strided_convolution_under_same(kernel_size):
    torch.manual_seed(0)
    layer = Deconvolution(2, 3, kernel_size).double()
    rows, columns = layer.kernel_size
    x = torch.rand(2, 4, 5, dtype=torch.float64)
    wanted = np.zeros((3, 8 + rows, 10 + columns))
    for row, column in np.ndindex(4, 5):
        stamp = np.einsum("i,iorc->orc", x[:, row, column].numpy(), layer.weight.detach().numpy())
        wanted[:, 2 * row : 2 * row + rows, 2 * column : 2 * column + columns] += stamp
    top, left = (rows - 2) // 2, (columns - 2) // 2  # zeros that SAME puts in front, at stride 2 and an even size
    with torch.inference_mode():
        y = layer(x[None])[0].numpy()
    assert np.abs(y - wanted[:, top : top + 8, left : left + 10]).max() < 1e-12


def test_ipixel_cl_as_an_up_sampling_layer_repeats_pixels_first():
    torch.manual_seed(0)
    layer, plain = ResizedIPixelCL(2, 3, 3), IPixelCL(2, 3, 3)
    plain.load_state_dict(layer.state_dict())
    x = torch.rand(1, 2, 3, 5)
    with torch.inference_mode():
        assert torch.equal(layer(x), plain(x.repeat_interleave(2, 2).repeat_interleave(2, 3)))


def test_interleaving_puts_every_map_on_its_parity():
    maps = [torch.rand(2, 3, 4, 5) for _ in range(4)]
    y = interleave(*maps)
    assert y.shape == (2, 3, 8, 10)
    for number, (row, column) in enumerate([(0, 0), (0, 1), (1, 0), (1, 1)]):
        assert torch.equal(y[:, :, row::2, column::2], maps[number])


@pytest.mark.parametrize(
    ("taps", "stride", "zeros"),
    [(3, 1, (1, 1)), (4, 1, (1, 2)), (6, 1, (2, 3)), (2, 1, (0, 1)), (5, 1, (2, 2)), (1, 1, (0, 0)), (1, 2, (0, 0)),
     (2, 2, (0, 0)), (3, 2, (0, 1)), (4, 2, (1, 1)), (5, 2, (1, 2)), (6, 2, (2, 2))],
)  # fmt: skip
def test_same_padding(taps, stride, zeros):
    assert same_padding(taps, stride) == zeros


def test_weights_have_the_names_of_the_original_variables():
    names = {name: list(layer(2, 3, (3, 4)).state_dict()) for name, layer in LAYERS.items()}
    assert names == {
        "pixel_dcl": ["conv0.weight", "conv1.weight", "conv2.weight"],
        "ipixel_dcl": ["conv1.weight", "conv2.weight", "conv3.weight"],
        "ipixel_cl": ["conv1.weight", "conv2.weight", "conv4.weight", "conv5.weight"],
    }
    assert IPixelDCL(2, 3, (3, 4)).conv3.weight.shape == (6, 8, 3, 4)  # OIHW
    assert SameConv(2, 3, 3).bias is None


@pytest.mark.parametrize("word", UPSAMPLING)
def test_up_sampling_layers_double_the_size_and_compile_as_one_graph(word):
    layer, x = UPSAMPLING[word](2, 3, 3, torch.relu), torch.rand(1, 2, 5, 7)
    with torch.inference_mode():
        y = layer(x)
        assert y.shape == (1, 3, 10, 14)
        assert y.min() == 0 < y.max()
        assert torch.equal(torch.compile(layer, fullgraph=True, dynamic=True, backend="eager")(x), y)
