"""The shape of the source tree: a test for every file, imports that point one way, nothing heavy to import it."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
TESTS = ROOT / "tests"
PACKAGES = ("reference_models", "export", "engines", "bench", "reports")
"""Imports point to the left of this list only."""
COMMAND_LINE = ("bench/cli.py", "bench/commands/")
"""Files and folders that may import everything."""
VENDORS = (
    "torch",
    "openvino",
    "onnxruntime",
    "tensorrt",
    "tensorrt_rtx",
    "onnx",
    "onnxscript",
    "cuda",
    "pycuda",
    "triton",
    "polygraphy",
)
"""Libraries that must not be needed to import a module."""
TORCH_BY_NATURE = ("reference_models/networks/", "reference_models/training/")
"""Folders of files that define torch modules or train them, and are imported by name only where one is built. What in
them does not need torch is the tables of names of other projects' tensors, whose file names end in the framework's, and
what makes training pairs of pictures."""
PAIRS = {f"reference_models.training.{name}" for name in ("crops", "labelled", "pairs", "scenes", "sources", "targets")}
EMPTY_WORDS = {"util", "utils", "helper", "helpers", "common", "misc", "manager", "managers", "wrapper", "wrappers"}
MAX_LINES = 400
LONG_FILES: dict[str, str] = {}
"""Files above MAX_LINES, with the reason."""


def sources() -> list[Path]:
    return sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def mirror(source: Path) -> Path | None:
    """The test file of a source file, None where it needs none."""
    folder = TESTS / source.parent.relative_to(ROOT)
    if source.name == "__init__.py":
        return folder / "test_discovery.py" if source.read_text().strip() else None
    return folder / f"test_{source.name}"


def imported(path: Path) -> Iterator[tuple[int, str]]:
    """Line and full name of every import, those inside functions and under TYPE_CHECKING included."""
    package = module_of(path) if path.name == "__init__.py" else module_of(path).rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            yield node.lineno, ".".join([*base, *([node.module] if node.module else [])])


SOURCES = pytest.mark.parametrize("source", sources(), ids=name_of)


def test_all_five_packages_hold_sources() -> None:
    assert {path.relative_to(ROOT).parts[0] for path in sources()} == set(PACKAGES)


@SOURCES
def test_every_source_file_has_its_test_in_the_same_place(source: Path) -> None:
    test = mirror(source)
    if test is not None:
        assert test.is_file(), f"{name_of(source)} has no {name_of(test)}"
        assert "def test_" in test.read_text(), f"{name_of(test)} tests nothing"


def test_every_test_file_belongs_to_a_source_file() -> None:
    """At the top stand tests of the whole; a `test_contract.py` runs over everything that its folder offers."""
    known = {*TESTS.glob("test_*.py"), *TESTS.rglob("test_contract.py"), *map(mirror, sources())}
    assert sorted(name_of(path) for path in set(TESTS.rglob("test_*.py")) - known) == []


@SOURCES
def test_imports_point_up_the_list_of_packages_only(source: Path) -> None:
    if name_of(source).startswith(COMMAND_LINE):
        return
    own = PACKAGES.index(source.relative_to(ROOT).parts[0])
    wrong = [
        f"{name_of(source)}:{line} imports {name}"
        for line, name in imported(source)
        if name.partition(".")[0] in PACKAGES[own + 1 :]
    ]
    assert wrong == []


@SOURCES
def test_no_source_file_imports_a_test_or_itself_relatively(source: Path) -> None:
    assert [name for _, name in imported(source) if name.partition(".")[0] in {"tests", "conftest", ""}] == []


def test_the_scan_of_imports_sees_functions_and_relative_imports(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    path = tmp_path / "export" / "deep" / "file.py"
    path.parent.mkdir(parents=True)
    path.write_text("def f():\n    import bench.run\n    if f:\n        from ..cache import x\n    from . import y\n")
    assert sorted(imported(path)) == [(2, "bench.run"), (4, "export.cache"), (5, "export.deep")]


BLOCKED_IMPORT = """
import importlib, sys

blocked, modules = sys.argv[1].split(","), sys.argv[2].split(",")

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in blocked:
            raise ModuleNotFoundError(f"{name} is blocked", name=name)

