"""Words of `--a` and `--b`, and checkouts that leave the user's own as it is."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from bench.side import Checkout, Side, checked_out, parse_side
from reference_models.errors import UserError


def git(folder: Path, *words: str) -> str:
    identity = ("-c", "user.name=x", "-c", "user.email=x@example.org")
    done = subprocess.run(["git", *identity, *words], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two commits of net.py, "one" and "two"; the working folder."""
    folder = tmp_path / "repository"
    folder.mkdir()
    git(folder, "init", "-q")
    for text in ("one", "two"):
        (folder / "net.py").write_text(text)
        git(folder, "add", ".")
        git(folder, "commit", "-qm", text)
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.parametrize(
    ("word", "side"),
    [
        ("onnxruntime", Side("onnxruntime", "onnxruntime")),
        ("null:delay_ms=10.8", Side("null:delay_ms=10.8", "null:delay_ms=10.8")),
        ("rev:HEAD~1", Side("rev:HEAD~1", revision="HEAD~1")),
        ("dir:../other", Side("dir:../other", folder="../other")),
        ("precision=bf16", Side("precision=bf16", choices=(("precision", "bf16"),))),
        (
            "rev:main, openvino ,statistics=frozen",
            Side("rev:main, openvino ,statistics=frozen", "openvino", (("statistics", "frozen"),), "main"),
        ),
    ],
)
def test_sides(word: str, side: Side) -> None:
    assert parse_side(word, "--a") == side


@pytest.mark.parametrize(
    ("word", "named"),
    [
        ("", "no side"), ("rev:", "no side"), ("a b", "no side"), ("colour=red", "no side"),
        ("null,onnxruntime", "given twice"), ("rev:a,rev:b", "given twice"), ("rev:a,dir:b", "one checkout"),
    ],
)  # fmt: skip
def test_what_is_no_side_is_refused(word: str, named: str) -> None:
    with pytest.raises(UserError, match=named) as caught:
        parse_side(word, "--b")
    assert f"--b {word}" in str(caught.value)


def test_a_revision_is_checked_out_beside_and_removed_again(repository: Path, tmp_path: Path) -> None:
    (repository / "net.py").write_text("not committed")
    with checked_out(parse_side("rev:HEAD~1", "--a"), "--a", tmp_path) as checkout:
        assert checkout is not None
        assert (checkout.folder / "net.py").read_text() == "one"
        assert checkout.commit == git(repository, "rev-parse", "HEAD~1")
        assert len(git(repository, "worktree", "list").splitlines()) == 2
        kept = checkout.folder
    assert not kept.exists()
    assert len(git(repository, "worktree", "list").splitlines()) == 1
    assert (repository / "net.py").read_text() == "not committed"


def test_it_is_removed_too_where_something_goes_wrong(repository: Path, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), checked_out(parse_side("rev:HEAD", "--a"), "--a", tmp_path):
        raise KeyboardInterrupt
    assert len(git(repository, "worktree", "list").splitlines()) == 1


def test_both_sides_may_be_revisions_at_once(repository: Path, tmp_path: Path) -> None:
    with (
        checked_out(parse_side("rev:HEAD~1", "--a"), "--a", tmp_path) as a,
        checked_out(parse_side("rev:HEAD", "--b"), "--b", tmp_path) as b,
    ):
        assert a is not None
        assert b is not None
        assert [(c.folder / "net.py").read_text() for c in (a, b)] == ["one", "two"]


@pytest.mark.parametrize("word", ["rev:nowhere", "rev:--help", "rev:-q"])
def test_a_revision_that_is_none_is_refused(repository: Path, tmp_path: Path, word: str) -> None:
    with pytest.raises(UserError, match="no such revision"), checked_out(parse_side(word, "--a"), "--a", tmp_path):
        pass


def test_outside_of_a_repository_there_is_no_revision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    with (
        pytest.raises(UserError, match="no such revision"),
        checked_out(parse_side("rev:HEAD", "--a"), "--a", tmp_path),
    ):
        pass


def test_a_folder_is_used_as_it_is(repository: Path, tmp_path: Path) -> None:
    with checked_out(parse_side(f"dir:{repository}", "--a"), "--a", tmp_path) as checkout:
        assert checkout == Checkout(repository, git(repository, "rev-parse", "HEAD"))
    (repository / "net.py").write_text("changed")
    with checked_out(parse_side("dir:.", "--a"), "--a", tmp_path) as checkout:
        assert checkout is not None
        assert checkout.commit.endswith("+dirty")
    with pytest.raises(UserError, match="no folder"), checked_out(parse_side("dir:none", "--a"), "--a", tmp_path):
        pass


def test_without_a_checkout_the_code_that_runs_is_measured(tmp_path: Path) -> None:
    with checked_out(parse_side("null", "--a"), "--a", tmp_path) as checkout:
        assert checkout is None


def test_its_packages_come_first_and_its_cache_is_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "mine")
    environment = Checkout(tmp_path, "x").environment(tmp_path / "cache")
    paths = environment["PYTHONPATH"].split(os.pathsep)
    assert paths[0] == str(tmp_path)
    assert (Path(paths[1]) / "bench" / "side.py").is_file()
    assert paths[2] == "mine"
    assert environment["FULLRES_CACHE"] == str(tmp_path / "cache")
