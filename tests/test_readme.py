"""What the documents show is true: every command is run, every link leads somewhere, the set-up is what CI runs.

A command is run as written, but small: each of its options has a rule below that says what stands in for its value. An
option without a rule fails, so that no new command slips in untested.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import bench.run
import engines
from bench import store
from bench.cli import _parser, main
from engines.installed import cuda_device_count

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
SETUP = "python3 -m venv .venv && .venv/bin/"
FIRST = SETUP + "pip install . && .venv/bin/bench run --model can32 --res 1440p"
TESTING = SETUP + "pip install '.[test]' && .venv/bin/pytest"
COMMAND = re.compile(r"(bench|pip|pytest|python3?|bash|ruff|mypy)\b")


def blocks(text: str) -> list[tuple[str, str]]:
    """(language, content) of every fenced block."""
    return re.findall(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def shell_lines(text: str) -> list[str]:
    """Commands in fenced shell blocks, without their comments."""
    content = "\n".join(body for language, body in blocks(text) if language in {"sh", "bash", "console", "shell"})
    return [line.partition(" #")[0].strip() for line in content.splitlines() if line.strip()]


def inline_commands(text: str) -> list[str]:
    """Commands of two words or more in inline code, and those that an HTML comment asks a table of."""
    outside = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    found = re.findall(r"`([^`\n]+)`", outside) + re.findall(r"<!-- table: (.+?) -->", outside)
    return [word for word in found if COMMAND.match(word) and " " in word]


def commands() -> list[str]:
    """Every command of every document, each once."""
    found = []
    for path in DOCUMENTS:
        found += shell_lines(path.read_text()) + inline_commands(path.read_text())
    return list(dict.fromkeys(found))


BENCH = [line for line in commands() if line.startswith("bench ") and re.search(r" --(?!help)\w|\.json| list", line)]
NAMED = [line for line in commands() if line.startswith("bench ") and line not in BENCH]
"""Commands that a text only names, without anything to do."""
OTHERS = {
    FIRST: "its parts are tested below, the whole of it by a slow test",
    TESTING: "its parts are tested below; .ci/run runs it as it stands",
    "python3 -m venv .venv && .venv/bin/pip install -e '.[test]'": "the same in editable form; its extra is tested",
    "pip install -e '.[test,browser]'": "needs a browser beside it",
    "pytest -m slow tests/reports/test_page.py": "some of the slow tests, which need a browser",
    "python espcn/example.py photo.npy result.npy": "tests/bench/test_bundle.py runs the file, with the runtime alone",
    "bash .ci/run": "is what runs these tests; its parts are tested below",
    "pytest -m slow tests/bench/test_applying.py -s": "one of the slow tests",
    "pytest -m slow tests/bench/video/test_job.py -s": "one of the slow tests",
    "pytest -m slow tests/test_registry_tiles.py -s": "one of the slow tests",
    "python -m bench.memory_fit ENGINE[:PRECISION] NETWORK.onnx SIZE[/TILE] …": "shows its form, not a command",
    "pytest -m slow": "these tests themselves; its marker is tested below",
    "pytest -m slow tests/bench/test_ab.py -s": "some of the slow tests; they measure 60 processes",
    "pytest -m slow tests/test_kills.py": "some of the slow tests; they kill 50 runs",
    "pytest -k tensorrt_builds_every_network": "some of these tests",
    "pip install '.[test,plugins,cuda]'": "extras that others install one by one, for a machine with a GPU",
    "bash .ci/gpu results/": "needs a GPU; tests/test_gpu_script.py runs it with a stand-in for Python",
    "pytest -m gpu": "these tests themselves; its marker is tested below",
    "pytest -m gpu tests/engines/test_tensorrt.py -k picture_that_a_shuffle_ends": "needs a GPU and TensorRT",
    "pip install tensorrt-lean-cu13": "96 MB that need a GPU; a slow test looks its names up",
}
"""Commands that are not `bench`, with the reason why they are not run here."""
INSTALL = re.compile(r"pip install '?\.\[([\w-]+)\]'?")


def test_the_documents_show_commands() -> None:
    assert len(BENCH) >= 8
    assert FIRST in commands()
    assert TESTING in commands()


def test_every_other_command_has_a_reason_or_installs_an_extra() -> None:
    unknown = [c for c in commands() if c not in [*BENCH, *NAMED, *OTHERS] and not INSTALL.fullmatch(c)]
    assert unknown == []
    assert set(OTHERS) <= set(commands()), "a reason for a command that no document shows any more"


# The commands of `bench`


@pytest.fixture(scope="module")
def stand_ins(tmp_path_factory: pytest.TempPathFactory, checkpoint: str) -> dict[str, str]:
    """Small files in place of those that the documents name."""
    import torch
    from safetensors.torch import save_file

    from reference_models import create_model

    folder = tmp_path_factory.mktemp("documents")
    (folder / "photos").mkdir()
    (folder / "maps").mkdir()
    for number, name in enumerate(("a.png", "b.jpg")):
        noise = np.random.default_rng(number).integers(0, 256, (40, 50, 3), np.uint8)
        Image.fromarray(noise).save(folder / "photos" / name)
        Image.fromarray(noise[..., 0] % 21).save(folder / "maps" / f"{Path(name).stem}.png")
    with contextlib.suppress(ImportError):
        _write_clip(folder / "clip.mp4")
    torch.manual_seed(0)
    state = {k: v + 0.02 * torch.randn_like(v) for k, v in create_model("can24").state_dict().items()}
    save_file(state, folder / "weights.safetensors")
    words = ["run", "--model", "can24", "--res", "64x48", "--engine", "null:delay_ms=2", "--processes", "5"]
    assert main([*words, "--budget", "0.5", "--json", str(folder / "before.json")]) == 0
    document = json.loads((folder / "before.json").read_text())
    for run in document["runs"]:
        run["id"] += "after"  # as if measured again, with the same result
    (folder / "after.json").write_text(json.dumps(document))
    return {
        "before.json": str(folder / "before.json"),
        "after.json": str(folder / "after.json"),
        "photos": str(folder / "photos"),
        "maps": str(folder / "maps"),
        "clip": str(folder / "clip.mp4"),
        "picture": str(folder / "photos" / "a.png"),
        "weights": str(folder / "weights.safetensors"),
        "checkpoint": checkpoint,
    }


def _write_clip(path: Path) -> None:
    """Three frames of 64x48."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(3):
            picture = np.full((48, 64, 3), 40 * number, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory, write_checkpoint: Callable[..., Path]) -> str:
    """A TensorFlow checkpoint of random values, under the names that the release of can24 has."""
    rng, width = np.random.default_rng(0), 24
    shapes: dict[str, tuple[int, ...]] = {"g_conv_last/weights": (1, 1, width, 3), "g_conv_last/biases": (3,)}
    for number in (1, 2, 3, 4, 5, 6, 7, 9):
        shapes[f"g_conv{number}/weights"] = (3, 3, width if number > 1 else 3, width)
        shapes |= {f"g_conv{number}/w0": (), f"g_conv{number}/w1": (), f"g_conv{number}/BatchNorm/beta": (width,)}
    tensors = {name: np.asarray(rng.normal(size=shape), np.float32) for name, shape in shapes.items()}
    return str(write_checkpoint(tmp_path_factory.mktemp("checkpoint") / "model.ckpt", tensors))


