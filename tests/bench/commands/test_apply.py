"""`bench apply`: every kind of picture in, the right one out; what is refused is refused before anything is made."""

from __future__ import annotations

import pickle
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

Command = Callable[..., Any]
Save = Callable[..., Path]
Size = Callable[[Path], tuple[int, int]]


def apply(command: Command, source: Path, target: Path, *more: object) -> Any:
    return command("apply", "--model", "can24", "--input", source, "--output", target, *more)


# Wrong use

WORDS: list[tuple[list[str], list[str]]] = [
    (["--model", "can24", "--input", "a.png"], ["--output"]),
    (["--model", "can24", "--style", "a.png"], ["--style a.png", "`can24` has no global branch", "Leave it out"]),
    (["--model", "can", "--option", "width=6", "--style", "a.png"], ["`can width=6` has no global branch"]),
    (["--model", "colorization", "--style", "absent.png"], ["absent.png", "cannot be found"]),
    (["--model", "pixel_vae", "--input", "a.png", "--output", "b.png"], ["makes pictures of noise"]),
    (["--model", "can24", "--operator", "rof"], ["--option operator=rof", "no options"]),
    (["--model", "can32_multi", "--operator", "l0_smoothin"], ["Did you mean l0_smoothing?"]),
    (["--model", "can32_param", "--option", "parameter=0"], ["parameter=0", "a number from 0.01 to 1"]),
    (["--model", "can32_param", "--option", "parameter=much"], ["parameter=much", "a number from 0.01 to 1"]),
]


