"""`bench export`: writes a network as ONNX."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from bench.arguments import PRECISION_HELP, add_lowering, add_model, add_network, option_words, split_words
from bench.commands.models import ends_in_words
from bench.exit_codes import OK
from bench.layers import write_found_layers
from bench.preparing import exported, for_engine, is_calibrated, only_one, refuse_thumbnail
from bench.terminal import console_for, progress_on
from export.lowering_words import lowering_in_words
from reference_models.errors import UserError

ORDER = 30


def add(commands: Any) -> None:
    parser = commands.add_parser("export", help="write a network as ONNX, with dynamic height and width")
    add_model(parser)
    parser.add_argument("--precision", default="fp32", metavar="P", help=PRECISION_HELP)
    parser.add_argument(
        "--engine",
        metavar="E",
        default="tensorrt",
        help="who will run it: decides where Q/DQ pairs stand (default: tensorrt, which OpenVINO takes too)",
    )
    add_network(parser, many=False)
    add_lowering(parser)
    parser.add_argument("--output", required=True, metavar="FILE.onnx")
    parser.set_defaults(command=_export)


def _export(arguments: argparse.Namespace) -> int:
    from bench.case import Request, expand
    from bench.places import check_calibration, check_output_file

    refuse_thumbnail(arguments.statistics)
    target = Path(arguments.output)
    if target.suffix != ".onnx":
        raise UserError(f"`--output {target}`: not an ONNX file's name", "FILE.onnx", "Change the ending")
    check_output_file(target, "--output")
    request = Request(
        [arguments.model], ["320p"], ["onnxruntime"], statistics=split_words(arguments.statistics),
        device="cpu", weights=arguments.weights, options=option_words(arguments),
    )  # fmt: skip
    cases = [for_engine(case, arguments) for case in expand(request)[0]]
    only_one(cases, ())
    check_calibration(arguments.calibration, is_calibrated(cases[0]))
    import onnx

    from export.network import Network, file_sha256

    with progress_on(console_for(stderr=True)) as reporter:
        network = Network.from_json(exported(cases[0], arguments.calibration, reporter))
    spec, weights = cases[0].spec, cases[0].weights_name
    model = onnx.load(network.main.onnx_path)
    facts = {"model": spec.title, "statistics": network.statistics or "none", **ends_in_words(spec)}
    facts |= {"weights": Path(weights).name, "source": spec.source, "precision": network.precision}
    onnx.helper.set_model_props(model, facts)
    scratch = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        onnx.save(model, scratch)
        os.replace(scratch, target)  # a full disk leaves the old file as it was
    except OSError as error:
        scratch.unlink(missing_ok=True)
        raise UserError(f"`--output {target}`: {error.strerror}", "a writable file", "Choose another") from None
    print(
        f"{target}: {spec.title}, weights {weights}, statistics {network.statistics or 'none'}, "
        f"{network.precision}, opset {network.opset}"
    )
    for line in lowering_in_words(network.lowering):
        print(f"  {line}")
    if layers := write_found_layers(target, network):
        print(f"  {layers}: its layers; `--layers` reads it")
    if network.precision != arguments.precision:
        print(f"  {arguments.precision}: {arguments.engine} makes it of this FP32 graph itself")
    print(f"  input x (1, {spec.input_planes}, H, W) float32; output y, not clipped")
    for name, text in ends_in_words(spec).items():
        print(f"  {name}: {text}")
    against = "the file that was given" if spec.onnx else "torch"
    against = f"{against} before it was lowered" if network.lowering else against
    print(f"  checked by onnx and against {against}; sha256 {file_sha256(target)}")
    return OK
