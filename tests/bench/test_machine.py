"""The machine's facts from made-up /proc and cgroup files, and once from the machine that runs the tests."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bench import machine

linux = pytest.mark.skipif(not Path("/proc/stat").is_file(), reason="needs Linux")
HZ = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with `proc`, `cgroup` and `cpufreq`, empty, that the module reads instead of the real ones."""
    for name in ("proc", "cgroup", "cpufreq"):
        (tmp_path / name).mkdir()
        monkeypatch.setattr(machine, name.upper(), tmp_path / name)
    return tmp_path


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


X86 = "processor\t: 0\nmodel name\t: Some CPU: 2 GHz\nflags\t\t: fpu avx avx2 avx512f amx_bf16 {}\n\nprocessor\t: 1\n"
ARM = "processor\t: 0\nFeatures\t: fp asimd asimddp i8mm {}\nCPU implementer\t: 0x41\nCPU part\t: 0xd0c\n\n"


# describe


def test_describe_is_strict_json_and_keeps_the_host_private() -> None:
    facts = machine.describe()
    json.dumps(facts, allow_nan=False)
    assert facts["cores_usable"] >= 1
    assert facts["memory_mib"] > 100
    assert facts["python"] == platform.python_version()
    assert "hostname" not in facts
    if len(platform.node()) > 4:
        assert platform.node() not in json.dumps({**facts, "os": "", "kernel": ""})


def test_x86_flags_and_model(fake: Path) -> None:
    write(fake / "proc/cpuinfo", X86.format("hypervisor"))
    facts = machine.describe()
    assert facts["cpu"] == "Some CPU: 2 GHz"
    assert facts["isa"] == ["avx", "avx2", "avx512f", "amx_bf16"]
    assert facts["virtualised"] is True
    write(fake / "proc/cpuinfo", X86.format(""))
    assert machine.describe()["virtualised"] is False


def test_arm_flags_and_model(fake: Path) -> None:
    write(fake / "proc/cpuinfo", ARM.format("bf16"))
    facts = machine.describe()
    assert facts["cpu"] == "implementer 0x41 part 0xd0c"
    assert set(facts["isa"]) == {"neon", "dotprod", "i8mm", "bf16"}
    assert facts["virtualised"] is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (X86.format(""), True),
        (X86.replace("amx_bf16", "avx512_bf16").format(""), True),
        (X86.replace("amx_bf16", "amx_int8").format(""), False),
        (ARM.format("bf16"), True),
        (ARM.format(""), False),
        ("", False),
    ],
)
def test_has_bf16(fake: Path, text: str, expected: bool) -> None:
    write(fake / "proc/cpuinfo", text)
    assert machine.has_bf16() is expected


def test_nothing_readable_is_none_not_a_guess(fake: Path) -> None:
    facts = machine.describe()
    assert facts["isa"] == []
    assert (facts["virtualised"], facts["governor"], facts["cpu_quota"]) == (None, None, None)


def test_affinity_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {1, 4, 5}, raising=False)
    assert machine.describe()["cores_usable"] == 3


def test_governor_of_the_usable_cores_only(fake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1}, raising=False)
    for core, governor in enumerate(["powersave", "performance", "schedutil"]):
        write(fake / f"cpufreq/cpu{core}/cpufreq/scaling_governor", governor + "\n")
    assert machine.describe()["governor"] == "performance,powersave"


# Control groups


def test_limits_of_version_2_are_the_tightest_up_to_the_root(fake: Path) -> None:
    write(fake / "proc/self/cgroup", "0::/pod/box\n")
    write(fake / "cgroup/pod/box/memory.max", "max\n")
    write(fake / "cgroup/pod/memory.max", f"{100 << 20}\n")
    write(fake / "cgroup/pod/box/cpu.max", "max 100000\n")
    write(fake / "cgroup/pod/cpu.max", "150000 100000\n")
    facts = machine.describe()
    assert facts["memory_mib"] == 100
    assert facts["cpu_quota"] == 1.5


