"""Where pictures and runs may go: inputs are never replaced, and what cannot be written is refused at once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bench.places import check_calibration, check_output_file, check_writable, picture_pairs, run_places, runs_file
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
    assert not (tmp_path / "out").exists()


def test_a_folder_does_not_go_into_a_file(tmp_path: Path) -> None:
    source = pictures(tmp_path / "in", "a.png")
    with pytest.raises(UserError, match="the name of a picture"):
        picture_pairs(source, tmp_path / "out.PNG")
    (tmp_path / "there.png").mkdir()
    assert len(picture_pairs(source, tmp_path / "there.png")) == 1


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


def test_a_folder_stands_for_the_runs_file_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out").mkdir()
    with pytest.raises(UserError, match=r"^out/: a folder without runs\.json.*Name the file, or another folder"):
        runs_file("out/")
    (tmp_path / "out" / "mine.json").write_text("{}")
    with pytest.raises(UserError, match=r"Did you mean out/mine\.json\?"):
        runs_file("out")
    (tmp_path / "out" / "runs.json").write_text("{}")
    assert runs_file("out") == runs_file("out/") == "out/runs.json"
    assert runs_file("none.json") == "none.json"  # whoever reads it says so


def test_runs_go_where_they_are_told_else_into_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FULLRES_CACHE", str(tmp_path / "cache"))
    out = str(tmp_path / "out")
    assert run_places("runs.json", None) == (Path("runs.json"), None)
    assert run_places(None, out) == (tmp_path / "out" / "runs.json", tmp_path / "out" / "pictures")
    assert run_places("runs.json", out) == (Path("runs.json"), tmp_path / "out" / "pictures")
    path, folder = run_places(None, None)
    assert (path.parent, folder) == (tmp_path / "cache" / "runs", None)


def test_calibration_pictures_are_known_by_their_content(tmp_path: Path) -> None:
    assert check_calibration(None) == check_calibration(None, quantised=True) == []
    write_picture(tmp_path / "a.png", np.zeros((4, 4, 3), np.uint8))
    write_picture(tmp_path / "b.png", np.arange(48, dtype=np.uint8).reshape(4, 4, 3))
    write_picture(tmp_path / "c.png", np.zeros((4, 4, 3), np.uint8))
    first, second, third = check_calibration(str(tmp_path), quantised=True)
    assert first == third != second


@pytest.mark.parametrize("values", [(0, 0), (0, 255)])
def test_pictures_of_one_colour_give_no_ranges(values: tuple[int, int], tmp_path: Path) -> None:
    for number, value in enumerate(values):
        write_picture(tmp_path / f"{number}.png", np.full((4, 4, 3), value, np.uint8))
    assert len(check_calibration(str(tmp_path))) == 2  # statistics can be measured on them
    with pytest.raises(UserError, match=r"2 pictures, each of one colour. Expected pictures with the values"):
        check_calibration(str(tmp_path), quantised=True)


def test_an_empty_folder_holds_no_calibration_pictures(tmp_path: Path) -> None:
    with pytest.raises(UserError):
        check_calibration(str(tmp_path), quantised=True)
