"""UserError: three parts in one sentence each, and suggestions that are near."""

from __future__ import annotations

import pytest

from reference_models.errors import UserError, nearest, unknown


def test_an_error_keeps_its_parts_and_joins_them():
    error = UserError("`--res 0x1`: no pixels", "WIDTHxHEIGHT", "Give both sides")
    assert (error.what, error.expected, error.todo) == ("`--res 0x1`: no pixels", "WIDTHxHEIGHT", "Give both sides")
    assert str(error) == "`--res 0x1`: no pixels. Expected WIDTHxHEIGHT. Give both sides."


@pytest.mark.parametrize("todo", ["Did you mean 1080p?", "Do this."])
def test_no_second_stop_is_set(todo):
    assert str(UserError("a", "b", todo)) == f"a. Expected b. {todo}"


@pytest.mark.parametrize(
    ("word", "guess"),
    [
        ("cann24", "can24"),
        ("can23", "can24"),
        ("CAN32", "CAN32"),
        ("can-24", "can24"),
        ("1441p", "1440p"),
        ("xyz", None),
        ("", None),
    ],
)
def test_the_nearest_word_whatever_its_case(word, guess):
    assert nearest(word, iter(["can24", "CAN32", "1440p", "1080p"])) == guess


def test_nothing_is_near_where_nothing_is_known():
    assert nearest("can24", []) is None


def test_an_unknown_word_is_quoted_and_the_nearest_one_suggested():
    error = unknown("--model", "can23", "model", iter(["can24", "espcn"]), "See `bench models`")
    assert str(error) == "`--model can23`: not a known model. Expected can24, espcn. Did you mean can24?"


def test_an_unknown_word_that_resembles_none_gets_the_advice():
    error = unknown("--model", "zzz", "model", ["can24"], "See `bench models`")
    assert error.todo == "See `bench models`"