@pytest.mark.parametrize(("words", "named"), WORDS, ids=[" ".join(w) for w, _ in WORDS])
def test_wrong_words_are_named_with_what_was_expected(
    words: list[str], named: list[str], command: Command, *, tmp_path: Path, save: Save,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    save(tmp_path / "a.png")
    given = [] if "--input" in words else ["--input", "a.png", "--output", "b.png"]
    outcome = command("apply", *words, *given)
    outcome.assert_refused(*named)
    assert "prepare" not in outcome.err
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_apply_refuses_several_of_one_kind(command: Command, tmp_path: Path, save: Save) -> None:
    picture = save(tmp_path / "a.png")
    for more in (["--model", "can24,can32"], ["--model", "can24", "--statistics", "image,frozen"]):
        command("apply", *more, "--input", picture, "--output", tmp_path / "b.png").assert_refused("one of each")
    assert not (tmp_path / "b.png").exists()


def test_a_bad_picture_is_refused_before_anything_is_made(
    bad_picture: tuple[Path, str], command: Command, tmp_path: Path, save: Save
) -> None:
    (picture, reason), good, output = bad_picture, save(tmp_path / "good.png"), tmp_path / "out.png"
    styled = ("apply", "--model", "colorization", "--style", picture)
    for outcome in (
        apply(command, picture, output),
        apply(command, good, output, "--calibration", picture, "--statistics", "frozen"),
        command(*styled, "--input", good, "--output", output),
    ):
        outcome.assert_refused("bad.png", reason)
        assert "prepare" not in outcome.err
    assert not output.exists()


class _Payload:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, (str(self.path), "w")


@pytest.mark.parametrize("kind", ["torch zip", "bare pickle"])
def test_code_in_a_weights_file_is_never_run(kind: str, command: Command, tmp_path: Path, save: Save) -> None:
    planted, file = tmp_path / "planted", tmp_path / "weights.pt"
    if kind == "bare pickle":
        file.write_bytes(pickle.dumps(_Payload(planted)))
    else:
        import torch

        torch.save({"conv.weight": _Payload(planted)}, file)
    picture = save(tmp_path / "a.png")
    outcome = command(
        "apply", "--model", "can24", "--weights", file, "--input", picture, "--output", tmp_path / "b.png"
    )
    outcome.assert_refused("weights.pt")
    assert not planted.exists()
    pickle.loads(pickle.dumps(_Payload(planted)))
    assert planted.exists(), "the payload itself does not work, so that its absence would show nothing"


def test_apply_gives_the_right_size_and_orientation_for_every_kind_of_picture(
    command: Command, tmp_path: Path, save: Save, size: Size, gradient: Callable[[int, int], np.ndarray]
) -> None:
    """What a kind of file must come to is stated as a plain PNG beside it; both must give the same output."""
    photos, out = tmp_path / "photos", tmp_path / "out"
    photos.mkdir()
    save(photos / "one.png", 1, 1)
    save(photos / "odd.png", 7, 5)
    picture = gradient(40, 30)
    grey = picture[..., 0]
    Image.fromarray(grey).save(photos / "grey.png")
    Image.fromarray(grey.astype(np.uint16) * 257).save(photos / "deep.png")
    Image.fromarray(np.dstack([grey] * 3)).save(photos / "grey-plain.png")
    Image.fromarray(np.dstack([picture, np.full((30, 40), 7, np.uint8)])).save(photos / "alpha.png")
    Image.fromarray(picture).save(photos / "alpha-plain.png")
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned by a quarter clockwise
    Image.fromarray(picture).save(photos / "turned.jpg", exif=exif, quality=95)
    with Image.open(photos / "turned.jpg") as image:
        Image.fromarray(np.rot90(np.asarray(image), -1)).save(photos / "turned-plain.png")
    outcome = apply(command, photos, out)
    assert outcome.code == 0, outcome.err
    assert "9 of 9 pictures" in outcome.out
    assert (size(out / "one.png"), size(out / "odd.png")) == ((1, 1), (7, 5))
    for kind, plain in {"grey": "grey", "deep": "grey", "alpha": "alpha", "turned": "turned"}.items():
        got, expected = (np.asarray(Image.open(out / f"{name}.png")) for name in (kind, f"{plain}-plain"))
        assert got.shape == ((40, 30, 3) if kind == "turned" else (30, 40, 3))
        np.testing.assert_array_equal(got, expected, err_msg=kind)
        assert got.std() > 3


@pytest.mark.parametrize("engine", ["onnxruntime", "torch_eager"])
def test_apply_writes_the_truncation_of_what_torch_computes(
    engine: str, command: Command, *, tmp_path: Path, weights: dict[str, Path], save: Save,
    gradient: Callable[[int, int], np.ndarray],
) -> None:  # fmt: skip
    import torch

    from reference_models import create_model

    source, target = save(tmp_path / "a.png", 41, 30), tmp_path / "b.png"
    assert apply(command, source, target, "--weights", weights["can24"], "--engine", engine).code == 0
    planes = gradient(41, 30)[..., ::-1].transpose(2, 0, 1)[None].astype(np.float32) / 255
    with torch.inference_mode():
        y = create_model("can24", str(weights["can24"]))(torch.from_numpy(planes)).numpy()[0, ::-1]
    levels = np.clip(y.astype(np.float64), 0, 1).transpose(1, 2, 0) * 255
    assert levels.std() > 3
    unsure = np.abs(levels - levels.round()) < 0.02
    assert unsure.mean() < 0.5
    assert (levels % 1 > 0.5)[~unsure].any(), "truncating and rounding would be the same here"
    np.testing.assert_array_equal(np.asarray(Image.open(target))[~unsure], np.floor(levels).astype(np.uint8)[~unsure])


def test_apply_does_the_other_pictures_of_a_folder_and_names_the_bad_one(
    command: Command, tmp_path: Path, save: Save, size: Size, truncated: Callable[[Path], None]
) -> None:
    photos, out = tmp_path / "photos", tmp_path / "out"
    photos.mkdir()
    save(photos / "a.png", 20, 10)
    truncated(photos / "b.png")
    save(photos / "c.png", 10, 20)
    (photos / "more").mkdir()
    outcome = apply(command, photos, out)
    assert outcome.code == 5
    assert "are left out: more; give each by itself" in outcome.err
    assert "b.png" in outcome.err
    assert "truncated" in outcome.err
    assert "Traceback" not in outcome.err
    assert "2 of 3 pictures" in outcome.out
    assert {path.name: size(path) for path in out.glob("*.png")} == {"a.png": (20, 10), "c.png": (10, 20)}


def test_apply_with_thumbnail_statistics_takes_a_single_pixel(
    command: Command, tmp_path: Path, save: Save, size: Size
) -> None:
    source = save(tmp_path / "one.png", 1, 1)
    outcome = apply(command, source, tmp_path / "b.jpg", "--statistics", "thumbnail")
    assert outcome.code == 0, outcome.err
    assert size(tmp_path / "b.jpg") == (1, 1)


def test_apply_says_that_untrained_weights_mean_nothing(command: Command, tmp_path: Path, save: Save) -> None:
    save(tmp_path / "a.png", 20, 10)
    outcome = apply(command, tmp_path / "a.png", tmp_path / "b.png", "--weights", "none")
    assert outcome.code == 0
    assert "untrained" in outcome.out
    assert "can24 is untrained: give --weights" in outcome.err


def test_two_pictures_that_differ_only_in_their_ending_do_not_overwrite_each_other(
    command: Command, tmp_path: Path, save: Save
) -> None:
    photos, out = tmp_path / "photos", tmp_path / "out"
    photos.mkdir()
    save(photos / "a.png", 20, 10)
    save(photos / "a.jpg", 10, 20)
    outcome = apply(command, photos, out)
    assert (outcome.code, out.exists()) == (2, False)
    assert "would both become" in outcome.err


def test_published_weights_smooth_a_picture_from_checkpoint_to_png(
    command: Command, tmp_path: Path, originals: Path
) -> None:
    import torch

    from reference_models import create_model

    imported, out = tmp_path / "l0.safetensors", tmp_path / "out.png"
    checkpoint = originals / "can24_an" / "tf_checkpoint_L0_smoothing" / "model.ckpt"
    outcome = command("weights", "import", "--model", "can24", "--from", checkpoint, "--output", imported)
    assert outcome.code == 0, outcome.err
    with Image.open(originals / "can24_an" / "inputs" / "000001.png") as image:
        crop = np.asarray(image.convert("RGB").crop((300, 200, 460, 320)))
    Image.fromarray(crop).save(tmp_path / "in.png")
    outcome = apply(command, tmp_path / "in.png", out, "--weights", imported, "--engine", "onnxruntime")
    assert outcome.code == 0, outcome.err
    written = np.asarray(Image.open(out)).astype(float)
    planes = torch.from_numpy(crop[..., ::-1].transpose(2, 0, 1)[None].astype(np.float32) / 255)
    with torch.inference_mode():
        y = create_model("can24", str(imported))(planes).numpy()[0, ::-1].transpose(1, 2, 0)
    assert np.abs(written - np.clip(y, 0, 1) * 255).max() <= 1.01  # truncation, and float32 sums in another order

    def roughness(picture: np.ndarray) -> float:
        return float(np.median(np.abs(np.diff(picture.astype(float), axis=1))))

    assert roughness(written) < roughness(crop), "L0 smoothing removes small gradients"
    assert np.corrcoef(written.ravel(), crop.ravel())[0, 1] > 0.9


def test_an_output_that_cannot_be_written_is_refused_before_the_first_slow_step(
    command: Command, tmp_path: Path, save: Save
) -> None:
    block, picture = tmp_path / "file", save(tmp_path / "a.png")
    block.write_text("in the way")
    for outcome in (
        apply(command, picture, block / "b.png"),
        apply(command, picture, tmp_path / "absent" / "b.png"),
        apply(command, picture, tmp_path / "b.gif"),
        apply(command, tmp_path, block),
    ):
        outcome.assert_refused()
        assert "prepare" not in outcome.err
    assert block.read_text() == "in the way"


def test_a_folder_without_pictures_is_refused(command: Command, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "notes.txt").write_text("none here")
    apply(command, tmp_path / "photos", tmp_path / "out").assert_refused("photos", "no picture")
    assert not (tmp_path / "out").exists()


# What a network offers


def test_a_network_that_enlarges_gives_a_larger_picture_in_colour(
    command: Command, tmp_path: Path, save: Save, gradient: Callable[[int, int], np.ndarray]
) -> None:
    """The luma is the network's, untrained here; the chroma must be that of the picture, enlarged."""
    source, target = save(tmp_path / "a.png", 21, 13), tmp_path / "b.png"
    outcome = command("apply", "--model", "espcn_x3", "--input", source, "--output", target)
    assert outcome.code == 0, outcome.err
    written = np.asarray(Image.open(target)).astype(float)
    assert written.shape == (39, 63, 3)
    given = np.asarray(Image.fromarray(gradient(21, 13)).resize((63, 39), Image.Resampling.BICUBIC)).astype(float)
    inside = (written.min(2) > 0) & (written.max(2) < 255)  # elsewhere a colour was clipped
    assert inside.mean() > 0.3
    differences = [(p[..., 0] - p[..., 1])[inside] for p in (written, given)]
    assert np.abs(differences[0] - differences[1]).max() <= 3


def test_an_operator_is_applied_and_named(command: Command, tmp_path: Path, save: Save, size: Size) -> None:
    source, targets = save(tmp_path / "a.png", 20, 10), [tmp_path / "b.png", tmp_path / "c.png"]
    words = ("apply", "--model", "can32_multi", "--input", source)
    outcome = command(*words, "--output", targets[0], "--operator", "rtv")
    assert outcome.code == 0, outcome.err
    assert "can32_multi operator=rtv" in outcome.out
    assert command(*words, "--output", targets[1], "--option", "operator=rtv").code == 0
    assert size(targets[0]) == (20, 10)
    assert targets[0].read_bytes() == targets[1].read_bytes()


REFUSED_AT_ONCE = [
    ["--model", "can24", "--style", "a.png"],
    ["--model", "can32_multi", "--operator", "zzz"],
    ["--model", "can", "--option", "depth=1"],
]


@pytest.mark.parametrize("words", REFUSED_AT_ONCE, ids=" ".join)
def test_refusals_come_at_once_and_without_torch(
    words: list[str], answer: Callable[..., Any], tmp_path: Path, save: Save
) -> None:
    save(tmp_path / "a.png")
    answer(["apply", *words, "--input", "a.png", "--output", "b.png"]).assert_refused()


def test_pictures_go_through_an_int8_network(command: Command, tmp_path: Path, save: Callable[..., Path]) -> None:
    """Nearly what FP32 makes of them, and not the same."""
    picture = save(tmp_path / "in.png", 64, 48)
    for precision in ("fp32", "int8"):
        words = ("--engine", "openvino", "--precision", precision, "--calibration", picture)
        target = tmp_path / f"{precision}.png"
        outcome = command("apply", "--model", "espcn_x2", "--input", picture, "--output", target, *words)
        assert outcome.code == 0, outcome.err
    with Image.open(tmp_path / "fp32.png") as a, Image.open(tmp_path / "int8.png") as b:
        difference = np.abs(np.asarray(a, int) - np.asarray(b, int))
    assert difference.max() > 0
    assert difference.mean() < 8


# Folders that are there already, and videos


def test_a_folder_is_gone_on_with_and_again_makes_it_anew(command: Command, tmp_path: Path, save: Save) -> None:
    photos, out = tmp_path / "photos", tmp_path / "out"
    photos.mkdir()
    for name in ("a", "b", "c"):
        save(photos / f"{name}.png", 20, 10)
    assert apply(command, photos, out).code == 0
    (out / "b.png").unlink()
    save(photos / "d.png", 10, 20)
    times = {name: (out / name).stat().st_mtime_ns for name in ("a.png", "c.png")}
    outcome = apply(command, photos, out)
    assert outcome.code == 0, outcome.err
    assert "4 of 4 pictures" in outcome.out
    assert "2 were there already" in outcome.out
    assert {name: (out / name).stat().st_mtime_ns for name in times} == times
    outcome = apply(command, photos, out, "--again")
    assert "there already" not in outcome.out
    assert (out / "a.png").stat().st_mtime_ns != times["a.png"]
    other = apply(command, photos, out, "--statistics", "frozen", "--calibration", photos)
    assert "there already" not in other.out, "made by a network with other statistics"


def test_ctrl_c_leaves_whole_pictures_and_the_next_run_goes_on(
    start: Callable[..., Any], command: Command, tmp_path: Path, save: Save
) -> None:
    import signal

    photos, out = tmp_path / "photos", tmp_path / "out"
    photos.mkdir()
    for number in range(300):
        save(photos / f"{number:03}.png", 200, 150)
    live = start("apply", "--model", "can24", "--input", photos, "--output", out)
    live.wait_for("apply\n", 300)
    while len(list(out.glob("*.png"))) < 3:
        assert live.process.poll() is None
        time.sleep(0.02)
    live.process.send_signal(signal.SIGINT)
    outcome = live.finish()
    made = list(out.glob("*.png"))
    assert outcome.code == 130, outcome.err
    assert 3 <= len(made) < 300
    assert all(Image.open(path).convert("RGB").size == (200, 150) for path in made)
    assert not list(out.glob(".*.tmp"))
    assert len((out / ".fullres-apply.jsonl").read_text().splitlines()) == len(made)


def test_a_video_is_applied_by_its_ending(command: Command, tmp_path: Path, clip: Callable[..., Path]) -> None:
    import av

    source, target = (
        clip(tmp_path / "in.mp4", frames=4, width=33, height=32, pixel_format="yuv444p"),
        tmp_path / "o.mkv",
    )
    outcome = command("apply", "--model", "can24", "--statistics", "thumbnail", "--input", source, "--output", target)
    assert outcome.code == 0, outcome.err
    assert "4 frames of 33x32" in outcome.out
    assert "odd sides" in outcome.out
    assert "audio aac copied" in outcome.out
    with av.open(str(target)) as container:
        assert [(frame.width, frame.height) for frame in container.decode(video=0)] == [(34, 32)] * 4


def test_words_about_videos_are_refused_before_anything_is_made(
    command: Command, tmp_path: Path, save: Save, clip: Callable[..., Path]
) -> None:
    picture, video = save(tmp_path / "a.png"), clip(tmp_path / "a.mp4", frames=2)
    for source, target, more, named in (
        (picture, "b.png", ["--crf", "18"], "the input is no video"),
        (picture, "b.mp4", [], "--input ending in"),
        (video, "b.png", [], "a file ending in"),
        (video, "b.webm", [], "do not hold audio of aac"),
        (tmp_path / "absent.mp4", "b.mp4", [], "no such file"),
    ):
        outcome = apply(command, source, tmp_path / target, *more)
        outcome.assert_refused(named)
        assert "prepare" not in outcome.err
        assert not (tmp_path / target).exists()
