"""How the networks are run on a device: number format, upload, CPU threads. Knows nothing of the networks."""

from __future__ import annotations

import gc
import os
import statistics
import time
from collections.abc import Callable, Hashable, Mapping
from functools import partial
from typing import TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from esam_perception.environment.allocation import trim
from esam_perception.errors import InvalidDevice

Key = TypeVar("Key", bound=Hashable)
PRECISIONS = ("auto", "float32", "bfloat16")
# What the products of a network are; everything else (LayerNorm, embeddings, position tables, heads) stays float32.
_PRODUCTS = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)
_WORTH = 1.15  # so much faster must more threads be: each one is a core taken from the rest of the robot
_MOST_THREADS = 16


def choose_precision(name: str, device: torch.device) -> torch.dtype:
    """The number format of matrix products. `auto`: bfloat16 on CUDA devices that have it (compute capability 8.0 and
    later), float32 elsewhere. There is no float16: Grad-CAM's gradients are of the order of 1e-7, where it underflows.

    Raises InvalidDevice for another name and where the device has no bfloat16.
    """
    if name not in PRECISIONS:
        raise InvalidDevice(f"precision must be one of {PRECISIONS}, got {name!r}")
    cuda = device.type == "cuda"
    has_bfloat16 = not cuda or torch.cuda.get_device_capability(device) >= (8, 0)
    if name == "bfloat16" and not has_bfloat16:
        raise InvalidDevice(f"{device} has no bfloat16; use precision auto or float32")
    return torch.bfloat16 if name == "bfloat16" or (name == "auto" and cuda and has_bfloat16) else torch.float32


def hold_weights_in(module: nn.Module, dtype: torch.dtype, but: tuple[type[nn.Module], ...] = ()) -> None:
    """Cast the weights of linear layers and convolutions once, in place, which autocast would otherwise do in every
    frame; all of them but those inside modules of the types `but`. Such a module runs under autocast of that dtype
    only."""
    if isinstance(module, _PRODUCTS):
        module.to(dtype)
    for part in module.children():
        if not isinstance(part, but):
            hold_weights_in(part, dtype, but)


def mixed_precision(device: torch.device, dtype: torch.dtype) -> torch.autocast:
    """The context that a module runs in; does nothing for float32."""
    return torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32)


def at_least_float32(x: Tensor) -> Tensor:
    """What must not be rounded coarsely: bfloat16 becomes float32; float32 and float64 are returned as they are."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def upload(image: np.ndarray, device: torch.device) -> Tensor:
    """uint8 [H, W, 3] -> uint8 [1, H, W, 3] on the device; to CUDA through pinned memory, without waiting."""
    pixels = torch.from_numpy(np.ascontiguousarray(image))[None]
    if device.type == "cuda":
        return pixels.pin_memory().to(device, non_blocking=True)
    return pixels.to(device)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the host's or the GPU's memory ran out."""
    return isinstance(error, (MemoryError, torch.cuda.OutOfMemoryError))


def is_of_the_device(error: BaseException) -> bool:
    """Whether memory ran out, or the GPU failed: then the next frame may fail too, and this one may not tomorrow."""
    # from torch 2.8 on; before, a RuntimeError that says so
    if is_out_of_memory(error) or isinstance(error, getattr(torch, "AcceleratorError", ())):
        return True
    said = ("CUDA error", "CUDNN", "CUBLAS", "not enough memory", "can't allocate memory")
    return isinstance(error, RuntimeError) and any(words in str(error) for words in said)


def free_memory() -> None:
    """Give back what nobody refers to any more: to the system, and on the GPU to other processes."""
    gc.collect()
    trim()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def choose_threads() -> int:
    """CPU threads for torch, by a measurement of less than a second: the fewest that do a matrix product of the size of
    the networks' own nearly as fast as any number does.

    What else runs counts too: two threads on two cores that others use are slower than one, as each product waits for
    the slower half. The number that torch is set to is left as it is.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    candidates = [1]
    while candidates[-1] * 2 <= min(cores, _MOST_THREADS):
        candidates.append(candidates[-1] * 2)
    if len(candidates) == 1:
        return 1
    before = torch.get_num_threads()
    multiply = _product(torch.float32)

    def multiply_in(threads: int) -> None:
        torch.set_num_threads(threads)
        multiply()

    try:
        return fewest_worthwhile(measure({count: partial(multiply_in, count) for count in candidates}, rounds=6))
    finally:
        torch.set_num_threads(before)


def slow_precision(
    dtype: torch.dtype, device: torch.device, seconds: Callable[[], dict[torch.dtype, float]] | None = None
) -> str | None:
    """A warning where bfloat16 is slower than float32, which many CPUs do not multiply in hardware; None elsewhere. It
    takes the time of a product of the networks' size in both (`seconds`: by number format)."""
    if dtype != torch.bfloat16 or device.type != "cpu":
        return None
    formats = (torch.float32, torch.bfloat16)
    taken = seconds() if seconds else measure({one: _product(one) for one in formats}, rounds=4)
    ratio = taken[torch.bfloat16] / taken[torch.float32]
    if round(ratio, 1) <= 1:
        return None
    return f"bfloat16 is {ratio:.1f} times slower than float32 on this CPU; use precision auto or float32"


def measure(actions: Mapping[Key, Callable[[], object]], rounds: int) -> dict[Key, float]:
    """Median seconds of each action, which run in turn, so that a disturbance meets all of them; the first round warms
    up."""
    seconds: dict[Key, list[float]] = {name: [] for name in actions}
    for _ in range(rounds):
        for name, action in actions.items():
            began = time.perf_counter()
            action()
            seconds[name].append(time.perf_counter() - began)
    return {name: statistics.median(taken[1:]) for name, taken in seconds.items()}


def _product(dtype: torch.dtype) -> Callable[[], Tensor]:
    """A linear layer of the size of BLIP's perceptrons. (A plain matrix product has other kernels: in bfloat16 without
    hardware for it, ten times slower ones.)"""
    tokens, weights = torch.rand(577, 768).to(dtype), torch.rand(3072, 768).to(dtype)
    return lambda: F.linear(tokens, weights)


def fewest_worthwhile(seconds: dict[int, float]) -> int:
    """Of seconds by number of threads, the number to use: more only where they are worth it."""
    chosen, *more = sorted(seconds)
    for count in more:
        if seconds[count] * _WORTH < seconds[chosen]:
            chosen = count
    return chosen
