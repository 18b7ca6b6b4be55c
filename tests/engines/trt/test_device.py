"""The CUDA calls: against a runtime in host memory, and their names and arguments against cuda-python's own."""

from __future__ import annotations

import ast
import importlib.util
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from engines.installed import cuda_device_count
from engines.trt import device as device_file
from engines.trt.device import Device, DeviceArray, address_of, bus_address, capability, device_memory, device_words
from reference_models.errors import UserError


def test_bytes_come_back_as_they_went(cuda):
    device = Device(0)
    data = np.arange(50, dtype=np.uint8)
    there, back = device.allocate(50), np.zeros(50, np.uint8)
    device.upload(there, data.ctypes.data, 50)
    device.download(back.ctypes.data, there, 50)
    device.synchronize()
    assert np.array_equal(back, data)
    device.close()
    assert cuda.live == {}


def test_freed_memory_is_not_freed_again(cuda):
    device = Device(0)
    device.free(device.allocate(10))
    device.free(device.allocate_pinned(10))
    device.close()
    device.close()
    assert cuda.live == {}


def test_a_captured_call_runs_when_it_is_replayed_and_only_the_last_capture_is_kept(cuda):
    device, ran = Device(0), []
    device.capture(lambda: cuda.recording.append(lambda: ran.append("first")))
    device.capture(lambda: cuda.recording.append(lambda: ran.append("second")))
    assert ran == []
    device.replay()
    device.replay()
    assert ran == ["second", "second"]
    assert [kind for kind, _ in cuda.live.values()].count("executable") == 1
    device.close()
    assert cuda.live == {}


def test_what_the_device_says_of_itself(cuda):
    assert capability(0) == (8, 9)
    assert [bus_address(index) for index in (0, 5)] == ["0000:65:00.0", "0000:6a:00.0"]
    assert device_words(0) == "Fake GPU, driver 13000"
    assert device_memory(0) == 8 << 30
    assert cuda.live == {}


def test_an_error_of_the_driver_is_named(cuda):
    device = Device(0)
    cuda.cudaStreamSynchronize = lambda stream: (cuda.cudaError_t.cudaErrorLaunchFailure,)
    with pytest.raises(RuntimeError, match="CUDA: cudaErrorLaunchFailure"):
        device.synchronize()


class Foreign:
    def __init__(self, **told):
        base = {"shape": (1, 3, 4, 6), "typestr": "<f4", "data": (640, False), "strides": None, "version": 3}
        self.__cuda_array_interface__ = {**base, **told}


def test_an_array_of_somebody_s_is_taken_by_its_address():
    for strides in (None, (288, 96, 24, 4)):
        assert address_of(Foreign(strides=strides), (1, 3, 4, 6), np.dtype(np.float32)) == 640


@pytest.mark.parametrize(
    ("array", "named"),
    [
        (np.zeros((1, 3, 4, 6), np.float32), "ndarray has no __cuda_array_interface__"),
        (Foreign(shape=(1, 3, 6, 4)), "got float32 (1, 3, 6, 4)"),
        (Foreign(typestr="<f2"), "got float16"),
        (Foreign(strides=(288, 4, 72, 12)), "strides (288, 4, 72, 12)"),
    ],
)
def test_an_array_that_is_not_what_is_read_is_refused(array, named):
    with pytest.raises(UserError) as error:
        address_of(array, (1, 3, 4, 6), np.dtype(np.float32))
    assert named in str(error.value)


def test_our_own_array_can_be_taken_too():
    owner = SimpleNamespace(ticket={640: 1}.get)
    ours = DeviceArray(640, (2, 3), np.dtype(np.float16), 7, owner, 1)
    assert address_of(ours, (2, 3), np.dtype(np.float16)) == 640
    assert ours.__cuda_array_interface__["stream"] == 7


@pytest.mark.parametrize(
    ("told", "waited"),
    [
        ({"version": 2}, ["synchronize device"]),
        ({}, ["synchronize device"]),
        ({"version": 3, "stream": 77}, ["synchronize 77"]),
        ({"version": 3, "stream": 1}, ["synchronize 1"]),
        ({"version": 3, "stream": 2}, ["synchronize device"]),
        ({"version": 3, "stream": None}, []),
        ({"version": 3}, []),
    ],
)
def test_who_still_writes_an_array_is_waited_for(told, waited, cuda):
    device = Device(0)
    cuda.calls.clear()
    device.wait_for_writer(SimpleNamespace(__cuda_array_interface__=told))
    assert cuda.calls == waited
    device.close()


def test_every_call_exists_in_cuda_python_with_as_many_arguments(request):
    if importlib.util.find_spec("cuda") is None:
        pytest.skip("Python package cuda-python is not installed")
    from cuda.bindings import runtime

    found, missing = set(), []
    for node in ast.walk(ast.parse(Path(device_file.__file__).read_text())):
        call = node.func if isinstance(node, ast.Call) else node
        if isinstance(call, ast.Attribute) and ast.unparse(call.value) in {"cudart", "self._cuda"}:
            found.add(call.attr)
            if not hasattr(runtime, call.attr):
                missing.append(call.attr)
            elif isinstance(node, ast.Call) and not any(isinstance(a, ast.Starred) for a in node.args):
                declared = re.match(r"\w+\((.*?)\)", runtime.__dict__[call.attr].__doc__.splitlines()[0])[1]
                if len(node.args) != len([part for part in declared.split(",") if part.strip()]):
                    missing.append(f"{call.attr}({declared}) called with {len(node.args)}")
    assert {"cudaMemcpyAsync", "cudaGraphInstantiate", "cudaStreamBeginCapture"} <= found
    assert missing == []


def test_cuda_python_takes_the_kinds_of_arguments_that_are_given():
    """Without a driver, a call with arguments of wrong kinds raises, and every other one answers with an error."""
    if importlib.util.find_spec("cuda") is None or cuda_device_count():
        pytest.skip("needs the Python package cuda-python and no CUDA device")
    from cuda.bindings import runtime as real

    to_device = real.cudaMemcpyKind.cudaMemcpyHostToDevice
    event, graph, executable = real.cudaEvent_t(0), real.cudaGraph_t(0), real.cudaGraphExec_t(0)
    mode = real.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
    for answer in (
        real.cudaSetDevice(0), real.cudaStreamCreateWithFlags(real.cudaStreamNonBlocking), real.cudaEventCreate(),
        real.cudaMalloc(16), real.cudaHostAlloc(16, real.cudaHostAllocDefault), real.cudaMemGetInfo(),
        real.cudaMemcpyAsync(640, 320, 16, to_device, 7), real.cudaStreamSynchronize(7), real.cudaEventRecord(event, 7),
        real.cudaStreamBeginCapture(7, mode), real.cudaGraphLaunch(executable, 7), real.cudaStreamDestroy(7),
        real.cudaDeviceGetAttribute(real.cudaDeviceAttr.cudaDevAttrComputeCapabilityMajor, 0),
        real.cudaStreamWaitEvent(7, event, 0), real.cudaMemsetAsync(640, 0, 16, 7),
        real.cudaDeviceGetAttribute(real.cudaDeviceAttr.cudaDevAttrL2CacheSize, 0), real.cudaDeviceSynchronize(),
        real.cudaGetDevice(), real.cudaPointerGetAttributes(640),
        real.cudaMemcpyAsync(640, 320, 16, real.cudaMemcpyKind.cudaMemcpyDeviceToDevice, 7),
    ):  # fmt: skip
        assert answer[0] != real.cudaError_t.cudaSuccess
    assert int(real.cudaStream_t(7)) == 7
    assert (int(graph), int(executable)) == (0, 0)