sys.meta_path.insert(0, Blocker())
for module in modules:
    try:
        importlib.import_module(module)
    except ModuleNotFoundError as error:
        print(module, error)
"""


def failing_imports(modules: list[str]) -> set[str]:
    """Which of `modules` cannot be imported from this checkout where the vendors' libraries are absent."""
    done = subprocess.run(
        [sys.executable, "-c", BLOCKED_IMPORT, ",".join(VENDORS), ",".join(modules)],
        check=True, capture_output=True, text=True, cwd=ROOT,
    )  # fmt: skip
    return {line.split()[0] for line in done.stdout.splitlines()}


def torch_by_nature(source: Path) -> bool:
    return name_of(source).startswith(TORCH_BY_NATURE) and source.name != "__init__.py"


def test_every_module_imports_where_no_vendor_library_is_installed() -> None:
    modules = [module_of(path) for path in sources() if not torch_by_nature(path)]
    assert failing_imports(modules) == set()


def test_what_defines_torch_modules_needs_torch_and_the_blocking_works() -> None:
    """Whatever else lies in these folders belongs one folder up, where it is tested to be light."""
    modules = {module_of(path) for path in sources() if torch_by_nature(path)}
    light = {module for module in modules if module.endswith("_tensorflow")} | PAIRS
    assert failing_imports(sorted(modules)) == modules - light


def test_nobody_imports_a_file_of_torch_modules_at_the_top_of_a_light_file() -> None:
    """Named in a spec as `package.module:Factory`, or imported in the function that builds one."""
    found = [
        f"{name_of(path)}:{node.lineno}"
        for path in sources()
        if not torch_by_nature(path)
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.ImportFrom) and f"{node.module}.".replace(".", "/").startswith(TORCH_BY_NATURE)
    ]
    assert found == []


def test_pyproject_lists_exactly_the_packages_there_are() -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    folders = {path.parent.relative_to(ROOT).as_posix().replace("/", ".") for path in sources()}
    assert sorted(listed) == sorted(folders)
    assert len(set(listed)) == len(listed)
    for package in listed:
        assert (ROOT / package.replace(".", "/") / "__init__.py").is_file()


def test_no_module_or_class_has_a_name_without_content() -> None:
    paths = [*sources(), *TESTS.rglob("*.py")]
    names = {name_of(path): [*path.relative_to(ROOT).with_suffix("").parts] for path in paths}
    vague = [file for file, parts in names.items() if EMPTY_WORDS & {w for part in parts for w in part.split("_")}]
    for path in sources():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef) and node.name.lower().endswith(tuple(EMPTY_WORDS)):
                vague.append(f"{name_of(path)}: class {node.name}")
    assert vague == []


def test_long_files_are_known_with_their_reason() -> None:
    long = {name_of(path) for path in sources() if len(path.read_text().splitlines()) > MAX_LINES}
    assert long == set(LONG_FILES)
    assert all(len(reason.split()) > 3 for reason in LONG_FILES.values())


@SOURCES
def test_every_source_file_says_first_what_it_is(source: Path) -> None:
    text = source.read_text()
    assert not text.strip() or ast.get_docstring(ast.parse(text)), f"{name_of(source)} has no docstring"


def test_a_broad_except_stands_at_the_two_ends_only() -> None:
    """The worker turns whatever a vendor's library raises into a row; nobody else may swallow what he does not know."""
    broad = set()
    for path in sources():
        for node in ast.walk(ast.parse(path.read_text())):
            caught = ast.unparse(node.type) if isinstance(node, ast.ExceptHandler) and node.type else None
            if isinstance(node, ast.ExceptHandler) and caught in {None, "Exception"}:
                broad.add(name_of(path))
    assert broad <= {"bench/cli.py", "bench/worker.py"}


def test_one_clock_serves_all_measurements() -> None:
    """No engine times anything; bench/measure.py has the clock."""
    engines = [path for path in sources() if path.is_relative_to(ROOT / "engines")]
    assert [name_of(path) for path in engines if "time" in {name for _, name in imported(path)}] == []