FLAGS = {"--settings", "--options", "--work", "--autocast", "--again", "--pictures", "--profile", "--require"}
KEPT = {"--model", "--engine", "--precision", "--statistics", "--device", "--option", "--operator", "--a", "--b"}
KEPT |= {"--codec", "--crf", "--audio", "--plugins", "--check", "--pace", "--in-flight", "--original"}
KEPT |= {"--tile", "--memory", "--set", "--kernel"}
KEPT |= {"--weight-bits", "--max", "--min", "--task", "--seed", "--data", "--loss", "--rate", "--clip", "--generated"}
SMALL = {"--steps": "2", "--batch": "1", "--crop": "24", "--validate-every": "2", "--threads": "1"}
MADE = {"--images": "photos", "--weights": "weights", "--input": "picture", "--from": "checkpoint"}
MADE |= {"--labels": "maps", "--style": "picture", "--validation": "picture", "--judge": "picture"}


def cheap(words: list[str], stand_in: dict[str, str], folder: Path) -> list[str]:
    """The same command, small; every option and every value must have its rule."""
    out: list[str] = []
    rest = iter(words)
    for word in rest:
        if word.endswith(".json"):
            out.append(stand_in["after.json" if word == "after.json" else "before.json"])
        elif not word.startswith("--") or word in FLAGS:
            out.append(word)
        elif word != "--resume":  # there is nothing to go on from in an empty folder
            out += [word, stood_in(word, next(rest), stand_in, folder)]
    if out[0] == "train":
        out += ["--crop", "32" if "pixel_dcn" in out else "24", "--steps", "2", "--batch", "1", "--threads", "1"]
    if out[0] == "kernels" and "cpu" not in out:
        out += ["--res", "320p", "--no-compile"]
    if out[0] == "ab":
        out += ["--budget", "4"]
    if out[0] in {"run", "sweep"}:
        out += ["--budget", "1", "--processes", "1"]
    if "frozen" in " ".join(out):
        out += ["--calibration", stand_in["photos"]]
    return out


