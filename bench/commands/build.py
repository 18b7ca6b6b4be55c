"""`bench build`: writes what an engine runs, and beside it a file that says all one needs to run it."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.arguments import (
    PRECISION_HELP,
    add_lowering,
    add_model,
    add_network,
    add_settings,
    option_words,
    split_words,
)
from bench.exit_codes import OK, REGRESSION
from bench.layers import write_found_layers
from bench.preparing import exported, for_engine, is_calibrated, only_one, refuse_thumbnail, told
from bench.terminal import console_for, progress_on
from export.lowering_words import lowering_in_words
from reference_models.errors import UserError

if TYPE_CHECKING:
    from bench.bundle import Bundle
    from bench.case import Case
    from engines.sidecar import Deployment

ORDER = 35


def add(commands: Any) -> None:
    parser = commands.add_parser(
        "build",
        help="write the plan that an engine runs, with a sidecar FILE.json",
        description="tensorrt_rtx builds on any machine, tensorrt on the GPU that will run the plan; for onnxruntime "
        "and openvino the plan is the ONNX file. --bundle writes a folder that needs neither this package nor torch.",
        epilog="example:\n  bench build --model can32 --engine tensorrt_rtx --res 1080p --output can32.plan\n"
        "  bench build --model espcn_x2 --engine onnxruntime --bundle espcn_x2/",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_model(parser)
    parser.add_argument("--engine", required=True, metavar="E", help="tensorrt_rtx, tensorrt, onnxruntime or openvino")
    parser.add_argument("--precision", default="fp32", metavar="P", help=PRECISION_HELP)
    parser.add_argument(
        "--res",
        metavar="R[,...]",
        help="sizes of the output that the plan takes and is tuned for: 1080p, WIDTHxHEIGHT; one profile each",
    )
    parser.add_argument(
        "--dynamic",
        action="store_true",
        help="one profile from the smallest input to the largest --res, tuned for the first",
    )
    add_network(parser, many=False)
    add_lowering(parser)
    add_settings(parser)
    parser.add_argument("--output", metavar="FILE", help="the plan; FILE.json beside it says all one needs to run it")
    parser.add_argument(
        "--bundle",
        metavar="DIR",
        help="in place of --output: a folder with the model on uint8 pictures, its sidecar, an example, and a "
        "repository for Triton Inference Server (onnxruntime, openvino; tensorrt: the plan and the repository)",
    )
    parser.add_argument(
        "--check",
        metavar="DB",
        help="runs the plan and, without optimisations, its graph in ONNX Runtime on a photograph (Polygraphy); below "
        "this PSNR between the two, such as 40dB, exit code 3",
    )
    parser.set_defaults(command=_build)


def _build(arguments: argparse.Namespace) -> int:
    from bench.building import copy_whole
    from bench.bundle import Bundle
    from bench.picture_plan import asked
    from bench.spawn import JobFailed, run_job
    from engines.sidecar import sidecar_path
    from export.network import Network

    cases, engine, settings = _checked(arguments)
    case = cases[0]
    sizes = _sizes(cases, arguments.dynamic, engine, asked(settings))
    with progress_on(console_for(stderr=True)) as reporter:
        network = exported(case, arguments.calibration, reporter)
        job = {
            "job": "build",
            "engine": engine,
            "precision": arguments.precision,
            "settings": settings,
            "network": network,
            "spec": case.spec.to_json(),
            "size_multiple": case.spec.size_multiple,
            "profiles": [[size["least"], size["tuned"], size["most"]] for size in sizes],
        }
        with reporter.stage(f"build {case.model} for {engine}", 1.0) as show:
            try:
                built = run_job(job, None, lambda event: show(event.get("share", 0.0), _remaining(event)))
            except JobFailed as failure:
                raise told(failure) from None
        deployed = _deployment(case, (engine, arguments.precision, settings, sizes), built)
        if arguments.bundle:
            return _write_bundle(Bundle(Path(arguments.bundle), Network.from_json(network), deployed, built["path"]))
    target = Path(arguments.output)
    copy_whole(Path(built["path"]), target)
    beside = _write_sidecar(target, built["network"], deployed)
    for line in _summary(target, sidecar_path(target), beside):
        print(line)
    if layers := write_found_layers(target, Network.from_json(network)):
        print(f"  {layers}: its layers; `--layers` reads it")
    return _check(arguments, case, target, Network.from_json(network)) if arguments.check else OK


def _check(arguments: argparse.Namespace, case: Case, target: Path, network: Any) -> int:
    """The exit code after running the plan against its graph."""
    import tempfile

    import numpy as np

    from bench.arguments import decibels
    from bench.checking import environment, in_words
    from bench.spawn import JobFailed, run_job
    from reference_models.colour import tensor_from_picture
    from reference_models.pictures import default_picture, fit_picture

    floor_db = decibels(arguments.check, "--check")
    with tempfile.TemporaryDirectory() as folder, progress_on(console_for(stderr=True)) as reporter:
        path = str(Path(folder) / "x.npy")
        np.save(path, tensor_from_picture(fit_picture(default_picture(), *case.input_size), case.spec))
        job = {"job": "check", "engine": arguments.engine, "plan": str(target), "onnx": network.main.onnx_path}
        with reporter.stage(f"check {target.name}"):
            try:
                found = run_job({**job, "input": path, "floor_db": floor_db}, environment(arguments.engine))
            except JobFailed as failure:
                raise told(failure) from None
    print(f"  {in_words(found, floor_db)}")
    return OK if found["passed"] else REGRESSION


def _checked(arguments: argparse.Namespace) -> tuple[list[Case], str, dict[str, str]]:
    """Cases of one network, one per resolution, the engine's name and all its settings; nothing slow has been done.

    Raises:
        UserError: wrong use.
    """
    import engines
    from bench.building import ONNX_ENGINES, check_can_build
    from bench.bundle import check_bundle
    from bench.case import Request, expand, parse_settings
    from bench.places import check_calibration, check_output_file

    # `E:NAME=VALUE`, as bench run takes it.
    arguments.engine, *own = arguments.engine.split(":")
    arguments.settings = [*arguments.settings, *(f"{arguments.engine}.{setting}" for setting in own)]
    engine = engines.get(arguments.engine)
    _check_place(arguments)
    check_can_build(engine.name)
    refuse_thumbnail(arguments.statistics)
    precisions = engine.precisions["cpu" if engine.name in ONNX_ENGINES else "cuda"]
    if arguments.precision not in precisions:
        raise UserError(
            f"`--precision {arguments.precision}`: not a precision of plans for {engine.name}",
            ", ".join(precisions),
            "Choose one of these",
        )
    if engine.name in ONNX_ENGINES and (arguments.res or arguments.dynamic):
        raise UserError(f"`--res` with {engine.name}: its ONNX file takes any size", "no size", "Leave it out")
    if engine.name not in ONNX_ENGINES and not arguments.res:
        raise UserError(f"`--engine {engine.name}`: its plans are for sizes", "`--res 1080p` or others", "Add --res")
    if arguments.output and engine.name in ONNX_ENGINES and Path(arguments.output).suffix != ".onnx":
        raise UserError(f"`--output {arguments.output}`: not an ONNX file's name", "FILE.onnx", "Change the ending")
    if arguments.check:
        if arguments.bundle:
            raise UserError("`--check` with --bundle: it is compared with its graph anyway", "--output", "Drop --check")
        from bench.arguments import decibels
        from bench.checking import check_can_check

        decibels(arguments.check, "--check")
        check_can_check(engine.name, arguments.precision)
    given = parse_settings(arguments.settings)
    for name in given.keys() - {engine.name}:
        raise UserError(f"`--set {name}.…`: engine `{name}` is not part of this command", engine.name, "Drop it")
    if arguments.output:
        check_output_file(Path(arguments.output), "--output")
    request = Request(
        [arguments.model], split_words(arguments.res) or ["320p"], ["onnxruntime"],
        statistics=split_words(arguments.statistics), device="cpu", weights=arguments.weights,
        options=option_words(arguments),
    )  # fmt: skip
    cases = [for_engine(case, arguments) for case in expand(request)[0]]
    only_one(list({(case.model, case.statistics): case for case in cases}.values()), ())
    check_calibration(arguments.calibration, is_calibrated(cases[0]))
    if arguments.bundle:
        check_bundle(Path(arguments.bundle), engine.name, cases[0].spec)
    settings = engine.complete_settings(given.get(engine.name, {}))
    _check_ends(arguments, cases[0], settings)
    return cases, engine.name, settings


def _check_ends(arguments: argparse.Namespace, case: Case, settings: Mapping[str, str]) -> None:
    """Whether a plan on pictures, where one is asked for, can be made of this network."""
    from bench.picture_plan import asked, refusal

    if not asked(settings):
        return
    word = f"`--set {arguments.engine}.ends=picture`"
    if reason := refusal(case.spec, case.statistics, "off"):
        raise UserError(f"{word}: {reason}", "ends=tensors", "Leave it out: engines.load takes pictures anyway")
    if arguments.check or arguments.bundle:
        option = "--check" if arguments.check else "--bundle"
        expected = f"ends=tensors, or no {option}"
        raise UserError(f"{word} with {option}: {option} takes plans on tensors only", expected, "Leave one out")


def _check_place(arguments: argparse.Namespace) -> None:
    if bool(arguments.output) == bool(arguments.bundle):
        given = "both --output and --bundle" if arguments.output else "no --output"
        raise UserError(f"`bench build`: {given}", "--output FILE or --bundle DIR", "Give one of the two")


def _sizes(cases: Sequence[Case], dynamic: bool, engine: str, on_pictures: bool) -> list[dict[str, Any]]:
    """Per optimisation profile its resolution and (height, width) of what goes in, tensor or picture; nothing for ONNX
    engines."""
    from bench.building import ONNX_ENGINES

    if engine in ONNX_ENGINES:
        return []
    inputs = [list(case.input_size[::-1] if on_pictures else case.input_shape[2:]) for case in cases]
    if not dynamic:
        return [
            {"resolution": case.resolution, "least": size, "tuned": size, "most": size}
            for case, size in zip(cases, inputs, strict=True)
        ]
    least = [1, 1] if on_pictures else list(cases[0].spec.tensor_size(1, 1))
    most = [max(size[axis] for size in inputs) for axis in (0, 1)]
    return [{"resolution": cases[0].resolution, "least": least, "tuned": inputs[0], "most": most}]


def _remaining(event: Mapping[str, Any]) -> str:
    """Phase, and an estimate of what is left once a tenth is done; before, a guess would be nothing else."""
    share = event.get("share", 0.0)
    phase = str(event.get("phase", ""))
    if not 0.1 <= share < 1:
        return phase
    return f"{phase}, about {event['seconds'] * (1 - share) / share:.0f} s left"


def _deployment(
    case: Case, chosen: tuple[str, str, Mapping[str, str], Sequence[Mapping[str, Any]]], built: Mapping[str, Any]
) -> Deployment:
    from engines.sidecar import Deployment

    engine, precision, settings, sizes = chosen
    return Deployment(
        case.spec, case.weights, engine, built["versions"]["engine"], precision, settings, sizes,
        {k: v for k, v in built["versions"].items() if k != "engine"}, built["facts"],
    )  # fmt: skip


def _write_sidecar(target: Path, network: str, deployed: Deployment) -> dict[str, Any]:
    from engines.sidecar import sidecar, sidecar_path
    from engines.trt.plans import write_whole
    from export.network import Network

    content = sidecar(target, Network.from_json(network), deployed)
    try:
        write_whole(sidecar_path(target), json.dumps(content, indent=2).encode())
    except OSError as error:
        raise UserError(f"`{sidecar_path(target)}`: {error.strerror}", "a writable file", "Choose another") from None
    return content


def _write_bundle(bundle: Bundle) -> int:
    from bench.bundle import summary, write_bundle
    from bench.spawn import JobFailed, run_job

    try:
        content = write_bundle(bundle, run_job)
    except JobFailed as failure:
        raise told(failure) from None
    for line in summary(bundle.folder, content):
        print(line)
    return OK


def _size(count: int) -> str:
    return f"{count / 2**20:.1f} MiB" if count >= 2**20 else f"{count / 2**10:.0f} KiB"


def _summary(target: Path, beside: Path, content: Mapping[str, Any]) -> list[str]:
    model, engine, build = content["model"], content["engine"], content["build"]
    weights = model["weights"] or ("its own" if model["trained"] else "untrained")
    found = "found in the cache" if build.get("cached") else f"built in {build.get('seconds', 0):.1f} s"
    if not content["sizes"]:
        found = "an ONNX file, which the engine reads itself"
    version = f" ({engine['version']})" if engine["version"] else ", which is not installed here"
    lines = [
        f"{target}: {model['title']} for {engine['name']}{version}, {content['precision']}, weights "
        f"{weights}, statistics {model['statistics'] or 'none'}",
        f"  {_size(content['plan']['bytes'])}, {found}; sha256 {content['plan']['sha256']}",
    ]
    lines += [f"  {line}" for line in lowering_in_words(content["lowering"])]
    for size in content["sizes"]:
        least, tuned, most = (f"{size[key][1]}x{size[key][0]}" for key in ("least", "tuned", "most"))
        takes = tuned if least == most else f"{least} to {most}, tuned for {tuned}"
        lines.append(f"  {size['resolution']}: inputs of {takes}")
    lines.append(f"  {beside}: what one needs to run it")
    return lines
