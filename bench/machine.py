"""What the machine can do: versions, GEMM peak, copy bandwidth, peak memory of a call."""

from __future__ import annotations

import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch


def describe(device: torch.device) -> dict[str, str]:
    """Device, processor and versions, as a table's head needs them."""
    import numpy
    import transformers

    processor = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        fields = dict(line.split(":", 1) for line in info.read_text().splitlines() if ":" in line)
        names = {key.strip(): value.strip() for key, value in fields.items()}
        processor = f"{names.get('model name', processor)} (model {names.get('model', '?')})"
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    described = {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU",
        "processor": f"{processor}, {cores} cores",
        "torch threads": str(torch.get_num_threads()),
        "load average at start": f"{os.getloadavg()[0]:.2f}",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "numpy": numpy.__version__,
        "system": platform.platform(),
    }
    if device.type == "cuda":
        described["cuda"] = str(torch.version.cuda)
    return described


def seconds_of(call: Callable[[], object], device: torch.device) -> float:
    """Seconds of one call, the device's work included."""
    wait(device)
    began = time.perf_counter()
    call()
    wait(device)
    return time.perf_counter() - began


def wait(device: torch.device) -> None:
    """Until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def gemm_peak(device: torch.device, dtype: torch.dtype = torch.float32, repeats: int = 12) -> float:
    """FLOP/s of the best square matrix product."""
    side = 8192 if device.type == "cuda" else 1536
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    best = min(seconds_of(lambda: a @ b, device) for _ in range(repeats))
    return 2 * side**3 / best


def copy_bandwidth(device: torch.device, repeats: int = 7) -> float:
    """Bytes/s read plus written by a copy that no cache holds; the median."""
    source = torch.ones(512 * 2**20 // 4, device=device)
    target = torch.empty_like(source)
    target.copy_(source)
    taken = statistics.median(seconds_of(lambda: target.copy_(source), device) for _ in range(repeats))
    return 2 * source.numel() * 4 / taken


class PeakMemory:
    """A context; `megabytes` afterwards: the most that was held within it. Host: the process's resident set, which the
    weights are part of; CUDA: what torch had allocated. NaN where the system does not say (not Linux)."""

    def __init__(self, device: torch.device) -> None:
        self._device, self.megabytes = device, float("nan")

    def __enter__(self) -> PeakMemory:
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)
        elif sys.platform == "linux":
            Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts anew
        return self

    def __exit__(self, *error: object) -> None:
        if self._device.type == "cuda":
            self.megabytes = torch.cuda.max_memory_allocated(self._device) / 2**20
        elif sys.platform == "linux":
            lines = Path("/proc/self/status").read_text().splitlines()
            self.megabytes = int(next(line.split()[1] for line in lines if line.startswith("VmHWM"))) / 1024
