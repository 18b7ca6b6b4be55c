"""Networks of the user's own: found from the current directory, measured by running, refused in their own words."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from reference_models.errors import UserError
from reference_models.own_factory import (
    Geometry,
    RefusedError,
    _read,
    find_geometry,
    model_from_factory,
    own_spec,
    probe_sizes,
    ratio,
    sizes_in_words,
    spec_from_factory,
    state_sha256,
)
from reference_models.own_module import source_sha256
from reference_models.spec import ModelSpec

ROOT = Path(__file__).resolve().parents[2]
NETS = '''
import torch
from torch import nn
import torch.nn.functional as F

class SuperResolution(nn.Module):
    def __init__(self, width=8, r=2, planes=3, last="relu"):
        super().__init__()
        self.a, self.b = nn.Conv2d(planes, width, 3, padding=1), nn.Conv2d(width, planes * r * r, 3, padding=1)
        self.up, self.last = nn.PixelShuffle(r), getattr(F, last)

    def forward(self, x):
        return self.last(self.up(self.b(self.a(x).relu())))

class Unshuffled(nn.Module):
    """Its first convolution sees 12 planes, the network 3."""
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(12, 12, 3, padding=1)

    def forward(self, x):
        return F.pixel_shuffle(self.conv(F.pixel_unshuffle(x, 2)), 2)

class UNet(nn.Module):
    """Three halvings, joined at every level, by a normalisation that differs in training."""
    def __init__(self):
        super().__init__()
        self.down = nn.ModuleList(nn.Conv2d(3, 3, 3, padding=1) for _ in range(3))
        self.up = nn.ModuleList(nn.ConvTranspose2d(3, 3, 2, 2) for _ in range(3))
        self.norm = nn.BatchNorm2d(3)

    def forward(self, x):
        if self.training:
            raise RuntimeError("in training")
        kept = []
        for conv in self.down:
            kept.append(x)
            x = F.max_pool2d(self.norm(conv(x)), 2)
        for conv in self.up:
            x = torch.cat([conv(x), kept.pop()])[:1]
        return x

class Reflecting(nn.Module):
    def forward(self, x):
        return F.avg_pool2d(F.pad(x, (6, 6, 6, 6), mode="reflect"), 13, 1)

class Windows(nn.Module):
    def forward(self, x):
        n, c, h, w = x.shape
        return x.view(n, c, h // 7, 7, w // 7, 7).flip(3).reshape(n, c, h, w)

class Valid(nn.Module):
    def forward(self, x):
        return F.avg_pool2d(x, 5, 1)

class Pair(nn.Module):
    def forward(self, x):
        return x, x

class Score(nn.Module):
    def forward(self, x):
        return x.mean((2, 3))

class Mask(nn.Module):
    def forward(self, x):
        return x[:, :1]

class Broken(nn.Module):
    def forward(self, x):
        raise KeyError("my own mistake")

class Kernel(nn.Module):
    def __init__(self, size=(3, 3), bias=True):
        super().__init__()
        assert type(size) is tuple and (bias is None or type(bias) is bool)
        self.conv = nn.Conv2d(3, 3, size, padding=(size[0] // 2, size[1] // 2), bias=bool(bias))

    def forward(self, x):
        return self.conv(x)

class Loaded(nn.Module):
    """Three ways to hold what a file says."""
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)
        held = torch.load("w.pt")
        self.load_state_dict({k: v for k, v in held.items() if k.startswith("conv")})
        self.register_buffer("scale", held["scale"], persistent=False)
        self.plain = held["plain"]

    def forward(self, x):
        return self.conv(x) * self.scale + self.plain

class Drawn(nn.Module):
    """Draws with every generator there is."""
    def __init__(self):
        super().__init__()
        import random
        import numpy
        self.scale = torch.tensor(random.random() + numpy.random.rand())

    def forward(self, x):
        return x * self.scale.float()

def make(width="8"):
    return SuperResolution(int(width))

def half():
    return SuperResolution().half()

def nothing():
    return None

def stops():
    raise SystemExit("usage: train.py")

ready = SuperResolution()
number = 3
'''


@pytest.fixture
def nets(tmp_path, monkeypatch):
    """The current directory holds `mine/nets.py`; returns a function from a factory's name to its word."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "nets.py").write_text(NETS)
    before = set(sys.modules)
    yield lambda name: f"mine.nets:{name}"
    for name in set(sys.modules) - before:
        if name.partition(".")[0] in {"mine", "single", "neighbour"}:
            del sys.modules[name]


