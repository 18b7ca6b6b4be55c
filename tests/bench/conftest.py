"""The command as tests call it: in this process without the machine's peaks, or as a process of its own.

Most tests call `main` in this process; workers are real. The machine's peaks, four seconds a run, are left out (they
have their own tests), in subprocesses too: those start `bench` through CHEAP.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from PIL import Image

TRIES = 4
ANSWER_S = 0.5
"""Refusals and look-ups take less processor time than this, start of the interpreter included. They wait for nothing,
so that on an idle machine it is the time that the user waits; on a busy one wall time says nothing about a program."""

CHEAP = """
import resource, sys
import bench.run
from bench.cli import main

real = bench.run.run_job

def run_job(job, *rest):
    if job["job"] == "peaks":
        return {"failed": "left out by the test"}
    if job["job"] == "case":
        CASE
    return real(job, *rest)

bench.run.run_job = run_job
sys.exit(main())
"""


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str

    def assert_refused(self, *named: str, code: int = 2) -> None:
        """Exit code, three parts on standard error naming `named`, no traceback, nothing on standard output."""
        assert self.code == code, self
        assert self.out == ""
        assert "Traceback" not in self.err
        message = self.err[self.err.index("bench: ") :]
        assert re.match(r"(?s)bench: .+\. Expected .+\. .+[.?]\n?", message), message
        for word in named:
            assert word in message, f"{word!r} is not in {message!r}"


Command = Callable[..., Outcome]


@pytest.fixture
def command_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One cache folder for all tests of the command, so that each network is exported once."""
    folder = tmp_path_factory.getbasetemp() / "command-cache"
    folder.mkdir(exist_ok=True)
    monkeypatch.setenv("FULLRES_CACHE", str(folder))
    return folder


@pytest.fixture
def command(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, command_cache: Path
) -> Callable[..., Outcome]:
    """`command(word, …)` runs `bench word …` in this process."""
    import bench.run
    from bench.cli import main

    real = bench.run.run_job

    def run_job(job: Any, *rest: Any, **more: Any) -> dict[str, Any]:
        return {"failed": "left out by the test"} if job["job"] == "peaks" else real(job, *rest, **more)

    monkeypatch.setattr(bench.run, "run_job", run_job)

    def call(*words: object) -> Outcome:
        capsys.readouterr()
        try:
            code = main([str(w) for w in words])
        except SystemExit as stop:  # argparse's own way out of --help and --version
            code = int(stop.code or 0)
        return Outcome(code, *capsys.readouterr())

    return call


