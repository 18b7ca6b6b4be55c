"""Paths → a written report, or a comparison to print: what the command line calls. Parses no words, prints nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import store
from reference_models.errors import UserError
from reports.answer import FLOOR_DB
from reports.comparison import MARGIN, Comparison, compare_rows
from reports.row import Against, Row, row_from_run


@dataclass(frozen=True)
class ReportResult:
    """What was written."""

    index: Path
    summary: Path
    figures: Sequence[Path]
    verdict: str
    """The first line of the summary, as Markdown."""
    size_bytes: int
    """Of index.html."""
    runs: int


def load_rows(paths: Sequence[str | Path], against: Against = "reference") -> list[Row]:
    """The checked rows of all files in the order given; a run that several files hold counts once, as the last says.

    Raises:
        UserError: a file is not a runs file, or a run holds something else than it must.
    """
    found: dict[str, Row] = {}
    for place, path in enumerate(map(Path, paths)):
        for run in store.load(path):
            found.pop(run["id"], None)
            try:
                found[run["id"]] = row_from_run(run, path.name, place, against)
            except UserError as error:
                raise UserError(f"{path}: {error.what}", error.expected, error.todo) from None
    return list(found.values())


def compare_files(
    a: Sequence[str | Path],
    b: Sequence[str | Path],
    margin: float = MARGIN,
    across_machines: bool = False,
    against: Against = "reference",
) -> Comparison:
    """The comparison of two groups of runs files.

    Raises:
        UserError: as `load_rows`; or the margin is no share between 0 and 1.
    """
    _check_margin(margin)
    names = (_names(a), _names(b))
    if names[0] == names[1]:
        names = (", ".join(map(str, a)), ", ".join(map(str, b)))
    return compare_rows(load_rows(a, against), load_rows(b, against), names, margin, across_machines)


def _check_margin(margin: float) -> None:
    if not 0 < margin < 1:
        raise UserError(f"`--margin {margin:g}`: out of range", "a share between 0 and 1, such as 0.05", "Try 0.05")


def _names(paths: Sequence[str | Path]) -> str:
    return ", ".join(Path(path).name for path in paths)


def write_report(
    paths: Sequence[str | Path],
    output: str | Path,
    *,
    floor_db: float = FLOOR_DB,
    against: Against = "reference",
    baseline: str | Path | None = None,
    margin: float = MARGIN,
    across_machines: bool = False,
    picture_folder: str | Path | None = None,
) -> ReportResult:
    """Writes OUTPUT/index.html, OUTPUT/summary.md and OUTPUT/figures; what an earlier report left there is replaced.

    Args:
        floor_db: PSNR that an answer must keep.
        against: what that PSNR is against: the FP32 reference, or the original operator or picture.
        baseline: a runs file that those of `paths` are compared with. Without it two files are compared with each
            other where they hold like cases.
        picture_folder: where the pictures of the runs are; default: beside each runs file, and in its `pictures`.

    Raises:
        UserError: a file that cannot be read, a run that is none, or a folder that cannot be written.
    """
    from reports import pictures, plots
    from reports.answer import latest
    from reports.page import page
    from reports.report import Report
    from reports.summary import summary

    _check_margin(margin)
    if not -100 < floor_db < 1000:
        raise UserError(f"`--floor {floor_db:g}`: out of range", "dB of PSNR, such as 45", "Try 45")
    rows = load_rows(paths, against)
    if against == "original" and all(row.original_db is None for row in rows):
        raise UserError(
            "`--against original`: no run was judged against an original",
            "runs of a network with its operator or its true picture",
            "Leave it out: the FP32 reference counts then",
        )
    comparison = _comparison(paths, baseline, margin, across_machines, against)
    folder = _folder(Path(output))
    counts = [(Path(path).name, sum(row.place == place for row in rows)) for place, path in enumerate(paths)]
    newest = latest(rows)
    folders = [Path(picture_folder) if picture_folder else Path(path).resolve().parent for path in paths]
    report = Report(
        rows=rows,
        files=counts,
        figures=plots.draw(rows),
        comparison=comparison,
        gallery=pictures.collect(newest, folders, floor_db),
        floor_db=floor_db,
    )
    text, words = page(report), summary(report)
    files: dict[Path, str | bytes] = {folder / "index.html": text, folder / "summary.md": words}
    drawings = _drawings(folder / "figures", report.figures)
    _write(files | drawings, folder / "figures")
    verdict = words.partition("\n")[0]
    return ReportResult(
        folder / "index.html", folder / "summary.md", list(drawings), verdict, len(text.encode()), len(rows)
    )


def _comparison(
    paths: Sequence[str | Path], baseline: str | Path | None, margin: float, across_machines: bool, against: Against
) -> Comparison | None:
    if baseline is not None:
        return compare_files([baseline], paths, margin, across_machines, against)
    if len(paths) != 2:
        return None
    found = compare_files([paths[0]], [paths[1]], margin, across_machines, against)
    return found if found.pairs else None


def _drawings(folder: Path, figures: Mapping[str, object]) -> dict[Path, str | bytes]:
    from reports.plots import Figure

    found: dict[Path, str | bytes] = {}
    for name, figure in figures.items():
        assert isinstance(figure, Figure)
        found[folder / f"{name}.svg"] = figure.file
        found |= {folder / f"{name}{suffix}.png": data for suffix, data in figure.pngs.items()}
    return found


def _folder(path: Path) -> Path:
    """The folder, made where it is missing; checked before the first slow step."""
    try:
        (path / "figures").mkdir(parents=True, exist_ok=True)
        return path
    except OSError as error:
        raise UserError(
            f"`--output {path}`: {error.strerror}", "a folder that can be written", "Choose another"
        ) from error


def _write(files: Mapping[Path, str | bytes], drawings: Path) -> None:
    from reports.plots import FIGURES, SUFFIXES

    ends = (".svg", *(f"{suffix}.png" for suffix in SUFFIXES))
    known = [drawings / f"{name}{end}" for name in FIGURES for end in ends]
    try:
        for path in known:
            if path not in files:
                path.unlink(missing_ok=True)  # of an earlier report: it would pass for one of this
        for path, content in files.items():
            path.write_bytes(content.encode() if isinstance(content, str) else content)
    except OSError as error:
        raise UserError(
            f"{error.filename}: {error.strerror}", "a folder that can be written", "Choose another"
        ) from error