def taken(spec):
    return spec.input_planes, spec.output_planes, spec.upscale, spec.size_multiple, spec.min_size


# What is found


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("SuperResolution", (3, 3, 2, 1, 1)),
        ("Unshuffled", (3, 3, 1, 2, 2)),
        ("UNet", (3, 3, 1, 8, 8)),
        ("Reflecting", (3, 3, 1, 1, 7)),
        ("Windows", (3, 3, 1, 7, 7)),
        ("make", (3, 3, 2, 1, 1)),
    ],
)
def test_what_a_network_takes_is_found_by_running_it(nets, name, wanted):
    spec = spec_from_factory(nets(name))
    assert taken(spec) == wanted
    assert (spec.name, spec.factory, spec.onnx, spec.importer, spec.weights) == (nets(name), nets(name), None, None, {})
    assert (spec.input, spec.output, spec.receptive_field_px) == ("rgb", "rgb", None)
    assert spec.whole_picture == "not known for a network of your own"
    assert ModelSpec.from_json(spec.to_json()) == spec


def test_options_reach_the_factory_as_python_reads_them(nets):
    spec = spec_from_factory(nets("SuperResolution"), {"width": "4", "r": 3, "planes": "1", "last": "tanh"})
    assert spec.options == spec.chosen == {"width": 4, "r": 3, "planes": 1, "last": "tanh"}
    assert (taken(spec), spec.input, spec.evaluation.channels) == ((1, 1, 3, 1, 1), "luma", "Y")
    assert spec.title == "mine.nets:SuperResolution width=4 r=3 planes=1 last=tanh"
    assert model_from_factory(spec.factory, spec.options).a.weight.shape == (4, 1, 3, 3)


def test_words_become_what_python_would_read(nets):
    spec = spec_from_factory(nets("Kernel"), {"size": "(1, 5)", "bias": "None"})
    assert spec.options == {"size": [1, 5], "bias": None}
    assert spec.chosen == {"size": "(1,5)", "bias": "None"}
    again = ModelSpec.from_json(spec.to_json())
    assert again == spec
    made = model_from_factory(again.factory, again.options)
    assert (made.conv.kernel_size, made.conv.bias) == ((1, 5), None)
    assert spec_from_factory(nets("Kernel"), {"bias": "True"}).options == {"bias": True}


@pytest.mark.parametrize("word", ["{1, 2}", "b'x'", "1j", "relu", "(1, {2})", "((((", "{[]: 1}"])
def test_what_is_no_plain_value_stays_a_word(word):
    assert _read(word) == word


def test_the_network_is_in_eval_mode_and_the_same_each_time_and_torch_s_generator_is_left_alone(nets):
    state = torch.get_rng_state()
    first, second = (model_from_factory(nets("SuperResolution"), {}) for _ in range(2))
    assert not first.training
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    spec_from_factory(nets("UNet"))
    assert torch.equal(torch.get_rng_state(), state)


