"""How a worker process gets memory from the system: a setting that engines share, and what it means for glibc."""

from __future__ import annotations

from collections.abc import Mapping

from engines.engine import Setting

# glibc returns large blocks to the kernel at every free; each tensor of a frame then costs page faults for all of its
# pages, more than the arithmetic of an elementwise operator. These keep freed memory and back it by huge pages.
_RETAIN = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(64 << 30),
    "MALLOC_TOP_PAD_": str(256 << 20),
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
}

ALLOCATOR = Setting(
    "allocator",
    "retain",
    ("retain", "system"),
    "`retain` keeps freed memory in the process, in huge pages (glibc); `system` is what a plain `python` does",
)


def allocator_environment(settings: Mapping[str, str]) -> dict[str, str]:
    """Environment variables of a worker process for these settings. Other C libraries ignore them."""
    return dict(_RETAIN) if settings[ALLOCATOR.name] == "retain" else {}
