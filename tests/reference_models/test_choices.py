"""Options as words or values → specs; whatever is not offered is refused with what is."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest

from reference_models import get
from reference_models.choices import allowed, callable_from_path, configured, parse_options
from reference_models.errors import UserError
from reference_models.spec import ModelSpec, Option

OFFERS = (
    Option("scale", 3, "how much larger", choices=(2, 3, 4)),
    Option("depth", 10, "layers", low=3, high=16),
    Option("gain", 0.5, "strength", low=0.0, high=1.0),
    Option("kind", "plain", "which one", choices=("plain", "fancy")),
    Option("seed", 0, "any whole number"),
)
SPEC = ModelSpec("net", "f", "p:C", "s", "MIT", "d", offers=OFFERS)


@pytest.fixture
def spec(tmp_path, monkeypatch) -> ModelSpec:
    """A spec whose `configure` writes the values that it was given into the factory's options."""
    (tmp_path / "choices_family.py").write_text(
        "import dataclasses\n"
        "calls = []\n"
        "def configure(name, **values):\n"
        "    calls.append((name, values))\n"
        "    return dataclasses.replace(SPEC, options=values)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    module = __import__("choices_family")
    module.calls.clear()
    found = dataclasses.replace(SPEC, configure="choices_family:configure")
    module.SPEC = found
    return found


def refused(call) -> UserError:
    with pytest.raises(UserError) as caught:
        call()
    return caught.value


# Made


def test_words_become_values_of_the_defaults_type(spec):
    made = configured(spec, {"scale": "2", "gain": "1e-1", "kind": "fancy", "seed": "-7"})
    assert made.options == {"scale": 2, "depth": 10, "gain": 0.1, "kind": "fancy", "seed": -7}
    assert [type(value) for value in made.options.values()] == [int, int, float, str, int]
    assert made.chosen == {"scale": 2, "gain": 0.1, "kind": "fancy", "seed": -7}
    assert made.title == "net scale=2 gain=0.1 kind=fancy seed=-7"


def test_values_are_taken_as_they_are(spec):
    assert configured(spec, {"scale": 2, "gain": 1}) == configured(spec, {"scale": "2", "gain": "1.0"})
    assert configured(spec, {"depth": 7.0}).options["depth"] == 7


@pytest.mark.parametrize("given", [{}, {"scale": "3"}, {"gain": 0.5, "kind": "plain"}, {"gain": "0.50"}])
def test_the_defaults_give_the_spec_itself(spec, given):
    assert configured(spec, given) is spec


def test_only_what_differs_from_the_defaults_was_chosen(spec):
    assert dict(configured(spec, {"scale": 3, "depth": 4}).chosen) == {"depth": 4}


def test_configure_gets_the_name_and_a_value_for_every_offer(spec):
    configured(spec, {"depth": "4"})
    assert __import__("choices_family").calls == [
        ("net", {"scale": 3, "depth": 4, "gain": 0.5, "kind": "plain", "seed": 0})
    ]


@pytest.mark.parametrize("value", [3, 16, "3", "16"])
def test_both_ends_of_a_range_belong_to_it(spec, value):
    assert configured(spec, {"depth": value}).options["depth"] == int(value)


def test_a_real_network_is_configured():
    spec = get("can", {"depth": "5", "width": 8, "normalisation": "none"})
    assert spec.options["width"] == 8
    assert len(spec.options["dilations"]) == 4
    assert (spec.statistics, spec.title) == ((), "can depth=5 width=8 normalisation=none")


# Refused


@pytest.mark.parametrize(
    ("given", "what", "expected", "todo"),
    [
        ({"scael": "2"}, "has no option of this name", "one of scale, depth, gain, kind, seed", "Did you mean scale?"),
        ({"zzzz": "2"}, "has no option of this name", "one of scale", "`bench models --options` describes them"),
        ({"": "2"}, "has no option of this name", "one of scale", "`bench models --options` describes them"),
        ({"scale": "5"}, "not a value of this option", "2, 3, 4", "`bench models --options` describes them"),
        ({"scale": "2.5"}, "not a value of this option", "2, 3, 4", "Did you mean 2?"),
        ({"scale": "two"}, "not a value of this option", "2, 3, 4", ""),
        ({"scale": 2.5}, "not a value of this option", "2, 3, 4", "Did you mean 2?"),
        ({"depth": "2"}, "not a value of this option", "a whole number from 3 to 16", ""),
        ({"depth": "17"}, "not a value of this option", "a whole number from 3 to 16", ""),
        ({"depth": 4.5}, "not a value of this option", "a whole number from 3 to 16", ""),
        ({"depth": "4.0"}, "not a value of this option", "a whole number from 3 to 16", ""),
        ({"depth": ""}, "not a value of this option", "a whole number from 3 to 16", ""),
        ({"depth": "9" * 5000}, "not a value of this option", "a whole number from 3 to 16", ""),
        ({"depth": math.nan}, "not a value of this option", "a whole number from 3 to 16", ""),
        ({"depth": math.inf}, "not a value of this option", "a whole number from 3 to 16", ""),
        ({"gain": "1.01"}, "not a value of this option", "a number from 0 to 1", ""),
        ({"gain": "nan"}, "not a value of this option", "a number from 0 to 1", ""),
        ({"gain": "inf"}, "not a value of this option", "a number from 0 to 1", ""),
        ({"gain": "much"}, "not a value of this option", "a number from 0 to 1", ""),
        ({"kind": "fnacy"}, "not a value of this option", "plain, fancy", "Did you mean fancy?"),
        ({"kind": "Plain"}, "not a value of this option", "plain, fancy", "Did you mean plain?"),
        ({"seed": "x"}, "not a value of this option", "a whole number", ""),
    ],
)
def test_what_is_not_offered_is_refused_with_what_is(spec, given, what, expected, todo):
    error = refused(lambda: configured(spec, given))
    ((name, value),) = given.items()
    assert error.what.startswith(f"`--option {name}={value}`")
    assert "`net`" in error.what
    assert what in error.what
    assert error.expected.startswith(expected)
    assert error.todo.startswith(todo or "`bench models")


def test_a_network_without_options_says_so():
    plain = dataclasses.replace(SPEC, offers=(), configure=None)
    error = refused(lambda: configured(plain, {"depth": 3}))
    assert error.expected == "none: it has no options"


def test_a_wrong_option_beside_a_right_one_is_found(spec):
    assert "depht" in refused(lambda: configured(spec, {"depth": 4, "depht": 4})).what
    assert __import__("choices_family").calls == []


# Words


def test_words_are_split_at_the_first_equals_sign():
    assert parse_options([]) == {}
    assert parse_options(["depth=7", "kind=a=b", "gain=1e-3"]) == {"depth": "7", "kind": "a=b", "gain": "1e-3"}


@pytest.mark.parametrize("word", ["", "depth", "=7", "depth=", "="])
def test_a_word_of_another_form_is_refused(word):
    error = refused(lambda: parse_options([word]))
    assert (error.what, error.expected) == (f"`--option {word}`: not of the form", "NAME=VALUE")


@pytest.mark.parametrize("second", ["depth=7", "depth=8"])
def test_a_name_given_twice_is_refused(second):
    error = refused(lambda: parse_options(["depth=7", "width=3", second]))
    assert (error.what, error.expected) == (f"`--option {second}`: `depth` is given twice", "each option once")


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        (Option("n", 3, "d", choices=(2, 3)), "2, 3"),
        (Option("n", 3, "d"), "a whole number"),
        (Option("n", 3, "d", low=1), "a whole number from 1"),
        (Option("n", 0.5, "d", low=0.01, high=1e3), "a number from 0.01 to 1000"),
        (Option("n", 0.5, "d", high=2.5), "a number to 2.5"),
        (Option("n", "x", "d"), "a word"),
    ],
)
def test_what_is_allowed_in_words(option: Option, expected: str):
    assert allowed(option) == expected


# Paths


def test_a_path_names_a_callable():
    assert callable_from_path("math:sqrt") is math.sqrt
    assert callable_from_path("reference_models.can:context_dilations")(4) == (1, 2, 1)


@pytest.mark.parametrize(
    ("path", "error"), [("no_such_module:f", ModuleNotFoundError), ("math:no_such_function", AttributeError)]
)
def test_a_path_that_leads_nowhere_is_our_bug_and_not_the_users(path: str, error: Any):
    with pytest.raises(error):
        callable_from_path(path)
