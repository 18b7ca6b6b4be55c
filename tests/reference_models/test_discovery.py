"""reference_models finds its networks, names what it does not find, and imports no torch for that."""

from __future__ import annotations

import dataclasses
import importlib
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import reference_models
import reference_models.can
from reference_models.errors import UserError

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def registry():
    """Found anew in the test and again after it."""
    reference_models._registry.cache_clear()
    yield
    reference_models._registry.cache_clear()


def test_every_name_gives_the_spec_of_this_name():
    assert {"can24", "can32"} <= set(reference_models.names())
    for name in reference_models.names():
        assert reference_models.get(name).name == name


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(
        UserError, match=r"`--model can42`: not a known model\. Expected can24, .*Did you mean can"
    ) as e:
        reference_models.get("can42")
    assert all(name in e.value.expected for name in reference_models.names())
    with pytest.raises(UserError, match="`bench models` lists them"):
        reference_models.get("zzzzzz")


@pytest.mark.parametrize("name", ["mynet.onx", "nets/mynet.onnnx", "mynet.on", "can24.Onxx"])
def test_a_file_whose_ending_is_nearly_right_is_answered_with_the_right_one(name):
    stem = name.rpartition(".")[0]
    with pytest.raises(UserError, match=rf"`--model {name}`.*FILE\.onnx.*Did you mean {stem}\.onnx\?"):
        reference_models.get(name)


@pytest.mark.parametrize("name", ["mynet.pt", "can24.", "mynet.txt", "mynet.json", "mynet.ort", "."])
def test_other_endings_are_unknown_networks(name):
    with pytest.raises(UserError, match="not a known model"):
        reference_models.get(name)


def test_a_second_model_of_one_name_is_refused(registry, monkeypatch):
    first = reference_models.can.SPECS[0]
    monkeypatch.setattr(reference_models.can, "SPECS", (first, dataclasses.replace(first, description="other")))
    with pytest.raises(ValueError, match=r"two models are called 'can24'; the second is in reference_models/can\.py"):
        reference_models.names()


def test_a_model_is_found_wherever_its_file_declares_it(registry, monkeypatch):
    spec = dataclasses.replace(reference_models.can.SPECS[0], name="mine")
    monkeypatch.setattr(reference_models.can, "SPECS", (spec,))
    assert reference_models.get("mine") is spec


@pytest.mark.parametrize("name", reference_models.names())
def test_what_a_spec_names_exists(name):
    spec = reference_models.get(name)
    for reference in filter(None, (spec.factory, spec.configure, spec.importer)):
        module, _, attribute = reference.partition(":")
        assert callable(getattr(importlib.import_module(module), attribute))
    for file in spec.weights.values():
        assert (ROOT / "reference_models" / "weights" / file).is_file()
    assert spec.source
    assert "http" in spec.source
    assert spec.licence
    assert "\n" not in spec.description


def test_a_model_comes_in_eval_mode_and_the_same_every_time(any_model):
    first, second = reference_models.create_model(any_model), reference_models.create_model(any_model)
    assert isinstance(first, torch.nn.Module)
    assert not any(module.training for module in first.modules())
    same, other = first.state_dict(), second.state_dict()
    assert list(same) == list(other)
    assert all(torch.equal(same[name], other[name]) for name in same)


def test_what_a_network_offers_makes_another_one():
    can = reference_models.create_model("can", width=5, depth="4")
    assert can.last.in_channels == 5
    assert len(can.convs) == 3
    assert reference_models.get("can").options["width"] == 32
    assert reference_models.create_model("can").last.in_channels == 32


def test_a_spec_of_choices_is_that_of_create_model():
    chosen = reference_models.get("can", {"depth": 4, "width": 5})
    assert chosen.title == "can depth=4 width=5"
    model = reference_models.model_from_spec(chosen)
    assert not model.training
    shapes = {name: tensor.shape for name, tensor in model.state_dict().items()}
    other = reference_models.create_model("can", depth=4, width=5)
    assert shapes == {name: tensor.shape for name, tensor in other.state_dict().items()}


def test_a_misspelt_option_is_named_with_those_there_are():
    with pytest.raises(UserError, match=r"model `can` has no option of this name.*Did you mean width\?") as e:
        reference_models.create_model("can", widht=5)
    assert e.value.what.startswith("`--option widht=5`")
    assert e.value.expected == "one of depth, width, normalisation"
    with pytest.raises(UserError, match=r"model `can24` has no option.*none: it has no options"):
        reference_models.create_model("can24", width=5)


def test_weights_are_loaded(randomise, tmp_path):
    trained = randomise(reference_models.create_model("can24"), seed=3)
    save_file(trained.state_dict(), tmp_path / "w.safetensors")
    loaded = reference_models.create_model("can24", str(tmp_path / "w.safetensors"))
    for name, tensor in trained.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name


def test_weights_of_another_network_are_refused_by_its_name(tmp_path):
    save_file(reference_models.create_model("can32").state_dict(), tmp_path / "w.safetensors")
    with pytest.raises(UserError, match="These look like weights of can32"):
        reference_models.create_model("can24", str(tmp_path / "w.safetensors"))


def test_missing_weights_are_not_replaced_by_untrained_ones():
    with pytest.raises(UserError, match="neither a name nor an existing file"):
        reference_models.create_model("can24", "no/such/file.safetensors")


def test_names_and_specs_need_no_torch():
    code = (
        "import sys, reference_models as r\n"
        "specs = [r.get(name) for name in r.names()]\n"
        "assert specs\n"
        "sys.exit(', '.join({'torch', 'onnx', 'onnxruntime'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
