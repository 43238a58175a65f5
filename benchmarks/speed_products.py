"""Matrix products of a piece of work: how many operations they are, and how long nothing but these
products takes, which is as fast as the machine could do the work."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from pipeline.lanes import side_by_side

aten = torch.ops.aten


def _per_output(of: int) -> Callable[..., int]:
    """Operations of a product whose every output is a sum over one output of argument `of`."""
    return lambda out, *args: 2 * out.numel() * args[of][0].numel()


def _attention(out: Tensor, query: Tensor, key: Tensor, *_: Any) -> int:
    return 4 * query.numel() * key.shape[-2]


OPERATIONS: dict[Any, Callable[..., int]] = {
    aten.linear.default: _per_output(1),
    aten.conv1d.default: _per_output(1),
    aten.conv2d.default: _per_output(1),
    aten.conv2d.padding: _per_output(1),
    aten.matmul.default: lambda out, a, _: 2 * out.numel() * a.shape[-1],
    aten.mm.default: lambda out, a, _: 2 * out.numel() * a.shape[-1],
    aten.bmm.default: lambda out, a, _: 2 * out.numel() * a.shape[-1],
    aten.addmm.default: lambda out, _, a, __: 2 * out.numel() * a.shape[-1],
    aten.scaled_dot_product_attention.default: _attention,
}


class Products(TorchDispatchMode):
    """Counts the products that this thread computes inside the `with`. `operations`: additions
    and multiplications; `waits`: how often a value was fetched from the device (on a CPU: would
    be), for which the host waits."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[Any] = Counter()
        self.operations = 0
        self.waits = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if func in OPERATIONS:
            self.operations += OPERATIONS[func](out, *args)
            named = tuple((kwargs or {}).items())
            self.calls[func, _described(args), _described(named)] += 1
        elif func in (aten._local_scalar_dense.default, aten.nonzero.default):
            self.waits += 1
        return out

    @torch.inference_mode()
    def seconds(self, lanes: int) -> float:
        """The time that the same products take on `lanes` threads, on operands that lie ready."""
        shares = list(range(lanes))
        began = time.perf_counter()
        made = sum(side_by_side(lambda lane: self._repeat(lane, lanes), shares, lanes))
        return time.perf_counter() - began - made / lanes

    def _repeat(self, lane: int, lanes: int) -> float:
        """One lane's share. Gives the seconds in which operands were made, which do not count."""
        making = 0.0
        for at, ((func, args, named), count) in enumerate(self.calls.items()):
            began = time.perf_counter()
            operands, options = _made(args), dict(_made(named))
            making += time.perf_counter() - began
            for _ in range(count // lanes + ((at + lane) % lanes < count % lanes)):
                func(*operands, **options)
        return making


def _described(value: Any) -> Any:
    """Something hashable to make a like value of."""
    if isinstance(value, Tensor):
        return Tensor, tuple(value.shape), value.stride(), value.dtype
    if isinstance(value, list | tuple):
        return tuple, tuple(_described(part) for part in value)
    return value


def _made(described: Any) -> Any:
    if isinstance(described, tuple) and described[0] is tuple:
        return [_made(part) for part in described[1]]
    if isinstance(described, tuple) and described[0] is Tensor:
        _, shape, stride, dtype = described
        made = torch.empty_strided(shape, stride, dtype=dtype)
        return made.fill_(1) if dtype == torch.bool else made.uniform_(-1, 1)
    return described
