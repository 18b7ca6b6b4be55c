"""`bench apply`: pictures in, pictures out; a video in, a video out."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.arguments import add_choices, request_from_arguments
from bench.exit_codes import COULD_NOT_MEASURE, INTERRUPTED, OK
from bench.preparing import exported, fastest_engine, is_calibrated, limit_environment, only_one, tiling_for
from bench.terminal import console_for, progress_on
from reference_models.errors import UserError

if TYPE_CHECKING:
    from bench.apply_pictures import Applied, Work
    from bench.case import Case

ORDER = 20

DESCRIPTION = """\
Runs pictures, folders of pictures or a video through a network at their own size.

pictures  Output is 8-bit RGB: 16-bit input is reduced, alpha dropped, EXIF rotation applied. In a folder, NAME.jpg
          becomes NAME.png. What a folder holds already, made from the same file by the same network, weights and
          settings, is not made again: start the command once more after Ctrl-C or a full disk.
video     .mp4, .mkv, .mov, .webm or .avi, by the ending of --output; needs pip install 'fullres[video]'. Audio is
          copied bit by bit; time stamps, colour matrix and range stay as they are; rotated frames come out upright.
"""
EPILOG = """\
examples:
  bench apply --model can24 --weights l0.safetensors --input photo.jpg --output smoothed.png
  bench apply --model can24 --weights l0.safetensors --input photos/ --output smoothed/
  bench apply --model espcn_x2 --input clip.mp4 --output larger.mp4
  bench apply --model can24 --weights l0.safetensors --statistics frozen --input clip.mov --output out.mkv --crf 14

exit codes: 0 all done, 2 wrong use, 5 some pictures or frames failed (each is named, the others are there),
130 interrupted (whole files only are left; of a video what was made so far, as NAME.partial.ENDING)
"""


def add(commands: Any) -> None:
    parser = commands.add_parser(
        "apply",
        help="pictures or a video in, pictures or a video out",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--input", required=True, metavar="FILE|DIR", help="a picture, a folder of pictures, a video")
    parser.add_argument(
        "--output", required=True, metavar="FILE|DIR", help="PNG or JPEG; a folder for a folder; a video for a video"
    )
    parser.add_argument(
        "--again", action="store_true", help="make every picture of a folder, also those that are there already"
    )
    add_choices(parser, many=False)
    parser.add_argument(
        "--style", metavar="FILE", help="a picture whose style the global branch takes (colorization), not the input's"
    )
    video = parser.add_argument_group("video (docs/deploy.md)")
    video.add_argument(
        "--codec",
        metavar="C",
        help="h264 (default), hevc, av1, vp9 (default of .webm), or ffv1, which loses nothing (.mkv, .avi)",
    )
    video.add_argument(
        "--crf", type=int, metavar="N", help="lower is better and larger; default: 18 for h264, 20 hevc, 24 av1, vp9"
    )
    video.add_argument("--audio", default="copy", metavar="HOW", help="copy (default), or off for a video without")
    parser.set_defaults(command=_apply)


def _apply(arguments: argparse.Namespace) -> int:
    import engines
    from bench.apply_pictures import Work
    from bench.case import expand
    from bench.places import check_calibration

    if not arguments.engine:
        arguments.engine = fastest_engine(arguments.device, arguments.precision)
    cases, left_out = expand(request_from_arguments(arguments, ["320p"]))
    only_one(cases, left_out)
    case = cases[0]
    _check_style(case, arguments.style)
    run = _checked(case, arguments)
    check_calibration(arguments.calibration, is_calibrated(case))
    if not case.trained:
        print(f"bench: {case.model} is untrained: give --weights, or the pictures mean nothing", file=sys.stderr)
    with progress_on(console_for(stderr=True)) as reporter:
        network = exported(case, arguments.calibration, reporter, arguments.style)
        job = {
            "spec": case.spec.to_json(),
            "network": network,
            **{key: getattr(case, key) for key in ("engine", "device", "precision", "threads", "tile", "memory_mib")},
            "settings": dict(case.settings),
            "tiling": tiling_for(case, network, reporter),
        }
        environment = engines.get(case.engine).environment(case.settings) | limit_environment(case.memory_mib)
        return run(Work(job, environment, reporter))


def _checked(case: Case, arguments: argparse.Namespace) -> Any:
    """A function of the Work that does it and returns the exit code; input, output and options have been checked.

    Raises:
        UserError: wrong use.
    """
    from bench.places import picture_pairs
    from bench.video.choices import checked_video, is_video, refuse_video_options

    if case.spec.input == "noise":
        raise UserError(
            f"`--model {case.model}`: makes pictures of noise, and of `--input` would take the size alone",
            "a network that takes pictures",
            "`bench models` lists them",
        )
    source, target = Path(arguments.input), Path(arguments.output)
    if is_video(source) or is_video(target):
        video = checked_video(source, target, arguments, case.spec)
        return lambda work: _apply_to_video(work, video, case)
    refuse_video_options(arguments)
    pairs = picture_pairs(source, target)
    return lambda work: _apply_to_pictures(work, pairs, case, arguments)


def _apply_to_pictures(work: Work, pairs: list[tuple[str, str]], case: Case, arguments: argparse.Namespace) -> int:
    from bench.apply_pictures import apply_to_pictures, manifest_for
    from bench.places import subfolders

    output = Path(arguments.output)
    place = manifest_for(output, work.job, arguments.again) if output.is_dir() else None
    applied = apply_to_pictures(work, pairs, place)
    for source, reason in applied.failed:
        print(f"bench: {source}: {reason}", file=sys.stderr)
    if inner := subfolders(Path(arguments.input), output):
        more = f" and {len(inner) - 1} more" if inner[1:] else ""
        print(
            f"bench: folders in {arguments.input} are left out: {inner[0]}{more}; give each by itself", file=sys.stderr
        )
    print(_summary(applied, f"{arguments.output} ({_case_words(case)})"))
    if applied.stopped == "interrupted":
        raise KeyboardInterrupt
    if applied.stopped:
        print(f"bench: stopped: {applied.stopped}. Make room and run the same command again", file=sys.stderr)
    return COULD_NOT_MEASURE if applied.failed or applied.stopped else OK


def _summary(applied: Applied, where: str) -> str:
    done = f"{applied.done + applied.kept} of {applied.asked} pictures → {where}"
    kept = f"; {applied.kept} were there already (--again makes them anew)" if applied.kept else ""
    return done + kept + (f"; {applied.rate}" if applied.rate else "")


def _apply_to_video(work: Work, video: dict[str, Any], case: Case) -> int:
    from bench.apply_video import apply_to_video

    outcome = apply_to_video(work, video)
    for line in outcome.faults:
        print(f"bench: {line}", file=sys.stderr)
    print(f"{outcome.summary} ({_case_words(case)})")
    for line in outcome.notes:
        print(f"  {line}")
    if outcome.interrupted:
        print("bench: interrupted", file=sys.stderr)
        return INTERRUPTED
    return COULD_NOT_MEASURE if outcome.faults else OK


def _case_words(case: Case) -> str:
    tile = "" if case.tile == "off" else f"tile {case.tile}"
    weights = "" if case.spec.is_own else Path(case.weights_name).stem
    return " ".join(filter(None, (case.model, weights, case.variant, case.precision, case.statistics, tile)))


def _check_style(case: Case, style: str | None) -> None:
    from reference_models.pictures import read_picture

    if style is None:
        return
    if not case.spec.style:
        raise UserError(
            f"`--style {style}`: model `{case.model}` has no global branch", "a model that has one", "Leave it out"
        )
    read_picture(style)
