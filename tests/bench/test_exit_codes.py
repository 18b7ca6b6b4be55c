"""The numbers that scripts rely on."""

from __future__ import annotations

from bench import exit_codes


def test_the_codes_are_those_promised() -> None:
    """0 done, 2 wrong use, 5 could not measure, 130 interrupted as shells have it; 1 stays Python's own for a bug."""
    assert (exit_codes.REGRESSION, exit_codes.INCONCLUSIVE) == (3, 4)
    assert (exit_codes.OK, exit_codes.WRONG_USE, exit_codes.COULD_NOT_MEASURE, exit_codes.INTERRUPTED) == (0, 2, 5, 130)


def test_no_two_codes_are_equal_and_none_says_bug() -> None:
    codes = [value for name, value in vars(exit_codes).items() if name.isupper()]
    assert len(set(codes)) == len(codes)
    assert 1 not in codes
    assert all(0 <= code < 256 for code in codes)