def stood_in(option: str, value: str, stand_in: dict[str, str], folder: Path) -> str:
    """The value that an option gets in place of the one that the document shows."""
    if option in {"--baseline", "--candidate"}:
        return stand_in["before.json" if option == "--baseline" else "after.json"]
    if option in KEPT or (option == "--weights" and "." not in value):  # a name of weights that ship
        return value.replace("pixel_dcn:", "pixel_dcn:depth=2:width=2:")  # exported in seconds
    if option == "--floor":
        return "30dB"  # random weights of 7 bits, which some processors ask for, keep no more
    if option == "--res":
        return ",".join(f"{64 - 8 * i}x48" for i, _ in enumerate(value.split(",")))
    if option in MADE:
        return ",".join(_made(option, part, stand_in) for part in value.split(","))
    if option in {"--output", "--json", "--bundle"}:
        return str(folder / value)
    if option in SMALL:
        return SMALL[option]
    if option == "--within":
        return "10min"  # or a busy machine leaves cases
    raise AssertionError(f"`{option}` has no rule in tests/test_readme.py that makes it small")


def _made(option: str, value: str, stand_in: dict[str, str]) -> str:
    name, equals, _ = value.rpartition("=")
    photos = value.endswith("/") and option not in {"--judge", "--labels"}
    kind = "clip" if value.endswith(".mp4") else "photos" if photos else MADE[option]
    return name + equals + stand_in[kind]


def test_an_option_without_a_rule_fails() -> None:
    with pytest.raises(AssertionError, match="`--colour` has no rule"):
        cheap(["run", "--colour", "64"], {}, ROOT)


@pytest.mark.parametrize("line", NAMED)
def test_every_command_that_is_named_exists(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    command = [word for word in line.split()[1:2] if word != "--help"]
    with pytest.raises(SystemExit) as end:
        main([*command, "--help"])
    assert end.value.code == 0
    assert capsys.readouterr().out.startswith(" ".join(["usage: bench", *command]))


GALLERY = [line for _, body in blocks((ROOT / "docs" / "gallery.md").read_text()) for line in body.splitlines()]


@pytest.mark.parametrize("line", [line for line in GALLERY if line.startswith("bench sweep")])
def test_the_gallerys_measuring_is_understood(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    """It takes minutes, and is not run: a precision that nobody has is refused after the other words were read."""
    words = re.sub(r"--precision \S+", "--precision fp33", line)
    assert words != line
    assert main(words.split()[1:]) == 2
    assert "fp33" in capsys.readouterr().err


@pytest.fixture
def no_peaks(monkeypatch: pytest.MonkeyPatch) -> None:
    """They take four seconds a run and have tests of their own."""
    real = bench.run.run_job

    def run_job(job: Any, *rest: Any, **more: Any) -> dict[str, Any]:
        return {"failed": "left out by the test"} if job["job"] == "peaks" else real(job, *rest, **more)

    monkeypatch.setattr(bench.run, "run_job", run_job)


OWN_NETWORK = """
import torch


class Net(torch.nn.Module):
    def __init__(self, width=4):
        super().__init__()
        self.first, self.last = torch.nn.Conv2d(3, width, 3, padding=1), torch.nn.Conv2d(width, 3, 3, padding=1)

    def forward(self, x):
        return self.last(self.first(x).relu())
"""


@pytest.fixture
def working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder but for the networks that documents call somebody's own."""
    from onnx import TensorProto, helper, save

    monkeypatch.chdir(tmp_path)
    (tmp_path / "mynet.py").write_text(OWN_NETWORK)
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 3, "h", "w"]) for name in ("in", "out")]
    graph = helper.make_graph([helper.make_node("Relu", ["in"], ["out"])], "net", values[:1], values[1:])
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), "net.onnx")
    return tmp_path


