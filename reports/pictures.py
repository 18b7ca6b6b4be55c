"""Pictures beside a runs file → small pictures for the page: overview, amplified difference, worst crop, SSIM map.

Names are those that `bench run --output` writes; only plain names inside the runs file's own folder are opened, since
the names follow from words in a file that may be a stranger's.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from bench.metrics import K1, K2, SIGMA_PX
from reports.answer import keeps
from reports.row import Row

CROP_PX = 128
OVERVIEW_PX = 640
TOTAL_BYTES = 6_000_000
"""Of all pictures of a page, as they stand in it."""
MOST_PIXELS = 40_000_000
FOLDERS = ("pictures", ".")
Pixels = NDArray[np.uint8]


class _UnusableError(Exception):
    """A picture that cannot be shown; says why."""


@dataclass(frozen=True)
class Shown:
    """One small picture."""

    label: str
    uri: str
    width: int
    height: int


@dataclass(frozen=True)
class PictureSet:
    """What is shown of one case."""

    row: Row
    overview: Sequence[Shown]
    """input, original and reference (if there are any), output: all of one size."""
    difference: Shown | None
    amplification: int
    crops: Sequence[Shown]
    crop_at: tuple[int, int]
    """Left and top in pixels of the output."""
    ssim_map: Shown | None
    note: str

    @property
    def size(self) -> int:
        """Bytes in the page; the two pictures of the slider stand in it a second time."""
        shown = [*self.overview, *self.crops, *(p for p in (self.difference, self.ssim_map) if p)]
        slid = [p for p in self.overview if p.label in ("reference", "output")] if self.difference else []
        return sum(len(picture.uri) for picture in (*shown, *slid))


@dataclass(frozen=True)
class Gallery:
    """All sets that fit, and the cases left out with their reasons."""

    sets: Sequence[PictureSet] = ()
    left_out: Sequence[tuple[str, str]] = field(default_factory=tuple)


def names(row: Row) -> dict[str, str]:
    """Kind → file name of the pictures of a case; the input and the reference are shared by all engines.

    Runs say them; for those written before they did, the names that were used then.
    """
    stored = row.run.get("picture_files")
    if isinstance(stored, dict):
        return {kind: name for kind, name in stored.items() if isinstance(name, str)}
    subject = f"{row.model}-{row.resolution}"
    engine = (row.variant, row.precision, row.statistics)
    output = "-".join(part for part in (row.model, row.resolution, *engine) if part)
    found = {"input": f"{subject}-input", "reference": f"{subject}-reference", "output": output}
    return {kind: f"{name.replace(':', '-')}.png" for kind, name in found.items()}


def collect(rows: Sequence[Row], folders: Sequence[Path], floor_db: float) -> Gallery:
    """Pictures of as many cases as fit into TOTAL_BYTES: those that keep the floor first, the fastest first.

    Args:
        folders: of the runs files, by the rows' `place`.
    """
    sets: list[PictureSet] = []
    left_out: list[tuple[str, str]] = []
    total = 0
    order = sorted((r for r in rows if r.ok), key=lambda r: (not keeps(r, floor_db), r.latency_ms or 0.0))
    for row in order:
        try:
            paths = find(row, folders[row.place])
            if "output" not in paths:
                continue
            if total > TOTAL_BYTES * 0.9:
                left_out.append((row.title, f"the page holds {TOTAL_BYTES / 1e6:.0f} MB of pictures at most"))
                continue
            made = picture_set(row, paths)
        except _UnusableError as error:
            left_out.append((row.title, str(error)))
            continue
        if total + made.size > TOTAL_BYTES:
            left_out.append((row.title, f"the page holds {TOTAL_BYTES / 1e6:.0f} MB of pictures at most"))
            continue
        sets.append(made)
        total += made.size
    return Gallery(sets, left_out)


def find(row: Row, folder: Path) -> dict[str, Path]:
    """Kind → file, of those that are there."""
    found = {}
    for kind, name in names(row).items():
        if name != Path(name).name or "\\" in name or name.startswith("."):
            continue
        places = [folder / below / name for below in FOLDERS]
        if path := next((place for place in places if _is_plain_file(place)), None):
            found[kind] = path
    return found


def _is_plain_file(path: Path) -> bool:
    """False too for a name that no file system can hold: too long, or with half a character."""
    try:
        return path.is_file() and not path.is_symlink()
    except (OSError, ValueError):
        return False


def picture_set(row: Row, paths: dict[str, Path]) -> PictureSet:
    """What is shown of a case.

    Raises:
        _UnusableError: a picture is broken, too large or of another size than the case says.
    """
    output = _read(paths["output"], (row.width, row.height))
    source = _read(paths["input"], _input_size(row)) if "input" in paths else None
    upscaled = source is not None and source.shape != output.shape
    beside = enlarged(source, (row.width, row.height)) if source is not None else None
    input_label = "input, bicubic" if upscaled else "input"
    overview = [_overview(input_label, beside)] if beside is not None else []
    if "reference" not in paths:
        note = "No reference picture beside the runs file: nothing to take the difference from."
        return PictureSet(row, [*overview, _overview("output", output)], None, 0, (), (0, 0), None, note)
    reference = _read(paths["reference"], (row.width, row.height))
    if "original" in paths:
        overview.append(_overview("original", _read(paths["original"], (row.width, row.height))))
    overview += [_overview("reference", reference), _overview("output", output)]
    difference = np.abs(output.astype(np.int16) - reference).astype(np.uint8)
    if not difference.any():
        note = "As 8-bit pictures reference and output are equal in every value."
        return PictureSet(row, overview, None, 0, (), (0, 0), None, note)
    factor = amplification(difference)
    left, top = worst_crop(difference)
    amplified = np.minimum(difference.astype(np.uint16) * factor, 255).astype(np.uint8)
    pictures = {"reference": reference, "output": output, f"difference × {factor}": amplified}
    crops = [_png(label, _cut(pixels, left, top)) for label, pixels in pictures.items()]
    if beside is not None:
        crops.insert(0, _png(input_label, _cut(beside, left, top)))
    shown = _overview(f"difference × {factor}", amplified)
    return PictureSet(row, overview, shown, factor, crops, (left, top), _map(reference, output), "")


def amplification(difference: Pixels) -> int:
    """The power of two, 1 to 64, that makes the difference visible and lets 99.9 % of its values stay below 255."""
    high = float(np.percentile(difference, 99.9)) or float(difference.max())
    factor = 64
    while factor > 1 and high * factor > 255:
        factor //= 2
    return factor


def worst_crop(difference: Pixels, side: int = CROP_PX) -> tuple[int, int]:
    """Left and top of the square with the largest sum of squared differences; (H, W, 3) uint8 in."""
    squares = np.square(difference.astype(np.float32)).sum(axis=2, dtype=np.float64)
    sums = np.zeros((squares.shape[0] + 1, squares.shape[1] + 1))
    np.cumsum(squares, axis=0, out=sums[1:, 1:])
    np.cumsum(sums[1:, 1:], axis=1, out=sums[1:, 1:])
    high, wide = min(side, squares.shape[0]), min(side, squares.shape[1])
    boxes = sums[high:, wide:] - sums[:-high, wide:] - sums[high:, :-wide] + sums[:-high, :-wide]
    top, left = np.unravel_index(int(boxes.argmax()), boxes.shape)
    return int(left), int(top)


def ssim_map(reference: Pixels, output: Pixels) -> NDArray[Any]:
    """(H, W) structural similarity of the luma of two (H, W, 3) uint8 pictures, at most 1.

    Source: Wang, Bovik, Sheikh, Simoncelli, 2004, equation 13; luma of ITU-R BT.601.
    """
    from scipy.ndimage import gaussian_filter

    weights = np.array([0.299, 0.587, 0.114], np.float32) / np.float32(255)
    x, y = (picture.astype(np.float32) @ weights for picture in (reference, output))

    def mean(a: NDArray[Any]) -> NDArray[Any]:
        return np.asarray(gaussian_filter(a, SIGMA_PX, truncate=3.5))

    mx, my = mean(x), mean(y)
    vx, vy, cov = mean(x * x) - mx * mx, mean(y * y) - my * my, mean(x * y) - mx * my
    c1, c2 = K1**2, K2**2
    return (2 * mx * my + c1) * (2 * cov + c2) / ((mx * mx + my * my + c1) * (vx + vy + c2))


def _map(reference: Pixels, output: Pixels) -> Shown:
    """What the luma's SSIM lacks to 1, amplified. It has no mean: the table's is of other planes, without border."""
    lack = np.clip(1 - ssim_map(reference, output), 0, 1)
    whole = (lack * 255).round().astype(np.uint8)
    factor = amplification(whole) if whole.any() else 64
    grey = (np.clip(lack * factor, 0, 1) * 255).round().astype(np.uint8)
    label = f"1 − SSIM of the luma × {factor}: white is {1 / factor:.2g} or more"
    return _overview(label, np.repeat(grey[:, :, None], 3, axis=2))


def _input_size(row: Row) -> tuple[int, int]:
    """Width and height of the picture that went in; the tensor may be larger, enlarged or padded."""
    stored = row.run["case"].get("input_picture")
    if isinstance(stored, list) and len(stored) == 2 and all(isinstance(side, int) for side in stored):
        return stored[0], stored[1]
    return row.input_shape[3], row.input_shape[2]


def _read(path: Path, size: tuple[int, int]) -> Pixels:
    try:
        with Image.open(path, formats=["PNG"]) as image:
            if image.width * image.height > MOST_PIXELS:
                raise _UnusableError(f"{path.name} has more than {MOST_PIXELS / 1e6:.0f} megapixels")
            if image.size != size:
                found = "x".join(map(str, image.size))
                raise _UnusableError(f"{path.name} is {found}, not {size[0]}x{size[1]}: of another run")
            return np.asarray(image.convert("RGB"))
    except UnidentifiedImageError as error:  # its words hold the whole path, which is nobody's business
        raise _UnusableError(f"{path.name} cannot be read: no PNG picture") from error
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        said = getattr(error, "strerror", None) or str(error)
        raise _UnusableError(f"{path.name} cannot be read: {said}") from error


def enlarged(pixels: Pixels, size: tuple[int, int]) -> Pixels:
    """The input as large as the output: enlarged by the network's whole factor, then cut at right and bottom.

    So does the worker with the network's output; stretching the input to the size itself would shift it against it.

    Args:
        size: width and height of the output.
    """
    image = Image.fromarray(pixels)
    factor = max(math.ceil(size[0] / image.width), math.ceil(size[1] / image.height))
    if image.size == size:
        return pixels
    if factor == 1:  # the output is smaller
        return np.asarray(image.resize(size, Image.Resampling.BICUBIC))
    large = image.resize((image.width * factor, image.height * factor), Image.Resampling.BICUBIC)
    return np.asarray(large.crop((0, 0, *size)))


def _cut(pixels: Pixels, left: int, top: int) -> Pixels:
    return pixels[top : top + CROP_PX, left : left + CROP_PX]


def _overview(label: str, pixels: Pixels) -> Shown:
    image = Image.fromarray(pixels)
    image.thumbnail((OVERVIEW_PX, OVERVIEW_PX), Image.Resampling.LANCZOS)
    return _shown(label, image, "JPEG", quality=85, optimize=True)


def _png(label: str, pixels: Pixels) -> Shown:
    return _shown(label, Image.fromarray(np.ascontiguousarray(pixels)), "PNG", optimize=True)


def _shown(label: str, image: Image.Image, kind: str, **options: object) -> Shown:
    data = io.BytesIO()
    image.save(data, kind, **options)
    text = base64.b64encode(data.getvalue()).decode()
    return Shown(label, f"data:image/{kind.lower()};base64,{text}", image.width, image.height)
