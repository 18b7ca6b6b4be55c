"""Words for the user's own factories: what was meant, what it takes, what it was made of."""

from __future__ import annotations

import functools
import sys

import pytest
import torch

from reference_models.errors import UserError
from reference_models.own_module import check_options, factory_from_word, source_sha256, user_code

NET = """
import functools
from torch import nn

class Net(nn.Module):
    def __init__(self, width=8, *, depth=2):
        super().__init__()
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current directory with `mynet.py` and the package `nets` with `unet.py`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "mynet.py").write_text(NET)
    (tmp_path / "nets").mkdir()
    (tmp_path / "nets" / "__init__.py").write_text("")
    (tmp_path / "nets" / "unet.py").write_text(NET)
    (tmp_path / "results").mkdir()
    (tmp_path / "mynt.txt").write_text("no module")
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if name.partition(".")[0] in {"mynet", "nets"}:
            del sys.modules[name]


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("mynt:Net", "mynet:Net"),
        ("MyNet:Net", "mynet:Net"),
        ("nets.unt:Net", "nets.unet:Net"),
        ("net.unet:Net", "nets.unet:Net"),
    ],
)
def test_a_module_that_is_not_there_is_answered_with_the_nearest_file(folder, word, meant):
    with pytest.raises(UserError, match=rf"there is no module .*Did you mean {meant}\?"):
        factory_from_word(word)


@pytest.mark.parametrize("word", ["result:Net", "xyzzy:Net", "nowhere.deep:Net"])
def test_what_is_no_module_is_not_suggested(folder, word):
    with pytest.raises(UserError, match=r"Start where the module lies, or set PYTHONPATH\.$"):
        factory_from_word(word)


def test_the_factory_of_the_word(folder):
    assert factory_from_word("nets.unet:Net").__module__ == "nets.unet"


@pytest.mark.parametrize(
    ("name", "todo"), [("widht", "Did you mean width?"), ("dept", "Did you mean depth?"), ("zzz", "Check the name")]
)
def test_an_option_that_the_factory_does_not_take(folder, name, todo):
    factory = factory_from_word("mynet:Net")
    check_options("mynet:Net", factory, ["width", "depth"])
    with pytest.raises(UserError) as caught:
        check_options("mynet:Net", factory, ["width", name])
    assert caught.value.what == f"`--model mynet:Net`: has no option `{name}`"
    assert (caught.value.expected, caught.value.todo) == ("one of width, depth", todo)


def test_a_factory_without_options_says_so():
    with pytest.raises(UserError, match="Expected none: it takes no options"):
        check_options("m:f", lambda: None, ["width"])


def test_what_passes_options_on_or_tells_nothing_of_itself_is_asked_only_by_calling_it():
    @functools.wraps(torch.nn.Conv2d)
    def wrapped(*words, **options):
        return None

    class Silent:
        __signature__ = "none"

        def __call__(self):
            return None

    for factory in (lambda **options: None, wrapped, Silent()):
        check_options("m:f", factory, ["anything"])


def test_what_the_code_raises_is_quoted_with_its_own_place_and_not_ours(folder):
    (folder / "mynet.py").write_text("def make():\n    return 1 / 0\n")
    make = factory_from_word("mynet:make")
    with pytest.raises(UserError, match=r"^making it failed: ZeroDivisionError: .* \(mynet\.py, line 2\)"):
        user_code("making it", make)
    with pytest.raises(UserError, match=r"^ZeroDivisionError"):
        user_code("", make)


def test_the_digest_follows_the_sources_that_are_loaded(folder):
    (folder / "nets" / "layers.py").write_text("SCALE = 1\n")
    (folder / "nets" / "unet.py").write_text("from nets import layers\n" + NET)
    factory_from_word("nets.unet:Net")
    first = source_sha256("nets.unet:Net")
    (folder / "mynet.py").write_text("never imported\n")
    assert source_sha256("nets.unet:Net") == first
    (folder / "nets" / "layers.py").write_text("SCALE = 2\n")
    assert source_sha256("nets.unet:Net") != first


def test_the_digest_of_an_installed_package_is_of_that_package_alone():
    for name in ("Identity", "Sequential"):
        factory_from_word(f"torch.nn:{name}")
    assert source_sha256("torch.nn:Identity") == source_sha256("torch.nn:Sequential")
