"""Exit codes of the command, the same for every part of it. 1 is Python's own: a bug."""

OK, WRONG_USE, COULD_NOT_MEASURE, INTERRUPTED = 0, 2, 5, 130
REGRESSION, INCONCLUSIVE = 3, 4
