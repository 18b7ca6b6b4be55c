"""`--model package.module:Factory`: a network of the user's own → ModelSpec, with what it takes found by trying.

Runs the user's code, as `python -m` would. What it raises is quoted as it is, with its place.
"""

from __future__ import annotations

import ast
import hashlib
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from reference_models.errors import UserError
from reference_models.own_module import check_options, factory_from_word, source_sha256, user_code
from reference_models.spec import OWN_FAMILY, Evaluation, ModelSpec

if TYPE_CHECKING:
    import torch

MULTIPLES = (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 56, 64)
"""Tried in this order as what height and width must be a multiple of."""
_PRIMES = (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71)
_LEAST_SIDE = 64
"""Multiples are tried at sides from here on, so that a least size is not taken for a multiple."""


class RefusedError(Exception):
    """A network cannot take an input of this shape; the text says why."""


@dataclass(frozen=True)
class Geometry:
    """What a network makes of which inputs, as in ModelSpec."""

    input_planes: int
    output_planes: int
    upscale: int
    size_multiple: int = 1
    min_size: int = 1


def spec_from_factory(word: str, options: Mapping[str, int | float | str] | None = None) -> ModelSpec:
    """The declaration of the network that `package.module:Factory` makes.

    Args:
        word: a module that Python finds from the current directory, and in it a class or function that returns a
            torch.nn.Module: (1, C, H, W) float32 in [0, 1] in, (1, C', kH, kW) float32 out.
        options: keyword arguments of the factory; words become what Python would read: 7, None, (1, 1), else a word.
            Lists arrive as tuples, which JSON does not have.

    Raises:
        UserError: no such module or factory, an error in it (quoted), or not an image-to-image network.
    """
    read = {name: _read(value) for name, value in (options or {}).items()}
    model = model_from_factory(word, read)
    state = state_sha256(model)  # before it runs, which may change it
    try:
        geometry = find_geometry(_runner(model, word), _likely_planes(model))
    except RefusedError as error:
        raise UserError(
            f"`--model {word}`: takes no picture: {error}",
            "(1, C, H, W) float32 in and (1, C', kH, kW) out, at sides that are multiples of a number up to 64",
            "Check that it runs on torch.rand(1, 3, 64, 128)",
        ) from None
    source = f"{word}, sources' SHA-256 {source_sha256(word)[:16]}, state's {state[:16]}"
    description = f"your own {type(model).__name__}, {sizes_in_words(geometry)}"
    spec = own_spec(word, source, description, geometry)
    return replace(spec, factory=word, options=read, chosen={name: _as_choice(value) for name, value in read.items()})


def model_from_factory(word: str, options: Mapping[str, object]) -> torch.nn.Module:
    """The network in eval mode. Its random initialisation is the same in every process; generators are kept.

    Raises:
        UserError: as `spec_from_factory`.
    """
    import torch

    given = {name: _with_tuples(value) for name, value in options.items()}
    with _seeded():  # modules may draw numbers as they are imported
        factory = factory_from_word(word)
    check_options(word, factory, given)
    with _seeded():
        model = user_code(f"`--model {word}`: making it", lambda: factory(**given))
    if not isinstance(model, torch.nn.Module):
        raise UserError(
            f"`--model {word}`: returned a {type(model).__name__}",
            "a torch.nn.Module",
            "Name a class or function that makes the network",
        )
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if tensor.is_floating_point() and (tensor.dtype, tensor.device.type) != (torch.float32, "cpu"):
            raise UserError(
                f"`--model {word}`: `{name}` is {tensor.dtype} on {tensor.device}",
                "float32 on the CPU: engines choose device and precision by themselves",
                "Return the network without .half(), .cuda() and the like",
            )
    return model.eval()