def test_limits_of_version_1(fake: Path) -> None:
    write(fake / "proc/self/cgroup", "4:memory:/box\n3:cpu,cpuacct:/box\n1:name=systemd:/\n0::/\n")
    write(fake / "cgroup/memory/box/memory.limit_in_bytes", f"{50 << 20}\n")
    write(fake / "cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n")
    write(fake / "cgroup/cpu/box/cpu.cfs_quota_us", "50000\n")
    write(fake / "cgroup/cpu/box/cpu.cfs_period_us", "100000\n")
    write(fake / "cgroup/cpu/cpu.cfs_quota_us", "-1\n")
    write(fake / "cgroup/cpu/cpu.cfs_period_us", "100000\n")
    facts = machine.describe()
    assert facts["memory_mib"] == 50
    assert facts["cpu_quota"] == 0.5


def test_a_container_that_sees_the_hosts_group_name_reads_the_root(fake: Path) -> None:
    write(fake / "proc/self/cgroup", "4:memory:/docker/0123\n0::/../..\n")
    write(fake / "cgroup/memory/memory.limit_in_bytes", f"{70 << 20}\n")
    assert machine.describe()["memory_mib"] == 70


def test_no_limit_is_the_whole_machine(fake: Path) -> None:
    import psutil

    write(fake / "proc/self/cgroup", "0::/\n")
    write(fake / "cgroup/memory.max", "max\n")
    assert machine.describe()["memory_mib"] == psutil.virtual_memory().total >> 20


# GPUs


def fake_smi(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    tool = folder / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\n{script}\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)


def test_gpus_come_from_nvidia_smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_smi(tmp_path, monkeypatch, "echo 'NVIDIA H200, 143771, 570.1'; echo 'NVIDIA X, [N/A], 570.1'")
    assert machine.describe()["gpus"] == [
        {"name": "NVIDIA H200", "memory_mib": 143771, "driver": "570.1"},
        {"name": "NVIDIA X", "memory_mib": None, "driver": "570.1"},
    ]


@pytest.mark.parametrize("script", ["echo 'no driver'; exit 9", "echo 'Failed to initialize NVML'", "exec sleep 30"])
def test_a_broken_nvidia_smi_means_no_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    monkeypatch.setattr(machine, "TIMEOUT_S", 0.3)
    fake_smi(tmp_path, monkeypatch, script)
    assert machine.describe()["gpus"] == []


def test_without_nvidia_smi_there_is_no_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert machine.describe()["gpus"] == []


# Versions and commit