@pytest.fixture
def command_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path_factory.getbasetemp() / "command-cache"
    folder.mkdir(exist_ok=True)
    monkeypatch.setenv("FULLRES_CACHE", str(folder))


@pytest.mark.usefixtures("no_peaks", "command_cache")
@pytest.mark.parametrize("line", BENCH, ids=[f"{i} {line[:60]}" for i, line in enumerate(BENCH)])
def test_every_bench_command_of_the_documents_works(
    line: str, stand_ins: dict[str, str], working_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if "--device cuda" in line and cuda_device_count() == 0:
        pytest.skip("no CUDA device here")
    if "openvino" in line:
        pytest.importorskip("openvino")
    if ".mp4" in line:
        pytest.importorskip("av")
    if "--check" in line:
        pytest.importorskip("polygraphy")
    if "bench kernels" in line:
        pytest.importorskip("triton")
    runs = "bench build" not in line or "--check" in line
    if "tensorrt" in line and runs and "tensorrt" not in engines.usable_on("cuda:0"):
        pytest.skip("TensorRT runs on a CUDA device only, and there is none here")
    if "tensorrt_rtx" in line and engines.get("tensorrt_rtx").missing():
        pytest.skip(str(engines.get("tensorrt_rtx").missing()))
    words = cheap(shlex.split(line)[1:], stand_ins, working_folder)
    judged = {3, 4} if words[0] == "ab" or "--require" in words else set()  # what is fast is not the document's to say
    assert main(words) in {0, *judged}, capsys.readouterr().err
    assert capsys.readouterr().out.strip()
    made = [words[words.index(option) + 1] for option in ("--output", "--json", "--bundle") if option in words]
    for path in map(Path, made):
        assert path.exists(), f"{path} was not written"
        if path.is_dir():
            assert list(path.rglob("*.png")) or words[0] == "build"
    if words[0] == "run" and "--output" in words:
        assert {run["status"] for run in store.load(Path(made[0]) / "runs.json")} == {"ok"}


def _help_examples() -> list[str]:
    """The commands in the examples of `bench --help` and `bench run --help`."""
    texts = [_parser().epilog or ""]
    done = subprocess.run(
        [sys.executable, "-m", "bench.cli", "run", "--help"], check=True, capture_output=True, text=True
    )
    texts.append(done.stdout.partition("example:")[2])
    lines = [line.strip() for text in texts for line in text.splitlines() if line.startswith("  bench ")]
    return [part for line in lines for part in re.split(r"\s{2,}", line)[0].split(" | ")]


def test_the_examples_in_the_help_are_understood() -> None:
    examples = _help_examples()
    assert len(examples) >= 8
    for line in examples:
        arguments = _parser().parse_args(shlex.split(line)[1:])
        assert callable(arguments.command), line


# Set-up


def pyproject() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_every_extra_that_is_named_exists() -> None:
    extras = set(pyproject()["project"]["optional-dependencies"])
    text = "\n".join(path.read_text() for path in DOCUMENTS)
    named = set(re.findall(r"pip install (?:-e )?'?\.\[([\w-]+)\]", text))
    assert "test" in named
    assert named <= extras
    assert named == extras, "an extra that no document names"


def test_ci_runs_the_set_up_command_of_the_readme_as_it_stands() -> None:
    """The line of .ci/run that reads the README is run, and must find exactly what users are told."""
    script = (ROOT / ".ci" / "run").read_text()
    reading = [line for line in script.splitlines() if re.match(r"(command|install)=", line)]
    assert len(reading) == 2
    done = subprocess.run(
        ["bash", "-euc", "\n".join(reading) + "\nprintf '%s\\n' \"$command\" \"$install\""],
        check=True, capture_output=True, text=True, cwd=ROOT,
    )  # fmt: skip
    assert done.stdout.splitlines() == [TESTING, TESTING.removesuffix(" && .venv/bin/pytest")]
    assert 'eval "$install"' in script
    assert 'eval "$command"' in script


def test_the_parts_of_the_first_command_are_what_the_project_offers() -> None:
    install, measure = FIRST.split(" && ")[1:]
    assert install == ".venv/bin/pip install ."
    assert Path(shlex.split(measure)[0]).name in pyproject()["project"]["scripts"]
    assert _parser().parse_args(shlex.split(measure)[1:]).res == "1440p"


def test_the_markers_that_documents_select_are_declared() -> None:
    declared = {m.partition(":")[0] for m in pyproject()["tool"]["pytest"]["ini_options"]["markers"]}
    selected = {c.split()[2] for c in commands() if c.startswith("pytest -m ")}
    assert selected == declared == {"slow", "gpu"}


@pytest.mark.slow
def test_the_first_command_works_from_a_fresh_copy(tmp_path: Path) -> None:
    """Needs a package index. Only the resolution is changed."""
    files = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        check=True, capture_output=True, text=True, cwd=ROOT,
    ).stdout.split("\0")  # fmt: skip
    for name in filter(None, files):
        if (ROOT / name).is_file():
            target = tmp_path / "copy" / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes((ROOT / name).read_bytes())
    environment = {k: v for k, v in os.environ.items() if k not in {"PYTHONPATH", "VIRTUAL_ENV"}}
    line = FIRST.replace("1440p", "64x48") + " --budget 1 --processes 1"
    done = subprocess.run(
        ["bash", "-c", line], check=False, capture_output=True, text=True, cwd=tmp_path / "copy",
        env={**environment, "FULLRES_CACHE": str(tmp_path / "cache")}, timeout=3000,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert re.search(r"can32 \S+ +64x48 +torch_eager", done.stdout)


# Links and claims


LINK = re.compile(r"\[[^\]]+\]\(([^)\s]+)\)")


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_relative_links_lead_to_files_that_exist(path: Path) -> None:
    targets = [t.partition("#")[0] for t in LINK.findall(path.read_text()) if not re.match(r"\w+:", t)]
    assert [t for t in targets if t and not (path.parent / t).exists()] == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_files_named_in_the_text_exist(path: Path) -> None:
    """Names such as `bench/metrics.py`; those that a reader is to make are called my…."""
    named = re.findall(r"`((?:[\w.-]+/)+[\w.-]+\.(?:py|md|toml))`|\b(docs/\w+\.md)\b", path.read_text())
    files = {a or b for a, b in named}
    missing = [f for f in files if "/my" not in f and not (ROOT / f).exists()]
    assert [f for f in missing if not (ROOT / "reference_models" / f).exists()] == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_no_placeholder_is_left(path: Path) -> None:
    """A comment may say what a table was made by; where nothing follows it, the table is still missing."""
    text = path.read_text()
    assert not re.search(r"\b(TODO|TBD|FIXME)\b", text)
    assert re.findall(r"<!-- .*? -->(?!\n+(?:\||```))", text) == []


def test_the_python_of_the_documents_is_python() -> None:
    for path in DOCUMENTS:
        for language, body in blocks(path.read_text()):
            if language == "python":
                compile(body, str(path), "exec")


@pytest.mark.usefixtures("command_cache")
def test_the_python_examples_of_the_readme_run(working_folder: Path) -> None:
    import torch

    model, plan = [body for language, body in blocks((ROOT / "README.md").read_text()) if language == "python"]
    assert main(["build", "--model", "can32", "--engine", "onnxruntime", "--output", "plan.onnx"]) == 0
    names: dict[str, Any] = {"picture": np.full((8, 9, 3), 99, np.uint8)}
    exec(model, names)
    exec(plan, names)
    with torch.inference_mode():
        assert names["model"](torch.zeros(1, 3, 8, 9)).shape == (1, 3, 8, 9)
    assert (names["picture"].shape, names["picture"].dtype) == ((8, 9, 3), np.uint8)


@pytest.mark.usefixtures("command_cache")
def test_the_python_examples_for_deployers_run(working_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["build", "--model", "can32", "--engine", "onnxruntime", "--output", "plan.onnx"]) == 0
    text = (ROOT / "docs" / "deploy.md").read_text()
    names: dict[str, Any] = {}
    for body in [body for language, body in blocks(text) if language == "python"]:
        exec(body.replace("(480, 640", "(48, 64"), names)
    assert (names["result"].shape, names["other"].shape) == ((48, 64, 3), (48, 64, 3))
    assert [result.shape for result in names["results"]] == [(60, 80, 3)] * 8
    assert "Repeat the grey plane" in capsys.readouterr().out