def state_sha256(model: torch.nn.Module) -> str:
    """SHA-256 over all tensors that a network holds, in hexadecimal, for its factory may load them from a file:
    parameters, buffers, persistent or not, and mere attributes of its modules."""
    import torch

    digest = hashlib.sha256()
    for prefix, module in model.named_modules():
        own = {**vars(module), **module._parameters, **module._buffers}
        for name, tensor in sorted((name, value) for name, value in own.items() if isinstance(value, torch.Tensor)):
            digest.update(f"{prefix}.{name} {tensor.dtype}".encode())
            if not torch.nn.parameter.is_lazy(tensor):  # whose values come with its first input
                flat = tensor.detach().cpu().contiguous().reshape(-1)
                digest.update(f" {tuple(tensor.shape)}\0".encode() + flat.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def find_geometry(run: Callable[[tuple[int, ...]], Sequence[int]], planes: Sequence[int]) -> Geometry:
    """What a network takes and gives, found by running it.

    Args:
        run: shape of the input (1, C, H, W) → shape of the output; raises RefusedError where it cannot.
        planes: numbers of input planes to try, the likeliest first.

    Raises:
        RefusedError: nothing that was tried gives (1, C', kH, kW) for (1, C, H, W), with a whole number k.
    """
    reasons: list[RefusedError] = []
    for count in planes:
        refused = RefusedError("its upscale factor changes with the size")
        for multiple in MULTIPLES:
            try:
                found = {_ratio(run, (1, count, *size)) for size in probe_sizes(multiple)}
            except RefusedError as error:
                refused = error
                continue
            if len(found) == 1:
                geometry = Geometry(count, *found.pop(), multiple)
                return replace(geometry, min_size=_min_size(run, geometry))
        reasons.append(refused)
    raise reasons[0]


def probe_sizes(multiple: int) -> tuple[tuple[int, int], ...]:
    """Two sizes (height, width) whose sides have this number as their greatest common divisor."""
    a, b = [p for p in _PRIMES if p * multiple >= _LEAST_SIDE][:2]
    return (a * multiple, b * multiple), (b * multiple, a * multiple)


def own_spec(name: str, source: str, description: str, geometry: Geometry) -> ModelSpec:
    """A spec for a network that nobody declared: colours as its planes suggest, nothing known of its whole.

    Values are taken for [0, 1] in and out.

    Raises:
        UserError: planes that are no picture.
    """
    planes = geometry.input_planes, geometry.output_planes
    if planes not in {(3, 3), (1, 1)}:
        raise UserError(
            f"`--model {name}`: {planes[0]} planes in and {planes[1]} out",
            "3 and 3 (R, G, B) or 1 and 1 (luma, the chroma being carried along)",
            "Put the conversion from and to such planes into the network",
        )
    return ModelSpec(
        name=name,
        family=OWN_FAMILY,
        factory="",
        source=source,
        licence="yours",
        description=description,
        task="unknown",
        input="rgb" if planes == (3, 3) else "luma",
        output="rgb" if planes == (3, 3) else "luma",
        input_planes=planes[0],
        output_planes=planes[1],
        upscale=geometry.upscale,
        size_multiple=geometry.size_multiple,
        min_size=geometry.min_size,
        whole_picture="not known for a network of your own",
        evaluation=Evaluation(channels="RGB" if planes == (3, 3) else "Y"),
    )


def sizes_in_words(geometry: Geometry) -> str:
    """Which sizes a network takes, as far as trying tells."""
    text = (
        f"takes sides that are multiples of {geometry.size_multiple}"
        if geometry.size_multiple > 1
        else "takes any size"
    )
    least = f"{geometry.min_size}x{geometry.min_size}"
    return f"{text} from {least}" if geometry.min_size > geometry.size_multiple else text


def ratio(shape: Sequence[int], output: Sequence[int]) -> tuple[int, int]:
    """Planes and upscale factor of an output of this shape for an input (N, C, H, W).

    Raises:
        RefusedError: not (N, C', kH, kW).
    """
    (n, _, h, w), k = shape, output[2] // shape[2] if len(output) == 4 else 0
    if k < 1 or (output[0], output[2], output[3]) != (n, k * h, k * w):
        raise RefusedError(f"it makes {tuple(output)} of {tuple(shape)}, whose sides are no whole multiples")
    return output[1], k


def _ratio(run: Callable[[tuple[int, ...]], Sequence[int]], shape: tuple[int, ...]) -> tuple[int, int]:
    return ratio(shape, run(shape))


def _min_size(run: Callable[[tuple[int, ...]], Sequence[int]], geometry: Geometry) -> int:
    """The least side that works, found by halving; the few sides above it work too, and so, it is hoped, do the rest.

    Empty tensors inside let some networks work at 1x1 by chance, where 5x5 fails.
    """
    multiple, wanted = geometry.size_multiple, (geometry.output_planes, geometry.upscale)

    def fits(*steps: int) -> bool:
        try:
            return _ratio(run, (1, geometry.input_planes, *(step * multiple for step in steps))) == wanted
        except RefusedError:
            return False

    fails, works = 0, min(min(size) for size in probe_sizes(multiple)) // multiple
    known = works
    while True:
        while works - fails > 1:
            middle = (fails + works) // 2
            fails, works = (fails, middle) if fits(middle, middle) else (middle, works)
        above = [step for step in range(works + 1, min(works + 5, known)) if not fits(step, works)]
        if not above:
            return works * multiple
        fails, works = above[-1], known


def _runner(model: torch.nn.Module, word: str) -> Callable[[tuple[int, ...]], Sequence[int]]:
    import torch

    def run(shape: tuple[int, ...]) -> Sequence[int]:
        x = torch.rand(shape, generator=torch.Generator().manual_seed(0))
        try:
            with torch.inference_mode(), _seeded():
                y = user_code("", lambda: model(x))
        except UserError as error:
            raise RefusedError(error.what) from None
        if not isinstance(y, torch.Tensor) or y.ndim != 4 or y.dtype != torch.float32:
            got = f"{tuple(y.shape)} {y.dtype}" if isinstance(y, torch.Tensor) else f"a {type(y).__name__}"
            raise UserError(
                f"`--model {word}`: its output is {got}",
                "one float32 tensor (1, C', kH, kW)",
                "Return that tensor alone",
            )
        return y.shape

    return run


def _likely_planes(model: torch.nn.Module) -> list[int]:
    import torch

    first = next((m.in_channels for m in model.modules() if isinstance(m, torch.nn.Conv2d)), 3)
    return list(dict.fromkeys((first, 3, 1, 4)))


def _read(value: int | float | str) -> object:
    """What Python would read, tuples as lists, since JSON has none; what JSON cannot hold stays a word."""
    if isinstance(value, str):
        with suppress(ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            return _as_in_json(ast.literal_eval(value))
    return value


def _as_in_json(value: object) -> object:
    if isinstance(value, tuple | list):
        return [_as_in_json(entry) for entry in value]
    if value is None or isinstance(value, int | float | str):
        return value
    raise ValueError


def _as_choice(value: object) -> int | float | str:
    return value if isinstance(value, int | float | str) else f"{_with_tuples(value)}".replace(" ", "")


def _with_tuples(value: object) -> object:
    return tuple(_with_tuples(entry) for entry in value) if isinstance(value, list | tuple) else value


@contextmanager
def _seeded() -> Iterator[None]:
    """torch, NumPy and Python draw the same numbers each time meanwhile; their generators are kept."""
    import numpy as np
    import torch

    kept = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=[]):
            for seed in (random.seed, np.random.seed, torch.manual_seed):
                seed(0)
            yield
    finally:
        random.setstate(kept[0])
        np.random.set_state(kept[1])
