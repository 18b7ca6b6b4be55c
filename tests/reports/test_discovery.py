"""Sections are found by their files."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

import reports
from reports import ordered_sections


def test_every_file_of_the_folder_is_a_section_in_its_order() -> None:
    folder = Path(reports.__file__).parent / "sections"
    found = ordered_sections()
    assert {m.__name__.rpartition(".")[2] for m in found} == {p.stem for p in folder.glob("*.py")} - {"__init__"}
    assert [m.ORDER for m in found] == sorted(m.ORDER for m in found)
    assert all(m.TITLE and callable(m.render) for m in found)


def test_two_sections_in_one_place_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reports, "import_module", lambda name: SimpleNamespace(ORDER=1, __name__=name))
    with pytest.raises(ValueError, match="same ORDER"):
        ordered_sections()
