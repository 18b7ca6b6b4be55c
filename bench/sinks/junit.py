"""A gate → JUnit XML: a test per case and rule. Regression is a failure, could not measure an error.

Inconclusive rows are `skipped`, the one state that CI systems show as neither passed nor failed; the exit code says 4.
Source: the schema that Jenkins publishes for its xUnit plugin (junit-10.xsd).
"""

from __future__ import annotations

import re
from xml.etree import ElementTree

from bench.gate import Gate, Outcome
from bench.sinks.words import headline, sentence, subject

CHILD = {"worse": "failure", "could not measure": "error", "inconclusive": "skipped", "not judged": "skipped"}


def render(gate: Gate) -> str:
    children = [CHILD.get(outcome.verdict) for outcome in gate.outcomes]
    # An empty suite is green in every viewer, so that one that judged nothing gets an error of its own.
    nothing = gate.verdict == "could not measure" and "error" not in children
    counts = {
        "tests": str(len(children) + nothing),
        "failures": str(children.count("failure")),
        "errors": str(children.count("error") + nothing),
    }
    root = ElementTree.Element("testsuites", {"name": "bench gate", **counts})
    suite = ElementTree.SubElement(
        root, "testsuite", {"name": "bench gate", **counts, "skipped": str(children.count("skipped"))}
    )
    properties = ElementTree.SubElement(suite, "properties")
    for name, value in _properties(gate):
        ElementTree.SubElement(properties, "property", {"name": _clean(name), "value": _clean(value)})
    for outcome in gate.outcomes:
        suite.append(_case(outcome))
    if nothing:
        case = ElementTree.SubElement(suite, "testcase", {"classname": "gate", "name": "anything", "time": "0"})
        ElementTree.SubElement(case, "error", {"type": "could not measure", "message": headline(gate)})
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def _properties(gate: Gate) -> list[tuple[str, str]]:
    rules = [("rule", rule.text) for rule in gate.rules]
    return [
        *(("baseline", gate.names[0]), ("candidate", gate.names[1])),
        *rules,
        *((name, f"{a} → {b}") for name, a, b in gate.differences),
    ]


def _case(outcome: Outcome) -> ElementTree.Element:
    title, words = _clean(outcome.title), _clean(sentence(outcome))
    case = ElementTree.Element("testcase", {"classname": title, "name": subject(outcome), "time": "0"})
    child = CHILD.get(outcome.verdict)
    if child == "skipped":
        ElementTree.SubElement(case, child, {"message": words})
    elif child:
        kind = "regression" if outcome.verdict == "worse" else outcome.verdict
        ElementTree.SubElement(case, child, {"type": kind, "message": words}).text = words
    else:
        ElementTree.SubElement(case, "system-out").text = words
    return case


def _clean(text: str) -> str:
    """Without the characters that XML 1.0 cannot hold in any form."""
    return re.sub("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", " ", text)
