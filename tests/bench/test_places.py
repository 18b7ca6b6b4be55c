"""Where pictures and runs may go: inputs are never replaced, and what cannot be written is refused at once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bench.places import check_output_file, check_writable, picture_pairs, run_places
from reference_models.errors import UserError
from reference_models.pictures import write_picture


def pictures(folder: Path, *names: str) -> Path:
    folder.mkdir(exist_ok=True)
    for name in names:
        write_picture(folder / name, np.zeros((2, 3, 3), np.uint8))
    return folder


def test_a_folder_goes_into_a_folder_as_png(tmp_path: Path) -> None:
    source = pictures(tmp_path / "in", "a.png", "b.jpg")
    pairs = picture_pairs(source, tmp_path / "out" / "deep")
    assert [Path(target).name for _, target in pairs] == ["a.png", "b.png"]
    assert (tmp_path / "out" / "deep").is_dir()


def test_pictures_that_differ_in_their_ending_alone_are_refused(tmp_path: Path) -> None:
    source = pictures(tmp_path / "in", "a.png", "a.jpg")
    with pytest.raises(UserError, match=r"a\.jpg and .*a\.png would both become .*out/a\.png"):
        picture_pairs(source, tmp_path / "out")


@pytest.mark.parametrize("target", ["in", "link", "in/../in"])
def test_an_input_folder_is_never_the_output(tmp_path: Path, target: str) -> None:
    source = pictures(tmp_path / "in", "a.png")
    (tmp_path / "link").symlink_to(source)
    with pytest.raises(UserError, match="is one of the input pictures"):
        picture_pairs(source, tmp_path / target)


def test_an_input_file_is_never_the_output(tmp_path: Path) -> None:
    source = pictures(tmp_path / "in", "a.png") / "a.png"
    for target in (source, source.parent):
        with pytest.raises(UserError, match="is one of the input pictures"):
            picture_pairs(source, target)


def test_a_place_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for place in (Path("/proc/x"), tmp_path / "file" / "x"):
        with pytest.raises(UserError, match="--output"):
            check_writable(place, "--output")
    with pytest.raises(UserError, match="its folder does not exist"):
        check_output_file(tmp_path / "no" / "x.png", "--output")
    with pytest.raises(UserError, match="is a folder"):
        check_output_file(tmp_path, "--output")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file"]


def test_runs_go_where_they_are_told_else_into_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FULLRES_CACHE", str(tmp_path / "cache"))
    out = str(tmp_path / "out")
    assert run_places("runs.json", None) == (Path("runs.json"), None)
    assert run_places(None, out) == (tmp_path / "out" / "runs.json", tmp_path / "out" / "pictures")
    assert run_places("runs.json", out) == (Path("runs.json"), tmp_path / "out" / "pictures")
    path, folder = run_places(None, None)
    assert (path.parent, folder) == (tmp_path / "cache" / "runs", None)
