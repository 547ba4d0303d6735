"""FLOPs and bytes of a call's matrix products, counted as they run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

_PRODUCTS = ("mm", "addmm", "bmm", "baddbmm", "convolution", "convolution_backward")


@dataclass(frozen=True)
class Work:
    """flops: of all products (a multiply and an add are two). bytes: what these products must read and write, every
    operand once a product, attention's scores left out, as fused attention never writes them."""

    flops: float
    bytes: float


class _Bytes(TorchDispatchMode):
    """Sums the operands of products."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.total = 0

    def __torch_dispatch__(
        self, function: Any, types: object, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = function(*args, **(kwargs or {}))
        name = function.overloadpacket.__name__
        if name in _PRODUCTS or name.startswith("_scaled_dot_product"):
            tensors = [leaf for leaf in tree_leaves((args, result)) if isinstance(leaf, torch.Tensor)]
            self.total += sum(tensor.numel() * tensor.element_size() for tensor in tensors)
        return result


def count(call: Callable[[], object]) -> Work:
    """The work of a call. It is called twice: once with attention in its parts, which all are counted, and once as it
    is, for the bytes."""
    counter = FlopCounterMode(display=False)
    with sdpa_kernel(SDPBackend.MATH), counter:
        call()
    with _Bytes() as operands:
        call()
    return Work(float(counter.get_total_flops()), float(operands.total))