def test_versions_of_what_is_installed() -> None:
    import numpy

    found = machine.versions()
    assert found["numpy"] == numpy.__version__
    assert all(isinstance(version, str) and version for version in found.values())
    assert "polygraphy-does-not-exist" not in found


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=t", "-c", "user.email=t@t", "-c", "commit.gpgsign=false"]
    command = ["git", "-C", str(folder), *identity, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with bench/machine.py in it, of which the module believes that it is its own."""
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    source = tmp_path / "repo" / "bench" / "machine.py"
    write(source, "x = 1\n")
    git(source.parent, "init", "-q", str(tmp_path / "repo"))
    monkeypatch.setattr(machine, "SOURCE", source)
    return source


def test_commit_of_the_checkout_and_whether_it_was_changed(checkout: Path) -> None:
    git(checkout.parent, "add", ".")
    git(checkout.parent, "commit", "-q", "-m", "one")
    head = git(checkout.parent, "rev-parse", "HEAD")
    assert machine.commit() == head
    write(checkout.parent / "runs.json", "{}")  # results lying about are no change of the program
    assert machine.commit() == head
    write(checkout, "x = 2\n")
    assert machine.commit() == f"{head}+dirty"


def test_a_package_installed_inside_somebodys_checkout_has_no_commit(checkout: Path) -> None:
    write(checkout.parent / "theirs.py", "")
    git(checkout.parent, "add", "theirs.py")
    git(checkout.parent, "commit", "-q", "-m", "theirs")
    assert machine.commit() is None


def test_commit_ignores_the_repository_of_a_git_hook(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    git(checkout.parent, "add", ".")
    git(checkout.parent, "commit", "-q", "-m", "one")
    monkeypatch.setenv("GIT_DIR", "/nonexistent")
    assert machine.commit() is not None


def test_commit_never_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "SOURCE", tmp_path / "gone" / "machine.py")
    assert machine.commit() is None
    monkeypatch.setenv("PATH", str(tmp_path))
    assert machine.commit() is None


# Load


def test_sample_load_reads_the_line_of_all_cores(fake: Path) -> None:
    write(fake / "proc/stat", "cpu  100 20 30 400 50 6 7 8 90 10\ncpu0 1 1 1 1 1 1 1 1 0 0\n")
    load = machine.sample_load()
    assert (load.total, load.idle, load.iowait, load.steal) == (621, 400, 50, 8)  # guest time is within user and nice


def test_load_between_shares() -> None:
    before = machine.Load(wall_s=10.0, total=1000, idle=500, iowait=10, steal=20)
    after = machine.Load(wall_s=14.0, total=2000, idle=800, iowait=60, steal=120)
    found = machine.load_between(before, after, own_cpu_s=400 / HZ)
    # 1000 ticks: 300 idle, 50 iowait, 100 stolen, 400 ours; 150 are left.
    assert found == pytest.approx({"steal_share": 0.1, "foreign_share": 0.15, "wall_s": 4.0})


def test_load_between_never_goes_below_zero() -> None:
    before = machine.Load(wall_s=0.0, total=1000, idle=500, iowait=30, steal=20)
    after = machine.Load(wall_s=1.0, total=1100, idle=560, iowait=25, steal=20)  # the kernel took iowait back
    found = machine.load_between(before, after, own_cpu_s=60 / HZ)
    assert found == {"steal_share": 0.0, "foreign_share": 0.0, "wall_s": 1.0}


def test_load_is_unknown_without_counters_or_ticks(fake: Path) -> None:
    before, after = machine.sample_load(), machine.sample_load()
    found = machine.load_between(before, after, own_cpu_s=0.0)
    assert (found["steal_share"], found["foreign_share"]) == (None, None)
    still = machine.Load(wall_s=0.0, total=5, idle=1, iowait=1, steal=1)
    assert machine.load_between(still, still, own_cpu_s=0.0)["foreign_share"] is None


@linux
def test_a_busy_process_of_others_is_seen_and_our_own_is_not() -> None:
    """Counted in ticks of the child's own processor time, so that a busy machine cannot make it fail."""
    code = "print(flush=True)\nwhile True: pass"
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    try:
        assert child.stdout is not None
        child.stdout.readline()
        used, before = cpu_s(child.pid), machine.sample_load()
        time.sleep(1.0)
        used, after = cpu_s(child.pid) - used, machine.sample_load()
    finally:
        child.kill()
        child.communicate()
    assert after.total is not None
    assert before.total is not None
    share = used * HZ / (after.total - before.total)
    as_foreign = machine.load_between(before, after, own_cpu_s=0.0)["foreign_share"]
    as_ours = machine.load_between(before, after, own_cpu_s=used)["foreign_share"]
    assert as_foreign is not None
    assert as_ours is not None
    assert share > 0.05
    assert as_foreign > 0.8 * share
    assert as_foreign - as_ours == pytest.approx(min(share, as_foreign))


def cpu_s(pid: int) -> float:
    """Processor time of a process, in seconds: fields utime and stime of proc_pid_stat(5)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / HZ


def test_the_module_needs_neither_torch_nor_psutil_to_be_imported() -> None:
    code = "import sys, bench.machine; sys.exit(bool({'torch', 'numpy', 'psutil'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
