"""Every rule of reference_models/pictures.py, on real files; damaged ones are cut at many points."""

from __future__ import annotations

import os
import resource
import struct
import subprocess
import sys
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from reference_models import pictures
from reference_models.errors import UserError
from reference_models.pictures import (
    DEFAULT_PICTURE_NAME,
    Picture,
    calibration_pictures,
    check_picture,
    default_picture,
    fit_picture,
    held_back_pictures,
    list_pictures,
    read_picture,
    writable_format,
    write_picture,
)

RNG = np.random.default_rng(7)


@pytest.fixture(autouse=True)
def _warnings_are_errors() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def noise(width: int, height: int) -> Picture:
    return RNG.integers(0, 256, (height, width, 3), np.uint8)


def smooth(width: int, height: int) -> Picture:
    x, y = np.arange(width), np.arange(height)[:, None]
    planes = (127 + 120 * np.sin(x / 9 + y / 17), 127 + 120 * np.cos(x / 23) + 0 * y, 80 + 60 * np.sin(y / 11) + 0 * x)
    return np.stack(planes, axis=-1).astype(np.uint8)


def mode_of(path: Path) -> str:
    with Image.open(path) as image:
        return image.mode


def png_bytes(width: int, height: int, bits: int, colour_type: int, rows: bytes) -> bytes:
    """A PNG made by hand: Pillow cannot write 16-bit colour."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def assert_refused(error: UserError, path: Path, *words: str) -> None:
    """All three parts are there, the file is named, and each word appears."""
    assert error.what
    assert error.expected
    assert error.todo
    assert str(path) in error.what
    for word in words:
        assert word in str(error)


# --- read_picture: what comes out


@pytest.mark.parametrize(("width", "height"), [(31, 17), (1, 1), (7, 5), (2, 999)])
def test_png_keeps_every_value_and_odd_size(tmp_path: Path, width: int, height: int) -> None:
    expected = noise(width, height)
    Image.fromarray(expected).save(tmp_path / "a.png")
    got = read_picture(str(tmp_path / "a.png"))
    assert got.dtype == np.uint8
    assert got.flags.writeable
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("ending", ["bmp", "gif", "jpg", "JPEG", "ppm", "tif", "webp"])
def test_other_formats_are_read(tmp_path: Path, ending: str) -> None:
    Image.fromarray(smooth(40, 30)).save(tmp_path / f"a.{ending}")
    got = read_picture(tmp_path / f"a.{ending}").astype(int)
    assert got.shape == (30, 40, 3)
    assert np.abs(got - smooth(40, 30)).mean() < 8


def test_the_content_decides_not_the_ending(tmp_path: Path) -> None:
    Image.fromarray(noise(5, 4)).save(tmp_path / "a.jpg", format="PNG")
    assert read_picture(tmp_path / "a.jpg").shape == (4, 5, 3)


def test_grey_is_repeated_in_three_planes(tmp_path: Path) -> None:
    grey = noise(6, 5)[..., 0]
    Image.fromarray(grey).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_picture(tmp_path / "a.png"), np.stack([grey] * 3, axis=-1))


def test_one_bit_becomes_0_and_255(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 255, 255, 0]], np.uint8)).convert("1").save(tmp_path / "a.png")
    assert read_picture(tmp_path / "a.png")[0, :, 1].tolist() == [0, 255, 255, 0]


def test_alpha_is_discarded_and_colours_stay_as_stored(tmp_path: Path) -> None:
    rgba = RNG.integers(0, 256, (5, 6, 4), np.uint8)
    rgba[0, :, 3] = 0  # fully transparent: compositing would lose these colours
    Image.fromarray(rgba).save(tmp_path / "rgba.png")
    np.testing.assert_array_equal(read_picture(tmp_path / "rgba.png"), rgba[..., :3])
    Image.fromarray(rgba[..., 2:]).save(tmp_path / "la.png")
    assert mode_of(tmp_path / "la.png") == "LA"
    np.testing.assert_array_equal(read_picture(tmp_path / "la.png"), np.repeat(rgba[..., 2:3], 3, axis=2))


@pytest.mark.parametrize("transparency", [None, 1, b"\x00\x80\xff"])
def test_palette_becomes_its_colours_without_a_warning(tmp_path: Path, transparency: int | bytes | None) -> None:
    image = Image.fromarray(np.array([[0, 1, 2]], np.uint8))
    image.putpalette([255, 0, 0, 0, 250, 0, 1, 2, 3])
    image.save(tmp_path / "a.png", transparency=transparency)
    assert mode_of(tmp_path / "a.png") == "P"
    assert read_picture(tmp_path / "a.png").tolist() == [[[255, 0, 0], [0, 250, 0], [1, 2, 3]]]


def test_16_bit_grey_is_divided_by_257_and_rounded(tmp_path: Path) -> None:
    values = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    image = Image.fromarray(values)
    assert image.mode == "I;16"
    image.save(tmp_path / "a.png")
    image.save(tmp_path / "a.tif")
    expected = np.rint(values / 257).astype(np.uint8)
    assert (expected != values >> 8).any()  # dropping the low byte would be another rule
    for name in ("a.png", "a.tif"):
        np.testing.assert_array_equal(read_picture(tmp_path / name), np.stack([expected] * 3, axis=-1))


def test_16_bit_grey_that_pillow_opens_in_its_32_bit_mode(tmp_path: Path) -> None:
    values = np.array([[0, 128, 129, 65535]], np.uint16)
    (tmp_path / "a.pgm").write_bytes(b"P5 4 1 65535\n" + values.astype(">u2").tobytes())
    assert mode_of(tmp_path / "a.pgm") == "I"
    assert read_picture(tmp_path / "a.pgm")[0, :, 0].tolist() == [0, 0, 1, 255]


@pytest.mark.parametrize(("colour_type", "planes"), [(2, 3), (6, 4), (4, 2)])
def test_16_bit_colour_loses_its_low_byte(tmp_path: Path, colour_type: int, planes: int) -> None:
    values = np.array([0, 255, 256, 0x12FF, 0xFF00, 0xFFFF], ">u2")
    rows = b"\0" + np.repeat(values[:, None], planes, axis=1).tobytes()
    (tmp_path / "a.png").write_bytes(png_bytes(6, 1, 16, colour_type, rows))
    assert read_picture(tmp_path / "a.png")[0].tolist() == [[int(v) >> 8] * 3 for v in values]


@pytest.mark.parametrize("ending", ["png", "jpg", "tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path: Path, orientation: int, ending: str) -> None:
    path = tmp_path / f"a.{ending}"
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(smooth(20, 12)).save(path, exif=exif)
    with Image.open(path) as image:
        expected = np.array(ImageOps.exif_transpose(image))
    got = read_picture(path)
    assert got.shape == ((12, 20, 3) if orientation < 5 else (20, 12, 3))
    np.testing.assert_array_equal(got, expected)


def test_exif_orientation_6_turns_clockwise(tmp_path: Path) -> None:
    picture = np.zeros((8, 16, 3), np.uint8)
    picture[:, :8] = 255  # bright on the left, so upright: bright on top
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(picture).save(tmp_path / "a.jpg", exif=exif, quality=95)
    got = read_picture(tmp_path / "a.jpg")
    assert got.shape == (16, 8, 3)
    assert got[:8].min() > 200
    assert got[8:].max() < 50


def test_exif_orientation_holds_for_16_bit_grey(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 3
    Image.fromarray(np.array([[0, 257 * 100]], np.uint16)).save(tmp_path / "a.png", exif=exif)
    assert read_picture(tmp_path / "a.png")[0, :, 0].tolist() == [100, 0]


def test_cmyk_is_converted(tmp_path: Path) -> None:
    Image.new("CMYK", (16, 16), (0, 255, 255, 0)).save(tmp_path / "a.jpg", quality=95)
    red, green, blue = read_picture(tmp_path / "a.jpg")[8, 8].tolist()
    assert red > 240
    assert max(green, blue) < 15


def test_the_first_frame_is_read(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (6, 4), colour) for colour in ((255, 0, 0), (0, 255, 0))]
    for name in ("a.gif", "a.png", "a.tif", "a.webp"):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], lossless=True)  # lossless: of WebP
        assert read_picture(tmp_path / name)[2, 3].tolist() == [255, 0, 0], name
    frames[0].save(tmp_path / "phone.jpg", format="MPO", save_all=True, append_images=frames[1:])
    assert read_picture(tmp_path / "phone.jpg")[2, 3, 0] > 240


# --- read_picture: what is refused


def test_missing_file_folder_and_empty_file(tmp_path: Path) -> None:
    (tmp_path / "empty.png").touch()
    cases = {"no.png": "No such file", "": "is a folder", "empty.png": "0 bytes", "a\0b": "null"}
    for name, word in cases.items():
        with pytest.raises(UserError) as caught:
            read_picture(tmp_path / name)
        assert_refused(caught.value, tmp_path / name, word)


def test_a_pipe_is_refused_instead_of_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.png")
    with pytest.raises(UserError, match="not an ordinary file"):
        read_picture(tmp_path / "a.png")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_a_file_without_permission_is_not_called_damaged(tmp_path: Path) -> None:
    write_picture(tmp_path / "a.png", noise(3, 3))
    (tmp_path / "a.png").chmod(0)
    with pytest.raises(UserError, match="Permission denied"):
        read_picture(tmp_path / "a.png")


def test_an_error_of_the_system_is_not_called_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, image: Image.Image) -> Picture:
        raise PermissionError(13, "Permission denied", str(path))

    write_picture(tmp_path / "a.png", noise(3, 3))
    monkeypatch.setattr(pictures, "_decoded", refuse)
    with pytest.raises(UserError) as caught:
        read_picture(tmp_path / "a.png")
    assert_refused(caught.value, tmp_path / "a.png", "cannot be read (Permission denied)")
    assert "damaged" not in str(caught.value)


@pytest.mark.parametrize(
    "content", [b"hello\n" * 50, b"\x89PNG\r\n\x1a\n", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"]
)
def test_what_is_no_picture_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(UserError) as caught:
        read_picture(tmp_path / "a.png")
    assert_refused(caught.value, tmp_path / "a.png", "PNG, JPEG")


def test_formats_outside_the_list_never_reach_their_decoder(tmp_path: Path) -> None:
    # For EPS the decoder would be Ghostscript; ICO stands in for it, since Pillow reads that without help.
    Image.fromarray(noise(16, 16)).save(tmp_path / "a.ico")
    with pytest.raises(UserError, match="not a picture that can be read"):
        read_picture(tmp_path / "a.ico")


@pytest.mark.parametrize("ending", ["png", "jpg", "tif", "webp", "gif", "bmp", "ppm"])
def test_a_truncated_file_is_refused_wherever_it_ends(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"a.{ending}"
    Image.fromarray(noise(24, 31)).save(path)
    whole, content = read_picture(path), path.read_bytes()
    refused = 0
    cuts = [*range(1, len(content), len(content) // 40), *range(len(content) - 30, len(content))]
    for cut in cuts:
        path.write_bytes(content[:cut])
        try:
            # Accepted only where nothing but the end marker is lost.
            np.testing.assert_array_equal(read_picture(path), whole)
            assert cut >= len(content) - 20
        except UserError as error:
            refused += 1
            assert_refused(error, path)
    assert refused >= 40


def test_a_damaged_file_gives_a_picture_or_a_user_error(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    Image.fromarray(noise(24, 31)).save(path)
    content = path.read_bytes()
    for _ in range(60):
        damaged = bytearray(content)
        for at in RNG.integers(0, len(content), 4):
            damaged[at] = RNG.integers(0, 256)
        path.write_bytes(damaged)
        try:
            assert read_picture(path).dtype == np.uint8
        except UserError as error:
            assert_refused(error, path)


def test_100_megapixels_are_refused_by_the_header(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.png"
    Image.new("1", (10000, 10000)).save(path)

    def decoded(*_: object) -> None:
        raise AssertionError("the picture was decoded")

    monkeypatch.setattr(Image.Image, "load", decoded)
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", decoded)
    with pytest.raises(UserError) as caught:
        read_picture(path)
    assert_refused(caught.value, path, "10000x10000", "100.0 megapixels", "at most 64 megapixels")


def test_a_size_that_pillow_itself_refuses_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(png_bytes(20000, 20000, 8, 2, b""))
    with pytest.raises(UserError) as caught:
        read_picture(path)
    assert_refused(caught.value, path, "400.0 megapixels", "at most 64 megapixels")


@pytest.mark.parametrize(("width", "refused"), [(1000, False), (1001, True)])
def test_the_limit_itself_is_allowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, width: int, refused: bool
) -> None:
    monkeypatch.setattr(pictures, "MAX_MEGAPIXELS", 1)
    Image.new("L", (width, 1000)).save(tmp_path / "a.png")
    if refused:
        with pytest.raises(UserError, match="too large"):
            read_picture(tmp_path / "a.png")
    else:
        assert read_picture(tmp_path / "a.png").shape == (1000, width, 3)


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_32_bit_grey_is_refused(tmp_path: Path, dtype: type) -> None:
    Image.fromarray(np.ones((3, 4), dtype)).save(tmp_path / "a.tif")
    with pytest.raises(UserError) as caught:
        read_picture(tmp_path / "a.tif")
    assert_refused(caught.value, tmp_path / "a.tif", "32-bit")


# --- list_pictures


def test_a_folder_is_listed_by_name_and_not_below(tmp_path: Path) -> None:
    for name in ("b.PNG", "a.jpeg", "c.JpG", "note.txt", ".hidden.png", "noending"):
        (tmp_path / name).touch()
    (tmp_path / "sub.png").mkdir()
    (tmp_path / "sub.png" / "z.png").touch()
    (tmp_path / "d.png").symlink_to("nowhere.png")
    assert [p.name for p in list_pictures(tmp_path)] == ["a.jpeg", "b.PNG", "c.JpG", "d.png"]


def test_a_file_stands_for_itself(tmp_path: Path) -> None:
    (tmp_path / "picture").touch()
    assert list_pictures(str(tmp_path / "picture")) == [tmp_path / "picture"]


def test_nothing_to_list_is_refused(tmp_path: Path) -> None:
    (tmp_path / "note.txt").touch()
    for path, word in ((tmp_path, "holds no picture"), (tmp_path / "no", "cannot be found")):
        with pytest.raises(UserError) as caught:
            list_pictures(path)
        assert_refused(caught.value, path, word)


# --- write_picture


def test_png_is_lossless(tmp_path: Path) -> None:
    expected = noise(13, 7)
    write_picture(str(tmp_path / "a.PNG"), expected)
    np.testing.assert_array_equal(read_picture(tmp_path / "a.PNG"), expected)
    assert (tmp_path / "a.PNG").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("name", ["a.jpg", "a.jpeg", "a.JPG"])
def test_jpeg_has_quality_95_and_full_chroma(tmp_path: Path, name: str) -> None:
    write_picture(tmp_path / name, smooth(64, 48))
    with Image.open(tmp_path / name) as image:
        assert image.format == "JPEG"
        assert [layer[1:3] for layer in image.layer] == [(1, 1)] * 3  # type: ignore[attr-defined]  # sampling factors
        got = image.quantization[0]  # type: ignore[attr-defined]
    Image.fromarray(smooth(64, 48)).save(tmp_path / "95.jpg", quality=95)
    with Image.open(tmp_path / "95.jpg") as image:
        assert got == image.quantization[0]  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["a.bmp", "a", "a.png.tmp", ".png"])
def test_an_unknown_ending_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError) as caught:
        write_picture(tmp_path / name, noise(3, 3))
    assert_refused(caught.value, tmp_path / name, ".png, .jpg or .jpeg")
    assert list(tmp_path.iterdir()) == []


def test_the_format_is_known_before_writing() -> None:
    assert [writable_format(name) for name in ("a.png", "b/a.JPEG", "a.b.jpg")] == ["PNG", "JPEG", "JPEG"]


def test_a_missing_folder_is_named_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path, reason in ((tmp_path / "no" / "a.png", "No such file"), (tmp_path / "file" / "a.png", "Not a directory")):
        with pytest.raises(UserError) as caught:
            write_picture(path, noise(3, 3))
        assert_refused(caught.value, path, reason)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(UserError, match="Permission denied"):
            write_picture(tmp_path / "a.png", noise(3, 3))
    finally:
        tmp_path.chmod(0o700)


def test_a_full_disk_names_the_reason_and_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"old")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(UserError) as caught:
            write_picture(path, noise(64, 64))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert_refused(caught.value, path, "File too large")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_an_interrupted_write_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_picture(tmp_path / "a.png", noise(3, 3))
    assert list(tmp_path.iterdir()) == []


def test_a_written_file_has_ordinary_permissions_and_links_are_followed(tmp_path: Path) -> None:
    (tmp_path / "link.png").symlink_to("real.png")
    write_picture(tmp_path / "link.png", noise(3, 3))
    (tmp_path / "plain").touch()
    assert (tmp_path / "link.png").is_symlink()
    assert (tmp_path / "real.png").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_side_too_long_for_jpeg_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be written"):
        write_picture(tmp_path / "a.jpg", np.zeros((1, 65501, 3), np.uint8))


@pytest.mark.parametrize(
    "wrong",
    [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8)],
)
def test_what_is_not_a_picture_raises(tmp_path: Path, wrong: Picture) -> None:
    for call in (
        lambda: write_picture(tmp_path / "a.png", wrong),
        lambda: fit_picture(wrong, 4, 4),
        lambda: check_picture(wrong),
    ):
        with pytest.raises(ValueError, match=r"expected \(H, W, 3\) uint8"):
            call()


# --- fit_picture


@pytest.mark.parametrize(("width", "height"), [(1, 1), (7, 5), (5, 7), (640, 360), (1, 9000), (9000, 1), (853, 481)])
@pytest.mark.parametrize(("new_width", "new_height"), [(568, 320), (854, 480), (33, 71), (1, 1)])
def test_any_picture_fits_any_size(width: int, height: int, new_width: int, new_height: int) -> None:
    fitted = fit_picture(noise(width, height), new_width, new_height)
    assert fitted.shape == (new_height, new_width, 3)
    assert fitted.dtype == np.uint8
    assert fitted.flags.writeable


def test_a_picture_that_fits_is_returned_itself() -> None:
    picture = noise(40, 30)
    assert fit_picture(picture, 40, 30) is picture


@pytest.mark.parametrize(("width", "height"), [(40, 20), (31, 30), (40, 1)])
def test_at_factor_1_the_centre_is_cut_out_unchanged(width: int, height: int) -> None:
    picture = noise(40, 30)
    top, left = (30 - height) // 2, (40 - width) // 2
    fitted = fit_picture(picture, width, height)
    np.testing.assert_array_equal(fitted, picture[top : top + height, left : left + width])
    assert not np.shares_memory(fitted, picture)


@pytest.mark.parametrize(("width", "height"), [(80, 30), (240, 180), (30, 60), (200, 60)])
def test_it_equals_scaling_then_cropping(width: int, height: int) -> None:
    picture = smooth(120, 60)
    scale = max(width / 120, height / 60)
    scaled_width, scaled_height = round(120 * scale), round(60 * scale)  # whole numbers in these cases
    scaled = np.array(Image.fromarray(picture).resize((scaled_width, scaled_height), Image.Resampling.LANCZOS))
    top, left = (scaled_height - height) // 2, (scaled_width - width) // 2
    expected = scaled[top : top + height, left : left + width].astype(int)
    assert np.abs(fit_picture(picture, width, height).astype(int) - expected).max() <= 1


def test_one_factor_for_both_sides() -> None:
    # A centred square stays square where the target is much wider than the picture.
    picture = np.zeros((100, 100, 3), np.uint8)
    picture[40:60, 40:60] = 255
    bright = fit_picture(picture, 400, 200)[..., 0] > 127
    assert bright.any(axis=0).sum() == bright.any(axis=1).sum() == 80
    assert np.flatnonzero(bright.any(axis=0)).mean() == 199.5
    assert np.flatnonzero(bright.any(axis=1)).mean() == 99.5


def test_a_flipped_view_fits_like_its_copy() -> None:
    view = smooth(50, 40)[::-1, ::-1]
    np.testing.assert_array_equal(fit_picture(view, 64, 20), fit_picture(view.copy(), 64, 20))


@pytest.mark.parametrize(("width", "height"), [(0, 5), (5, -1)])
def test_a_side_below_1_raises(width: int, height: int) -> None:
    with pytest.raises(ValueError, match=f"{width}x{height}"):
        fit_picture(noise(4, 4), width, height)


# --- the pictures that scikit-image ships


def test_the_default_picture_is_a_photograph() -> None:
    picture = default_picture()
    assert picture.shape == (400, 600, 3)
    assert picture.std() > 20
    assert DEFAULT_PICTURE_NAME == "scikit-image coffee.png"


def test_calibration_never_sees_the_default_picture() -> None:
    found = calibration_pictures()
    assert len(found) >= 3
    assert len({name for name, _ in found}) == len(found)
    default = default_picture()
    for name, picture in found:
        assert name != DEFAULT_PICTURE_NAME
        assert picture.dtype == np.uint8
        assert picture.std() > 20
        assert not np.array_equal(fit_picture(picture, 600, 400), default)


def test_held_back_pictures_are_neither_calibration_nor_the_default() -> None:
    found = held_back_pictures()
    assert len(found) >= 2
    seen = dict(calibration_pictures())
    for name, picture in found:
        assert name not in {*seen, DEFAULT_PICTURE_NAME}
        assert picture.dtype == np.uint8
        assert picture.ndim == 3
        assert picture.std() > 20
        small = fit_picture(picture, 60, 40).astype(int)
        for other in (*seen.values(), default_picture()):
            assert np.abs(small - fit_picture(other, 60, 40)).mean() > 10


@pytest.mark.parametrize("stripped", ["no package", "no file"])
def test_a_stripped_scikit_image_asks_for_own_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stripped: str
) -> None:
    class Found:
        submodule_search_locations = (str(tmp_path),)

    monkeypatch.setattr("importlib.util.find_spec", lambda _: None if stripped == "no package" else Found)
    for call, name in ((default_picture, "coffee.png"), (calibration_pictures, "astronaut.png")):
        with pytest.raises(UserError) as caught:
            call()
        assert name in caught.value.what
        assert "--images FILE" in caught.value.todo


def test_importing_the_module_loads_no_picture_library() -> None:
    code = (
        "import sys, reference_models.pictures as p; heavy = {'PIL', 'torch', 'skimage'}; "
        "print(heavy & set(sys.modules));"
        "p.default_picture(); print(heavy & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == ["set()", "{'PIL'}"]
