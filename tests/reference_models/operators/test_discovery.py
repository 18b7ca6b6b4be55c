"""The package finds its operators, names what it does not find, and imports nothing heavy for that."""

from __future__ import annotations

import subprocess
import sys

import pytest

from reference_models import operators
from reference_models.can import OPERATORS
from reference_models.errors import UserError


def test_every_name_gives_the_operator_of_this_name():
    assert operators.names()
    for name in operators.names():
        operator = operators.get(name)
        assert operator.name == name == operator.compute.__module__.rpartition(".")[2]
        assert "https://" in operator.source
        assert len(operator.title) < 50


def test_the_names_are_those_of_the_network_for_ten_operators():
    assert set(operators.names()) == set(OPERATORS)


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(UserError, match=r"`operator l0_smooth`: not a known operator\. .*Did you mean l0_smoothing"):
        operators.get("l0_smooth")


def test_their_list_needs_no_heavy_library():
    code = (
        "import sys; from reference_models import operators; operators.names();"
        "print(*sorted({'scipy', 'skimage', 'torch', 'cv2'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