def test_another_process_makes_the_same_network(nets):
    code = (
        "from reference_models.own_factory import model_from_factory; from pathlib import Path;"
        f"print(float(model_from_factory({nets('SuperResolution')!r}, {{}}).a.weight.double().sum()))"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    here = float(model_from_factory(nets("SuperResolution"), {}).a.weight.detach().double().sum())
    assert float(done.stdout) == here


# Where it comes from


def test_the_current_directory_is_first_for_the_import_and_last_from_then_on(nets, tmp_path):
    (tmp_path / "single.py").write_text(NETS)
    (tmp_path / "colorsys.py").write_text("theirs = True\n")
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports" / "__init__.py").write_text("raise RuntimeError('not ours')\n")
    (tmp_path / "single.py").write_text("import colorsys\nassert colorsys.theirs\n" + NETS)
    old = sys.modules.pop("colorsys", None)
    try:
        model_from_factory("single:SuperResolution", {})
    finally:
        sys.modules.pop("colorsys")
        if old:
            sys.modules["colorsys"] = old
    assert sys.path[-1] == str(tmp_path)
    assert sys.path.count(str(tmp_path)) == 1


def test_the_source_holds_the_digest_of_the_sources_that_are_loaded(nets, tmp_path):
    (tmp_path / "neighbour.py").write_text("SCALE = 1\n")
    (tmp_path / "single.py").write_text("import neighbour\n" + NETS)
    first = spec_from_factory("single:SuperResolution").source
    assert source_sha256("single:SuperResolution")[:16] in first
    (tmp_path / "neighbour.py").write_text("SCALE = 2\n")
    assert spec_from_factory("single:SuperResolution").source != first


@pytest.mark.parametrize("changed", ["conv.weight", "conv.bias", "scale", "plain"])
def test_the_source_follows_what_the_factory_loads(nets, tmp_path, changed):
    held = {"conv.weight": torch.ones(3, 3, 1, 1), "conv.bias": torch.zeros(3)}
    held |= {"scale": torch.tensor(2.0), "plain": torch.tensor([0.5])}
    torch.save(held, tmp_path / "w.pt")
    first, again = (spec_from_factory(nets("Loaded")) for _ in range(2))
    assert first == again
    held[changed] = held[changed] + 1
    torch.save(held, tmp_path / "w.pt")
    assert spec_from_factory(nets("Loaded")).source != first.source


def test_the_digest_of_a_state_knows_names_types_and_shapes_and_takes_what_is_empty():
    def digest(tensor, name="a"):
        module = torch.nn.Module()
        module.register_buffer(name, tensor)
        return state_sha256(module)

    zeros = [torch.zeros(4), torch.zeros(2, 2), torch.zeros(4, dtype=torch.int32), torch.zeros(0), torch.tensor(0.0)]
    assert len({*map(digest, zeros), digest(torch.zeros(4), "b")}) == 6
    turned = torch.arange(6.0).view(2, 3).T
    assert digest(turned) == digest(turned.contiguous())
    assert len(state_sha256(torch.nn.LazyConv2d(3, 1))) == 64


def test_numbers_of_other_generators_are_the_same_each_time_and_these_are_left_alone(nets):
    random.seed(5)
    np.random.seed(5)
    state = random.getstate(), np.random.get_state()[1].tolist()
    first, second = (spec_from_factory(nets("Drawn")) for _ in range(2))
    assert first == second
    assert (random.getstate(), np.random.get_state()[1].tolist()) == state


# Refusals


@pytest.mark.parametrize("word", ["nets", "nets:", ":Net", "mine/nets.py:Net", "mine..nets:Net", "a:b:c"])
def test_another_form(word):
    with pytest.raises(UserError, match=r"not of the form\. Expected package\.module:Factory"):
        spec_from_factory(word)


@pytest.mark.parametrize(
    ("word", "words"),
    [
        ("nowhere:Net", "there is no module `nowhere` in {here} or on Python's path"),
        ("nowhere.deep:Net", "there is no module `nowhere` in"),
        ("mine.others:Net", "there is no module `mine.others` in"),
        ("mine.nets:SuperResolutoin", "has no `SuperResolutoin`.*Did you mean mine.nets:SuperResolution?"),
        ("mine.nets:ready", "is a SuperResolution, made when .*Add `def make"),
        ("mine.nets:number", "is a int, made when"),
        ("mine.nets:nothing", "returned a NoneType. Expected a torch.nn.Module"),
        ("mine.nets:half", "`a.weight` is torch.float16 on cpu. Expected float32"),
        ("mine.nets:stops", r"making it failed: SystemExit: usage: train.py \(nets.py, line \d+\)"),
        ("mine.nets:Broken", r"takes no picture: KeyError: 'my own mistake' \(nets.py, line \d+\)"),
        ("mine.nets:Pair", "its output is a tuple. Expected one float32 tensor"),
        ("mine.nets:Score", r"its output is \(1, 3\) torch.float32. Expected one float32 tensor"),
        ("mine.nets:Mask", "3 planes in and 1 out. Expected 3 and 3"),
        ("mine.nets:Valid", r"it makes \(1, 3, 124, 188\) of \(1, 3, 128, 192\)"),
    ],
)
def test_what_cannot_be_used(nets, tmp_path, word, words):
    with pytest.raises(UserError, match=words.format(here=tmp_path)) as caught:
        spec_from_factory(word)
    assert word in caught.value.what


def test_an_unknown_option_is_refused_and_the_nearest_one_suggested(nets):
    with pytest.raises(UserError, match=r"has no option `widht`.*width, r, planes, last.*Did you mean width\?"):
        spec_from_factory(nets("SuperResolution"), {"widht": 3})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "import nothing_of_this_name",
            "ModuleNotFoundError: No module named 'nothing_of_this_name' .single.py, line 1",
        ),
        ("x = [1,\n", "SyntaxError: "),
        ("import sys\nsys.exit(4)", "SystemExit: 4 .single.py, line 2"),
        ("class Odd(Exception): pass\nraise Odd('mine')", "Odd: mine .single.py, line 2"),
    ],
)
def test_an_error_of_the_module_is_quoted_with_its_place(nets, tmp_path, text, words):
    (tmp_path / "single.py").write_text(text)
    with pytest.raises(UserError, match=f"`--model single:Net`: importing single failed: {words}"):
        spec_from_factory("single:Net")


