"""Picture files ↔ pictures. A picture is uint8 (H, W, 3) RGB everywhere in this project.

Colour profiles and gamma tags are ignored: networks see the stored numbers. No resolution names here, and no torch.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import os
import re
import secrets
import stat
import struct
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

from reference_models.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

Picture: TypeAlias = "NDArray[np.uint8]"  # quoted: the command line checks names of pictures without NumPy

MAX_MEGAPIXELS = 64
"""Largest picture that is decoded, in 10^6 pixels; an 8K frame (7680x4320) has 33."""

DEFAULT_PICTURE_NAME = "scikit-image coffee.png"
"""How reports name the picture that `default_picture` returns."""

# What Pillow decodes by itself, and the endings looked for in folders. Not EPS: Pillow runs Ghostscript on it.
_ENDINGS = {
    "PNG": (".png",),
    "JPEG": (".jpg", ".jpeg"),
    "BMP": (".bmp",),
    "GIF": (".gif",),
    "PPM": (".ppm", ".pgm", ".pbm"),
    "TIFF": (".tif", ".tiff"),
    "WEBP": (".webp",),
}
_READABLE = "a PNG, JPEG, BMP, GIF, PPM, TIFF or WebP picture"

# What Pillow's decoders raise on damaged files; OSError covers UnidentifiedImageError and truncated data.
_DAMAGE = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    RuntimeError,
    EOFError,
    struct.error,
    zlib.error,
)

# Licences as stated in the docstrings of skimage/data/_fetchers.py. coffee.png, the default picture, is CC0 by Rachel
# Michetti; it never belongs here, since quality measured on a calibration picture would flatter the network.
_CALIBRATION_FILES = (
    "astronaut.png",  # NASA, public domain
    "chelsea.png",  # CC0 by Stefan van der Walt
    "rocket.jpg",  # SpaceX, public domain
)

_HELD_BACK_FILES = (
    "motorcycle_left.png",  # CC0, Middlebury stereo data of 2014, D. Scharstein et al.
    "hubble_deep_field.jpg",  # NASA, public domain
)


def read_picture(path: str | os.PathLike[str]) -> Picture:
    """The first frame of a picture file as uint8 (H, W, 3) RGB in 0..255, turned upright as its EXIF tag says.

    - Grey values are repeated in three planes; palette, CMYK and YCbCr pictures are converted by Pillow.
    - Alpha is discarded: the colour planes are kept as stored, also where they are transparent.
    - 16-bit grey becomes round(v / 257). 16-bit RGB, and 16-bit grey with alpha, come out of Pillow as floor(v / 256).
    - 32-bit grey is refused: no range is stated for it.
    - A file that lacks its end marker only, with every pixel there, is read.

    Raises:
        UserError: no file, an empty, damaged or truncated one, not a picture, of 32-bit grey, or of more than
            MAX_MEGAPIXELS; the size is judged from the header, before anything is decoded.
    """
    with opened(path) as image:
        return _decoded(Path(path), image)


@contextlib.contextmanager
def opened(path: str | os.PathLike[str]) -> Iterator[Image.Image]:
    """A picture file, opened; its decoder's errors while it is open are the user's.

    Raises:
        UserError: as `read_picture`, but for 32-bit grey.
    """
    from PIL import Image

    path = Path(path)
    _check_file(path)
    try:
        with warnings.catch_warnings():
            # Pillow warns from 89 megapixels on and about odd metadata; what matters of both is judged here.
            warnings.simplefilter("ignore")
            with Image.open(path, formats=tuple(_ENDINGS)) as image:
                width, height = image.size
                if width * height > MAX_MEGAPIXELS * 10**6:
                    raise _too_large(path, f"{width}x{height} pixels, {width * height / 1e6:.1f} megapixels")
                yield image
    except Image.DecompressionBombError as error:  # from Image.open itself, above 179 megapixels
        pixels = re.search(r"\((\d+) pixels\)", str(error))
        raise _too_large(path, f"{int(pixels[1]) / 1e6:.1f} megapixels" if pixels else str(error)) from None
    except Image.UnidentifiedImageError:
        raise UserError(
            f"picture `{path}`: its content is not a picture that can be read", _READABLE, "Convert it to PNG"
        ) from None
    except _DAMAGE as error:
        raise _unreadable(path, error) from None


def list_pictures(path: str | os.PathLike[str]) -> list[Path]:
    """The picture files that `path` stands for, at least one, in the order of their names.

    A file stands for itself, whatever its ending. A folder stands for the files directly in it whose ending, in any
    case, is one of a picture; hidden files and subfolders are left out.

    Raises:
        UserError: nothing is there, it cannot be listed, or the folder holds no picture.
    """
    path = Path(path)
    if not stat.S_ISDIR(_stat(path, "folder or picture").st_mode):
        return [path]
    endings = tuple(ending for endings in _ENDINGS.values() for ending in endings)
    try:
        found = [p for p in path.iterdir() if p.name.lower().endswith(endings) and not p.name.startswith(".")]
    except OSError as error:
        raise UserError(
            f"folder `{path}`: cannot be listed ({_reason(error)})", "a readable folder", "Check its permissions"
        ) from None
    # A dangling link stays in the list, so that reading it gives an error instead of a picture less.
    pictures = sorted((p for p in found if not p.is_dir()), key=lambda p: p.name)
    if not pictures:
        raise UserError(
            f"folder `{path}`: holds no picture", f"files ending in {', '.join(endings)}", "Give a folder with pictures"
        )
    return pictures


def write_picture(path: str | os.PathLike[str], picture: Picture) -> None:
    """Writes uint8 (H, W, 3) RGB as PNG, or as JPEG of quality 95 without chroma subsampling, as the ending says.

    The file appears whole or not at all: it is written beside its place and moved there. A link is followed.

    Raises:
        UserError: another ending, a folder that is missing or not writable, a full disk, or a side above JPEG's 65500.
        ValueError: not a picture.
    """
    from PIL import Image

    path = Path(path)
    file_format = writable_format(path)
    check_picture(picture)
    image, encoded = Image.fromarray(picture), io.BytesIO()
    options = {"quality": 95, "subsampling": "4:4:4"} if file_format == "JPEG" else {}
    try:
        # Pillow writing to a file reports a full disk as "encoder error -2", hence the detour over memory.
        image.save(encoded, format=file_format, **options)
        replace_file(Path(os.path.realpath(path)), encoded.getbuffer())
    except OSError as error:
        raise UserError(
            f"picture `{path}`: cannot be written ({_reason(error)})",
            "an existing, writable folder with enough space",
            "Choose another output path",
        ) from error  # whoever writes many asks whether the disk is full


def is_picture_name(path: str | os.PathLike[str]) -> bool:
    """Whether the ending, in any case, is one of a picture."""
    return Path(path).name.lower().endswith(tuple(ending for endings in _ENDINGS.values() for ending in endings))


def writable_format(path: str | os.PathLike[str]) -> Literal["PNG", "JPEG"]:
    """The format that `write_picture` gives a file of this name; call it before the first slow step.

    Raises:
        UserError: the ending is not one of .png, .jpg, .jpeg (in any case).
    """
    ending = Path(path).suffix.lower()
    if ending in _ENDINGS["PNG"]:
        return "PNG"
    if ending in _ENDINGS["JPEG"]:
        return "JPEG"
    raise UserError(
        f"picture `{path}`: `{ending or 'no ending'}` is not a format that is written",
        "a name ending in .png, .jpg or .jpeg",
        "Rename the output; .png keeps every value",
    )


def fit_picture(picture: Picture, width: int, height: int) -> Picture:
    """The picture brought to width x height pixels: uint8 (height, width, 3) RGB.

    Rule: scaled by the one factor with which it just covers width x height (Lanczos), then cropped around its centre.
    Where the factor is 1 nothing is resampled; a picture of exactly this size is returned itself, not copied.

    Raises:
        ValueError: not a picture, or a side below 1.
    """
    import numpy as np
    from PIL import Image

    check_picture(picture)
    if width < 1 or height < 1:
        raise ValueError(f"a picture of {width}x{height} pixels was asked for; both sides must be at least 1")
    old_height, old_width = picture.shape[:2]
    if (old_width, old_height) == (width, height):
        return picture
    scale = max(width / old_width, height / old_height)
    if scale == 1:
        top, left = (old_height - height) // 2, (old_width - width) // 2
        return picture[top : top + height, left : left + width].copy()
    # Pillow's box crops before it scales, yet filters with the pixels around the box: the same picture as scaling
    # first, without the intermediate one, which for a 1x9000 line scaled to 4K would have 10^11 pixels.
    box_width, box_height = min(width / scale, old_width), min(height / scale, old_height)
    left_px, top_px = (old_width - box_width) / 2, (old_height - box_height) / 2
    box = (left_px, top_px, left_px + box_width, top_px + box_height)
    return np.array(Image.fromarray(picture).resize((width, height), Image.Resampling.LANCZOS, box=box))


def default_picture() -> Picture:
    """The input where none is given: the photograph coffee.png (CC0) from scikit-image's wheel, uint8 (400, 600, 3).

    Raises:
        UserError: this installation of scikit-image lacks the file.
    """
    return _shipped_picture("coffee.png")


def calibration_pictures() -> list[tuple[str, Picture]]:
    """Names and pictures, uint8 (H, W, 3) RGB, to measure activation ranges and frozen statistics on.

    Three photographs in the public domain or under CC0 from scikit-image's wheel; never the default picture.

    Raises:
        UserError: this installation of scikit-image lacks one of the files.
    """
    return [(f"scikit-image {name}", _shipped_picture(name)) for name in _CALIBRATION_FILES]


def held_back_pictures() -> list[tuple[str, Picture]]:
    """Names and pictures, uint8 (H, W, 3) RGB, to judge a calibration on that has not seen them.

    Two photographs from scikit-image's wheel, neither for calibration nor the default picture.

    Raises:
        UserError: this installation of scikit-image lacks one of the files.
    """
    return [(f"scikit-image {name}", _shipped_picture(name)) for name in _HELD_BACK_FILES]


def check_picture(picture: Picture) -> None:
    """Raises ValueError where this is no picture: uint8 (H, W, 3) with at least one pixel."""
    if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != "uint8" or picture.size == 0:
        raise ValueError(f"picture is {picture.shape} {picture.dtype}; expected (H, W, 3) uint8, at least one pixel")


def _reason(error: BaseException) -> str:
    strerror = error.strerror if isinstance(error, OSError) else None
    return (strerror or str(error) or type(error).__name__).rstrip(".")


def _stat(path: Path, noun: str = "picture") -> os.stat_result:
    try:
        return path.stat()
    except (OSError, ValueError) as error:  # ValueError: a name with a null character
        raise UserError(
            f"{noun} `{path}`: cannot be found ({_reason(error)})", f"a {noun} that exists", "Check the path"
        ) from None


def _check_file(path: Path) -> None:
    status = _stat(path)
    if stat.S_ISDIR(status.st_mode):
        raise UserError(f"picture `{path}`: is a folder", "one picture file", "Name a file in it")
    # A pipe or a device would block, or never end.
    if not stat.S_ISREG(status.st_mode):
        raise UserError(f"picture `{path}`: is not an ordinary file", _READABLE, "Save the picture to a file first")
    if status.st_size == 0:
        raise UserError(f"picture `{path}`: the file is empty (0 bytes)", _READABLE, "Copy it again")


def _too_large(path: Path, size: str) -> UserError:
    return UserError(
        f"picture `{path}`: too large, {size}", f"at most {MAX_MEGAPIXELS} megapixels", "Scale it down or cut it first"
    )


def _unreadable(path: Path, error: BaseException) -> UserError:
    # Only the operating system numbers its errors; those that Pillow makes up carry a text alone.
    if isinstance(error, OSError) and error.errno is not None:
        return UserError(
            f"picture `{path}`: cannot be read ({_reason(error)})", "a readable file", "Check its permissions"
        )
    return UserError(
        f"picture `{path}`: cannot be decoded, it may be truncated or damaged ({_reason(error)})",
        f"{_READABLE}, complete",
        "Copy it again or convert it to PNG",
    )


def _decoded(path: Path, image: Image.Image) -> Picture:
    """uint8 (H, W, 3) RGB; raises whatever Pillow raises, and UserError for what Pillow would accept."""
    import numpy as np

    image.load()
    # Pillow gives 16-bit PGM, and before 10.3 16-bit PNG, as mode I, which elsewhere means 32 bits.
    is_16_bit = image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM"))
    if image.mode in ("I", "F") and not is_16_bit:
        raise UserError(
            f"picture `{path}`: holds 32-bit grey values", "8 or 16 bits per value", "Convert it to 16-bit PNG"
        )
    upright = _upright(image)
    if not is_16_bit:
        return np.array(upright.convert("RGB"))
    # 257 is odd, so that v / 257 never lies half way and adding 128 rounds to the nearest.
    eight_bits = ((np.arange(65536) + 128) // 257).astype(np.uint8)
    return np.repeat(eight_bits[np.asarray(upright)][..., None], 3, axis=2)


def _upright(image: Image.Image) -> Image.Image:
    """The image turned as its EXIF orientation says (1 to 8, Exif 2.32 section 4.6.4 A).

    ImageOps.exif_transpose also rewrites the EXIF data, which costs a copy and fails on odd tags.
    """
    from PIL import ExifTags
    from PIL.Image import Transpose

    turn = {
        2: Transpose.FLIP_LEFT_RIGHT,
        3: Transpose.ROTATE_180,
        4: Transpose.FLIP_TOP_BOTTOM,
        5: Transpose.TRANSPOSE,
        6: Transpose.ROTATE_270,
        7: Transpose.TRANSVERSE,
        8: Transpose.ROTATE_90,
    }.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    return image if turn is None else image.transpose(turn)


def scratch_beside(path: Path) -> Path:
    """A new name beside `path` for what becomes it once whole; it says which process writes it."""
    return path.with_name(f".{os.getpid()}-{secrets.token_hex(8)}.tmp")


def is_abandoned(scratch: Path) -> bool:
    """Whether the process that a name of `scratch_beside` tells of is gone; False for every other name."""
    match = re.fullmatch(r"\.(\d{1,9})-[0-9a-f]{16}\.tmp", scratch.name)
    if not match:
        return False
    try:
        os.kill(int(match[1]), 0)
    except ProcessLookupError:
        return True
    except OSError:  # somebody else's, and alive
        return False
    return False


def replace_file(path: Path, content: memoryview) -> None:
    """Writes all of `content`, or leaves `path` as it was; lets OSError through."""
    # Not tempfile: its files are private to the user whatever the umask says.
    temporary = scratch_beside(path)
    try:
        with open(temporary, "xb") as file:
            file.write(content)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _shipped_picture(name: str) -> Picture:
    # find_spec does not import scikit-image, which would take a second.
    package = importlib.util.find_spec("skimage")
    folders = (package.submodule_search_locations if package else None) or ()
    for folder in folders:
        if (path := Path(folder, "data", name)).is_file():
            return read_picture(path)
    raise UserError(
        f"picture `{name}`: this installation of scikit-image does not hold it",
        f"skimage/data/{name}, as in scikit-image's wheels",
        "Give your own pictures with `--images FILE`",
    )
