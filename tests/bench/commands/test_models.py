"""`bench models`: every network in the table, and all that is declared of one in its description."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import reference_models
from reference_models.spec import Evaluation, Figure

Command = Callable[..., Any]


def flat(text: str) -> str:
    """Without the folding of long cells."""
    return " ".join(text.split())


def test_every_network_has_its_line(command: Command) -> None:
    outcome = command("models")
    assert (outcome.code, outcome.err) == (0, "")
    for name in reference_models.names():
        spec = reference_models.get(name)
        (line,) = [line for line in outcome.out.splitlines() if line.split()[:1] == [name]]
        if spec.enlarges > 1:
            assert f"×{spec.enlarges}" in line
        assert flat(line).endswith(spec.description)
    assert "bench models NAME" in outcome.out


@pytest.mark.parametrize("width", [70, 80, 100])
def test_the_table_has_one_line_a_network_at_any_width(
    width: int, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    lines = command("models").out.splitlines()
    names = reference_models.names()
    assert [line.split()[0] for line in lines[1 : 1 + len(names)]] == names
    assert len(lines) <= len(names) + 4
    assert all(len(line) <= width for line in lines)
    for name, line in zip(names, lines[1:], strict=False):
        spec = reference_models.get(name)
        assert spec.task in line
        assert line.endswith("…") or line.endswith(spec.description)


@pytest.mark.parametrize("name", reference_models.names())
def test_a_network_is_described_in_full(name: str, command: Command) -> None:
    spec = reference_models.get(name)
    outcome = command("models", name)
    assert (outcome.code, outcome.err) == (0, "")
    text = flat(outcome.out)
    for fact in (spec.description, spec.family, spec.task, spec.source, spec.licence, spec.whole_picture):
        assert flat(fact) in text
    assert f"{spec.input}: {spec.input_planes} planes" in text
    assert f"{spec.output}: {spec.output_planes} planes" in text
    if spec.receptive_field_px:
        assert f"{spec.receptive_field_px} px; halo {spec.halo_px} px" in text
    for option in spec.offers:
        assert f"--option {option.name}=…" in text
        assert flat(option.doc) in text
        assert all(str(value) in text for value in option.choices)
    for figure in spec.figures:
        assert f"{figure.value:g} {figure.unit} ({figure.where})" in text
    for statistics in spec.statistics:
        assert statistics in text


def test_several_networks_are_described_one_after_the_other(command: Command) -> None:
    out = command("models", "can32", "can24").out
    assert 0 < out.index("can32:") < out.index("can24:")


def test_what_a_paper_says_about_its_network_is_told(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """Square brackets are no markup."""
    import dataclasses

    spec = dataclasses.replace(
        reference_models.get("can24"),
        description="a [bold]net[/]",
        constant_planes=(0.5,),
        pre_upscale=3,
        upscale=2,
        size_multiple=8,
        min_size=24,
        output_range=(-1.0, 1.0),
        statistics=(),
        evaluation=Evaluation("Y", 3, "bicubic [MATLAB]"),
        figures=(Figure("Set5 ×3", 32.75, "dB", "table 2"),),
        whole_picture="it looks [everywhere]",
    )
    monkeypatch.setattr(reference_models, "_registry", lambda: {"can24": spec})
    text = flat(command("models", "can24").out)
    for words in (
        "can24: a [bold]net[/]", "the last 1 constant: 0.5", "enlarged ×3 (bicubic) first", "in [-1, 1]",
        "multiples of 8, at least 24", "not exact: it looks [everywhere]", "Y, 3 px cut; bicubic [MATLAB]",
        "Set5 ×3: 32.75 dB (table 2)",
    ):  # fmt: skip
        assert words in text, words


def test_options_of_all_networks_are_listed(command: Command) -> None:
    outcome = command("models", "--options")
    assert outcome.code == 0
    text = flat(outcome.out)
    for name in reference_models.names():
        for option in reference_models.get(name).offers:
            assert f"{name} --option {option.name}=…" in text
    assert "can --option depth=… (a whole number from 3 to 16; default 10): layers" in text


def test_an_unknown_network_is_answered_with_the_nearest(command: Command) -> None:
    command("models", "can24", "cam32").assert_refused("cam32", "Did you mean can32?")


def test_the_table_of_sizes_in_the_documents_is_what_the_command_prints(command: Command) -> None:
    document = (Path(__file__).parents[3] / "docs" / "models.md").read_text()
    table = document.partition("Printed by the command:")[2].partition("\nWhere a paper")[0]
    outcome = command("models", "--work")
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.split("\n") == [line for line in table.split("\n") if line.startswith("|")] + [""]