# The search by itself


def pretended(planes=3, upscale=1, fits=lambda h, w: True):
    def run(shape):
        n, c, h, w = shape
        if c != planes or not fits(h, w):
            raise RefusedError(f"not {shape}")
        return n, c, h * upscale, w * upscale

    return run


@pytest.mark.parametrize("multiple", [1, 2, 3, 5, 6, 7, 8, 12, 16, 24, 28, 32, 48, 64])
def test_every_multiple_is_found(multiple):
    run = pretended(upscale=4, fits=lambda h, w: h % multiple == w % multiple == 0)
    assert find_geometry(run, [3]) == Geometry(3, 3, 4, multiple, multiple)


@pytest.mark.parametrize("multiple", [1, 2, 8])
@pytest.mark.parametrize("least", [1, 2, 3, 5, 7])
def test_every_least_size_is_found(multiple, least):
    run = pretended(fits=lambda h, w: h % multiple == w % multiple == 0 and min(h, w) >= least * multiple)
    assert find_geometry(run, [3]) == Geometry(3, 3, 1, multiple, least * multiple)


def test_a_tiny_size_that_works_by_chance_is_no_least_size():
    assert find_geometry(pretended(fits=lambda h, w: h in {1, 2, 4} or h > 5), [3]).min_size == 6


def test_planes_are_tried_in_turn_and_the_first_reason_is_given():
    assert find_geometry(pretended(planes=1), [3, 1]).input_planes == 1
    with pytest.raises(RefusedError, match=r"not \(1, 3, "):
        find_geometry(pretended(planes=7), [3, 1])


def test_a_factor_that_changes_with_the_size_is_refused():
    def run(shape):
        k = 1 if shape[2] > shape[3] else 2
        return shape[0], shape[1], k * shape[2], k * shape[3]

    with pytest.raises(RefusedError, match="factor changes"):
        find_geometry(run, [3])


@pytest.mark.parametrize(
    "output", [(1, 3, 4, 5), (2, 3, 8, 10), (1, 3, 8, 15), (1, 3, 9, 10), (1, 3, 8), (1, 3, 0, 0), (1, 3, 10, 8)]
)
def test_sides_that_are_no_multiples(output):
    with pytest.raises(RefusedError, match="no whole multiples"):
        ratio((1, 3, 8, 10), output)


def test_probed_sizes_have_no_other_common_divisor():
    for multiple in range(1, 65):
        for height, width in probe_sizes(multiple):
            assert min(height, width) >= 64
            assert {d for d in range(1, 200) if height % d == width % d == 0} == {
                d for d in range(1, 65) if multiple % d == 0
            }


def test_planes_that_are_no_picture():
    for planes in ((3, 1), (1, 3), (4, 4), (6, 3)):
        with pytest.raises(UserError, match=f"`--model net`: {planes[0]} planes in and {planes[1]} out"):
            own_spec("net", "here", "mine", Geometry(*planes, 1))


def test_sizes_in_words():
    assert sizes_in_words(Geometry(3, 3, 1)) == "takes any size"
    assert sizes_in_words(Geometry(3, 3, 1, 1, 7)) == "takes any size from 7x7"
    assert sizes_in_words(Geometry(3, 3, 1, 8, 8)) == "takes sides that are multiples of 8"
    assert sizes_in_words(Geometry(3, 3, 1, 8, 24)) == "takes sides that are multiples of 8 from 24x24"
