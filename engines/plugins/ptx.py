"""A Triton kernel → PTX with exactly the declared parameters, ahead of time: no GPU, no driver, no torch.

Also runs the same kernel through Triton's interpreter's launcher or on a GPU (`launch`). Kernels are plain functions in
files of their own, so that shape rules and references can be imported where Triton is not installed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cache
from typing import Any

from engines.installed import package_missing

CAPABILITIES = (75, 80, 86, 89, 90, 100, 120)
"""What PTX is made for in the tests, as `sm_` numbers."""
PTX_VERSION = 80
"""Oldest ISA with every instruction that the kernels use: Triton's own choice is newer than the compiler in a CUDA 13.0
driver from capability 9.0 on."""
_NEEDED_ISA = {100: 86, 120: 87}
"""Targets that older ISA versions do not know. Source: PTX ISA, release history."""


@dataclass(frozen=True)
class Variant:
    """One kernel with all its constants chosen."""

    function: Callable[..., None]
    pointers: Mapping[str, str]
    """Parameter → Triton's word for what it points to (`fp32`, `fp16`, `i8`, `u8`), inputs first, the output last."""
    scalars: tuple[str, ...]
    """Names of the int32 parameters, between inputs and output: the order in which TensorRT passes them."""
    constants: Mapping[str, Any]
    warps: int = 4

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names in the order of the entry."""
        *inputs, output = self.pointers
        return (*inputs, *self.scalars, output)


@dataclass(frozen=True)
class CompiledKernel:
    """What a plan embeds."""

    name: str
    ptx: str
    threads: int
    shared_bytes: int


def triton_missing() -> str | None:
    """None where kernels can be compiled, else the sentence that says why not."""
    return package_missing("triton", ("triton",))


@cache
def jit(function: Callable[..., None], unassumed: tuple[str, ...] = ()) -> Any:
    """The Triton kernel of a plain function; TRITON_INTERPRET=1 in the environment makes it run on CPU tensors.

    The same one every time: it holds what was compiled for a device, and another would look for it on disk at every
    launch.

    Args:
        unassumed: parameters whose values (1, multiples of 16) decide nothing when it is compiled for a launch.
    """
    os.environ.setdefault("TRITON_DISABLE_LINE_INFO", "1")  # debug sections would double the PTX
    os.environ.setdefault("TRITON_DEFAULT_FP_FUSION", "1")  # the default changes in Triton 3.10
    import triton

    return triton.jit(function, do_not_specialize=unassumed)


def kernel_part(function: Callable[..., Any]) -> Any:
    """Decorator: a function that kernels call. Triton takes no plain one there; without Triton it stays plain."""
    try:
        return jit(function)
    except ModuleNotFoundError:
        return function


def compile_ptx(variant: Variant, capability: int) -> CompiledKernel:
    """PTX of a kernel for `sm_<capability>` and every later one.

    Raises:
        RuntimeError: Triton wants scratch memory, which TensorRT does not pass.
    """
    kernel = jit(variant.function)
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    words = {name: f"*{kind}" for name, kind in variant.pointers.items()} | dict.fromkeys(variant.scalars, "i32")
    order = [parameter.name for parameter in kernel.params]
    signature = {name: words.get(name, "constexpr") for name in order}
    aligned = {(order.index(name),): [["tt.divisibility", 16]] for name in variant.pointers}
    source = ASTSource(fn=kernel, signature=signature, constexprs=dict(variant.constants), attrs=aligned)
    options = {"num_warps": variant.warps, "ptx_version": max(PTX_VERSION, _NEEDED_ISA.get(capability, 0))}
    compiled = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)
    told = compiled.metadata
    if getattr(told, "global_scratch_size", 0) or getattr(told, "profile_scratch_size", 0):
        raise RuntimeError(f"kernel {told.name} wants scratch memory, which nobody passes to a plugin's kernel")
    ptx = without_scratch(compiled.asm["ptx"], len(variant.parameters))
    # From 9.0 on Triton names the one chip (`sm_90a`); without instructions of that chip alone, the family will do.
    ptx = re.sub(r"(\.target sm_\d+)a\b", r"\1", ptx)
    return CompiledKernel(told.name, ptx, told.num_warps * 32, told.shared)


def entry_parameters(ptx: str) -> list[tuple[str, str]]:
    """Type and name of every parameter of the PTX's entry."""
    match = re.search(r"\.entry\s+\w+\s*\((.*?)\)", ptx, re.DOTALL)
    if match is None:
        raise ValueError("no .entry in this PTX")
    return re.findall(r"\.param\s+\.(\w+)[^,\n]*?(\w+_param_\d+)", match[1])


def without_scratch(ptx: str, declared: int) -> str:
    """The PTX with its first `declared` parameters only.

    Triton 3.3 and later append pointers to scratch memory to every entry, used or not; TensorRT passes what was
    declared.

    Raises:
        RuntimeError: one of the others is read.
    """
    for _, name in entry_parameters(ptx)[declared:]:
        if len(re.findall(rf"\b{name}\b", ptx)) != 1:
            raise RuntimeError(f"the PTX reads {name}, which nobody passes")
        ptx = re.sub(rf",\s*\.param[^,)]*\b{name}\b", "", ptx)
    return ptx


def launch(variant: Variant, grid: tuple[int, ...], arguments: Mapping[str, Any], planned: bool = False) -> None:
    """Runs the kernel on torch tensors: on a GPU, or anywhere under TRITON_INTERPRET=1.

    Args:
        planned: compiled without a look at the sizes, as a plan embeds it; otherwise Triton compiles it once more for
            sizes that are multiples of 16.
    """
    kernel = jit(variant.function, variant.scalars if planned else ())
    with _device_of(arguments.values()):
        kernel[grid](**arguments, **variant.constants, num_warps=variant.warps)


def _device_of(arguments: Iterable[Any]) -> AbstractContextManager[Any]:
    """Triton launches on torch's current device, whichever the tensors are on."""
    device = next((value.device for value in arguments if getattr(value, "is_cuda", False)), None)
    if device is None:
        return nullcontext()
    import torch

    return torch.cuda.device(device)
