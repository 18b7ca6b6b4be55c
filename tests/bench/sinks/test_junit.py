"""JUnit XML: what CI systems count, and that the file obeys the schema that Jenkins publishes (junit-10.xsd)."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from bench.gate import Gate, Outcome, Verdict
from bench.rules import parse_rules
from bench.sinks.junit import render

RULES = parse_rules(["latency:5%"], [])
SCHEMA: dict[str, tuple[set[str], set[str], set[str]]] = {
    # element: (required attributes, optional attributes, children)
    "testsuites": (set(), {"name", "time", "tests", "failures", "disabled", "errors"}, {"testsuite"}),
    "testsuite": (
        {"name", "tests"},
        {"failures", "errors", "time", "disabled", "skipped", "skips", "timestamp", "hostname", "id", "package"},
        {"properties", "testcase", "system-out", "system-err"},
    ),
    "properties": (set(), set(), {"property"}),
    "property": ({"name", "value"}, set(), set()),
    "testcase": (
        {"name"},
        {"assertions", "time", "classname", "status", "class", "file", "line"},
        {"skipped", "error", "failure", "system-out", "system-err"},
    ),
    "failure": (set(), {"type", "message"}, set()),
    "error": (set(), {"type", "message"}, set()),
    "skipped": (set(), {"type", "message"}, set()),
    "system-out": (set(), set(), set()),
}
"""junit-10.xsd of the Jenkins xUnit plugin, as far as its elements, attributes and nesting go."""


def check(element: ElementTree.Element) -> None:
    required, optional, children = SCHEMA[element.tag]
    assert required <= set(element.attrib) <= required | optional, element.tag
    for child in element:
        assert child.tag in children, f"{child.tag} in {element.tag}"
        check(child)


def parsed(*outcomes: Outcome) -> ElementTree.Element:
    text = render(Gate(("main", "mine"), RULES, outcomes, [("commit", "1", "2")]))
    assert text.startswith('<?xml version="1.0" encoding="UTF-8"?>')
    root = ElementTree.fromstring(text.encode())
    check(root)
    return root


def counts(root: ElementTree.Element) -> dict[str, int]:
    suite = root[0]
    found = {name: int(suite.attrib[name]) for name in ("tests", "failures", "errors", "skipped")}
    assert found["tests"] == len(suite.findall("testcase"))
    assert found["failures"] == len(suite.findall("testcase/failure"))
    assert found["errors"] == len(suite.findall("testcase/error"))
    assert found["skipped"] == len(suite.findall("testcase/skipped"))
    return found


@pytest.mark.parametrize(
    ("verdict", "child"),
    [
        ("worse", "failure"), ("could not measure", "error"), ("inconclusive", "skipped"), ("not judged", "skipped"),
        ("same", "system-out"), ("better", "system-out"),
    ],
)  # fmt: skip
def test_every_verdict_is_what_ci_systems_show_of_it(verdict: Verdict, child: str) -> None:
    root = parsed(Outcome("can24 720p", RULES[0], verdict, 100, 108, 0.08), Outcome("b", RULES[0], "same", 1, 1, 0.0))
    (case, _) = root.iter("testcase")
    assert [c.tag for c in case] == [child]
    assert (case.attrib["classname"], case.attrib["name"]) == ("can24 720p", "latency")
    counts(root)


def test_counts_agree_with_what_is_in_it() -> None:
    root = parsed(*(Outcome("x", RULES[0], v) for v in ("worse", "worse", "could not measure", "inconclusive", "same")))
    assert counts(root) == {"tests": 5, "failures": 2, "errors": 1, "skipped": 1}
    assert root.find("testsuite/testcase/failure").attrib["type"] == "regression"  # type: ignore[union-attr]


def test_a_gate_that_judged_nothing_is_an_error_and_no_empty_suite() -> None:
    assert counts(parsed()) == {"tests": 1, "failures": 0, "errors": 1, "skipped": 0}
    assert counts(parsed(Outcome("x", None, "not judged")))["errors"] == 1


def test_names_and_reasons_survive_xml() -> None:
    root = parsed(Outcome('<&">\x00\x1b', None, "could not measure", why="killed \x07 <by> & signal"))
    case = next(root.iter("testcase"))
    assert case.attrib["classname"] == '<&">  '
    assert case[0].attrib["message"] == "could not measure: killed   <by> & signal"
