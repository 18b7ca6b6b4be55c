"""The allocator setting: what the worker starts with, and that glibc does what is promised with it."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

import engines
from engines.allocator import ALLOCATOR, allocator_environment

GLIBC = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the settings are those of glibc")


def test_memory_is_retained_by_default():
    assert ALLOCATOR.default == "retain"
    assert ALLOCATOR.choices == ("retain", "system")
    assert allocator_environment({"allocator": "retain"})["MALLOC_MMAP_MAX_"] == "0"
    assert "hugetlb=1" in allocator_environment({"allocator": "retain"})["GLIBC_TUNABLES"]


def test_system_is_what_a_plain_python_does():
    assert allocator_environment({"allocator": "system"}) == {}


def test_a_caller_may_change_what_it_was_given():
    allocator_environment({"allocator": "retain"}).clear()
    assert allocator_environment({"allocator": "retain"})


@pytest.mark.parametrize("name", [n for n in engines.names() if ALLOCATOR in engines.get(n).settings])
@pytest.mark.parametrize("choice", ALLOCATOR.choices)
def test_every_engine_with_the_setting_starts_its_worker_with_it(name, choice):
    engine = engines.get(name)
    settings = engine.complete_settings({"allocator": choice})
    assert engine.environment(settings) == allocator_environment(settings)


def test_every_engine_that_computes_on_the_processor_has_the_setting():
    here = [engines.get(n) for n in engines.names() if engines.get(n).computes and "cpu" in engines.get(n).precisions]
    assert len(here) >= 4
    assert all(ALLOCATOR in engine.settings for engine in here)


@GLIBC
@pytest.mark.parametrize(("choice", "kept"), [("retain", True), ("system", False)])
def test_freed_memory_stays_in_the_process(choice, kept):
    code = (
        "import os\n"
        "def resident(): return int(open('/proc/self/statm').read().split()[1]) * os.sysconf('SC_PAGE_SIZE') >> 20\n"
        "before = resident()\n"
        "block = bytearray(192 << 20)\n"
        "for i in range(0, len(block), 4096): block[i] = 1\n"
        "del block\n"
        "print(resident() - before)"
    )
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("MALLOC_", "GLIBC_"))}
    environment = {**clean, **allocator_environment({"allocator": choice})}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert (int(done.stdout) > 150) == kept
    assert (int(done.stdout) < 50) != kept