@pytest.fixture(scope="session")
def light(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment in which importing a heavy library ends the program."""
    folder = tmp_path_factory.mktemp("heavy")
    for name in ("numpy", "torch", "onnx", "onnxruntime", "openvino", "skimage", "scipy"):
        (folder / f"{name}.py").write_text(f"raise SystemExit('{name} was imported')\n")
    return {**os.environ, "PYTHONPATH": str(folder)}


@pytest.fixture
def answer(light: dict[str, str], tmp_path: Path) -> Callable[[Sequence[str]], Outcome]:
    """`answer(words)`: what the real command says without heavy libraries, and within ANSWER_S."""

    def call(words: Sequence[str]) -> Outcome:
        """The best of up to TRIES counts: a busy machine also takes more processor time."""
        best = float("inf")
        for _ in range(TRIES):
            before = sum(os.times()[2:4])  # of the processes that this one has started and seen end
            done = subprocess.run(
                [sys.executable, "-m", "bench.cli", *map(str, words)],
                check=False, capture_output=True, text=True, env=light, cwd=tmp_path,
            )  # fmt: skip
            best = min(best, sum(os.times()[2:4]) - before)
            if best < ANSWER_S:
                break
        assert best < ANSWER_S
        return Outcome(done.returncode, done.stdout, done.stderr)

    return call


@pytest.fixture(scope="session")
def gradient() -> Callable[[int, int], np.ndarray]:
    """`gradient(width, height)`: see `_gradient`."""
    return _gradient


@pytest.fixture(scope="session")
def save() -> Callable[..., Path]:
    """`save(path, width, height, …)` writes a gradient as a picture file and returns the path."""

    def write(path: Path, width: int = 64, height: int = 48, **options: Any) -> Path:
        Image.fromarray(_gradient(width, height)).save(path, **options)
        return path

    return write


@pytest.fixture(scope="session")
def size() -> Callable[[Path], tuple[int, int]]:
    """`size(path)`: width and height of a picture file."""

    def read(path: Path) -> tuple[int, int]:
        with Image.open(path) as image:
            return image.size

    return read


def _missing(path: Path) -> None:
    assert not path.exists()


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _truncated(path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(path, format="PNG")
    path.write_bytes(path.read_bytes()[:5000])


def _text(path: Path) -> None:
    path.write_text("no picture at all\n" * 100)


def _hundred_megapixels(path: Path) -> None:
    Image.new("1", (10000, 10000)).save(path, format="PNG", compress_level=1)


BAD_PICTURES = {
    _missing: "cannot be found",
    _empty: "empty",
    _truncated: "truncated",
    _text: "not a picture",
    _hundred_megapixels: "10000x10000",
}


@pytest.fixture(params=BAD_PICTURES, ids=lambda make: make.__name__.strip("_"))
def bad_picture(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, str]:
    """The path `bad.png` of a file that is no whole picture, and a word that the refusal must say, for each kind."""
    request.param(tmp_path / "bad.png")
    return tmp_path / "bad.png", BAD_PICTURES[request.param]


@pytest.fixture(scope="session")
def truncated() -> Callable[[Path], None]:
    """`truncated(path)` makes a PNG of which the end is missing."""
    return _truncated


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Random weights per network, with which every layer changes the picture and values spread over [0, 1]."""
    import torch
    from safetensors.torch import save_file

    from reference_models import create_model

    found, x = {}, torch.from_numpy(_gradient(64, 48).transpose(2, 0, 1)[None].astype(np.float32) / 255)
    for name in ("can24", "can32"):
        generator = torch.Generator().manual_seed(3)
        model = create_model(name)
        state = {k: v + 0.05 * torch.randn(v.shape, generator=generator) for k, v in model.state_dict().items()}
        state["last.bias"] = torch.zeros(3)
        model.load_state_dict(state)
        with torch.inference_mode():
            y = model(x)[0]
        gain = 0.12 / y.std((1, 2))
        state["last.weight"] = state["last.weight"] * gain.reshape(3, 1, 1, 1)
        state["last.bias"] = 0.5 - gain * y.mean((1, 2))
        found[name] = tmp_path_factory.mktemp("weights") / f"{name}.safetensors"
        save_file(state, found[name])
    return found


def _gradient(width: int, height: int) -> np.ndarray:
    """uint8 (H, W, 3): red grows to the right, green downwards; no two corners are alike."""
    red = np.linspace(20, 230, width)[None, :].repeat(height, 0)
    green = np.linspace(30, 220, height)[:, None].repeat(width, 1)
    return np.stack([red, green, (red + green) / 2], axis=2).round().astype(np.uint8)


@dataclass
class Live:
    """A `bench` that runs beside the test; its stages arrive on standard error as they begin."""

    process: subprocess.Popen[str]
    log: Path

    def wait_for(self, text: str, timeout_s: float = 120) -> None:
        end = time.monotonic() + timeout_s
        while text not in self.log.read_text():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < end, f"{text!r} did not come: {self.log.read_text()}"
            time.sleep(0.02)

    def wait_for_worker(self, library: str, timeout_s: float = 60) -> psutil.Process:
        """The worker once it has loaded `library` and is past building: it is measuring."""
        end = time.monotonic() + timeout_s
        while time.monotonic() < end:
            for child in psutil.Process(self.process.pid).children():
                try:
                    if library in Path(f"/proc/{child.pid}/maps").read_text():
                        time.sleep(0.5)
                        return child
                except OSError:
                    continue
            time.sleep(0.02)
        raise AssertionError(f"no worker has loaded {library}")

    def finish(self, timeout_s: float = 120) -> Outcome:
        out, _ = self.process.communicate(timeout=timeout_s)
        return Outcome(self.process.returncode, out, self.log.read_text())


@pytest.fixture(scope="session")
def cheap() -> Callable[[str], str]:
    """`cheap(CODE)`: a program that is `bench` without the machine's peaks; CODE runs before every case."""
    return lambda case: CHEAP.replace("CASE", case)


@pytest.fixture
def start(tmp_path: Path, command_cache: Path) -> Iterator[Callable[..., Live]]:
    """`start(word, …, case=CODE)` starts `bench word …`; CODE runs before every case."""
    started: list[Live] = []

    def call(*words: object, case: str = "pass") -> Live:
        log = tmp_path / f"stderr-{len(started)}"
        with log.open("wb") as file:
            process = subprocess.Popen(
                [sys.executable, "-c", CHEAP.replace("CASE", case), *map(str, words)],
                stdout=subprocess.PIPE,
                stderr=file,
                text=True,
                cwd=tmp_path,
            )
        started.append(Live(process, log))
        return started[-1]

    yield call
    for live in started:
        if live.process.poll() is None:
            for child in psutil.Process(live.process.pid).children():
                child.kill()
            live.process.kill()
        live.process.communicate()


GateRun = Callable[..., dict[str, Any]]


@pytest.fixture(scope="session")
def gate_run() -> GateRun:
    """`gate_run(id, ms, processes=5, case={…}, **keys)`: an ok run as stored; dictionaries are merged into it."""
    return _gate_run


def _gate_run(identifier: str = "a", ms: float = 100.0, processes: int = 5, **changes: Any) -> dict[str, Any]:
    medians = [ms * (1 + 0.002 * (k - (processes - 1) / 2)) for k in range(processes)]
    run: dict[str, Any] = {
        "id": identifier,
        "time": "2026-03-01T10:00:00+00:00",
        "machine": {"cpu": "Some CPU", "architecture": "x86_64", "cores_usable": 8, "cpu_quota": None, "isa": ["avx2"],
                    "virtualised": False, "memory_mib": 16000, "kernel": "6.1", "gpus": []},
        "versions": {"fullres": "0.1.0", "torch": "2.13.0"},
        "commit": "0123456789abcdef",
        "pictures": ["coffee.png"],
        "pictures_sha256": ["ef" * 32],
        "case": {"model": "can24", "options": {}, "weights": "l0.safetensors", "weights_sha256": "ab" * 32,
                 "trained": True, "resolution": "720p", "input_shape": [1, 3, 720, 1280],
                 "output_shape": [1, 3, 720, 1280], "engine": "onnxruntime", "variant": "onnxruntime",
                 "engine_version": "1.20", "device": "cpu", "precision": "fp32", "statistics": "image", "tile": "off",
                 "threads": 8, "settings": {}},
        "status": "ok",
        "reason": None,
        "contract": {"pre_post_processing": "excluded", "threads": 8, "in_flight": 1, "transfers": "none"},
        "latency_ms": {"samples": [[m, m, m] for m in medians], "p50": ms},
        "memory": {"host_peak_mib": 500.0, "device_peak_mib": None, "plan_mib": None},
        "quality": {"vs_reference": {"psnr_db": 60.0, "ssim": 0.999, "identical": False, "finite": True},
                    "convention": {"range": 1.0}},
        "work": {"gmac": 50.0, "min_bytes": 1e8, "peaks": {"fp32_gflop_s": 1000.0, "copy_gb_s": 30.0}},
        "machine_gflop_s": [800.0, 800.0],
        "unstable": [],
        "interrupted": False,
    }  # fmt: skip
    for key, value in changes.items():
        run[key] = {**run[key], **value} if isinstance(value, dict) and isinstance(run.get(key), dict) else value
    return run


@dataclass(frozen=True)
class Clip:
    """What a clip made by `clip` is to look like."""

    frames: int = 12
    width: int = 64
    height: int = 48
    rate: int = 25
    pixel_format: str = "yuv420p"
    codec: str = "libx264"
    matrix: int = 2
    """H.273 number; 2: not stated."""
    full: bool = False
    audio: str | None = "aac"
    turned: int = 0
    """Degrees that the file says it has to be turned by, clockwise."""
    times: tuple[int, ...] = ()
    """Of the frames, in thousandths of a second, where they are not regular."""
    options: tuple[tuple[str, str], ...] = ()
    """Of the container."""


@pytest.fixture(scope="session")
def clip() -> Callable[..., Path]:
    """`clip(path, frames=12, …)` encodes a moving pattern with a tone, see Clip, and returns the path."""
    pytest.importorskip("av")

    def make(path: Path, **wanted: Any) -> Path:
        _encode(path, Clip(**wanted))
        return path

    return make


def _encode(path: Path, wanted: Clip) -> None:
    from fractions import Fraction

    import av

    with av.open(str(path), "w", options=dict(wanted.options)) as container:
        video = container.add_stream(wanted.codec, rate=wanted.rate)
        video.width, video.height, video.pix_fmt = wanted.width, wanted.height, wanted.pixel_format
        video.codec_context.time_base = Fraction(1, 1000)
        context: Any = video.codec_context
        context.colorspace, context.color_range = wanted.matrix, 2 if wanted.full else 1
        if wanted.codec == "libx264":
            video.options = {"preset": "ultrafast"}
        if wanted.turned:
            video.set_display_rotation(wanted.turned)
        if wanted.audio:
            sound: Any = container.add_stream(wanted.audio, rate=48000)
            sound.layout = "stereo"
        blocks = 0
        times = wanted.times or tuple(i * 1000 // wanted.rate for i in range(wanted.frames))
        for number, time_ms in enumerate(times):
            frame = av.VideoFrame.from_ndarray(_moving(wanted, number), format="rgb24")
            frame = frame.reformat(
                format=wanted.pixel_format, dst_colorspace={1: 1, 9: 9}.get(wanted.matrix, 5),
                dst_color_range=2 if wanted.full else 1,
            )  # fmt: skip
            frame.pts, frame.time_base = time_ms, Fraction(1, 1000)
            container.mux(video.encode(frame))
            while wanted.audio and blocks * 1024 < time_ms * 48 + 48000 // wanted.rate:
                container.mux(sound.encode(_tone(blocks)))
                blocks += 1
        container.mux(video.encode(None))
        if wanted.audio:
            container.mux(sound.encode(None))


def _moving(wanted: Clip, number: int) -> np.ndarray:
    """A gradient that runs to the right; smooth, so that compressing it changes little."""
    picture = _gradient(wanted.width, wanted.height)
    return np.roll(picture, number * 2, axis=1)


def _tone(block: int) -> Any:
    """1024 samples of both channels, the block of this number."""
    import av

    tone = np.sin(np.arange(block * 1024, (block + 1) * 1024) * 0.05).astype(np.float32) / 2
    frame = av.AudioFrame.from_ndarray(np.stack([tone, tone]), format="fltp", layout="stereo")
    frame.sample_rate, frame.pts = 48000, block * 1024
    return frame
