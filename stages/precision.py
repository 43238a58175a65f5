"""Networks in lower precision than they were published in."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor, nn

from pipeline.errors import ModelError
from stages.compute import Precision

_STEPS = 127  # of an input: eight whole bits would overflow on processors without VNNI
_WEIGHT_STEPS = 127  # to both sides of zero


def compute_in(precision: Precision, device: str | torch.device, *modules: nn.Module) -> None:
    """Lets modules compute so. ModelError where that cannot be done on `device`."""
    if precision == "int8":
        if torch.device(device).type != "cpu":
            raise ModelError(
                f"precision int8 is for CPUs: on {device} set asr.precision=bfloat16 or float16"
            )
        for module in modules:
            _to_int8(module)
    elif precision != "float32":
        for module in modules:
            module.to(getattr(torch, precision))


def _to_int8(module: nn.Module) -> None:
    for name, child in module.named_children():
        if isinstance(child, nn.Linear):
            setattr(module, name, Int8Linear(child))
        else:
            _to_int8(child)


class Int8Linear(nn.Module):
    """A linear layer whose products are those of integers. Each output has a scale for its
    weights; each row of the input is measured from its least to its largest value, so that a row's
    result does not depend on the others (but for float rounding, which may tip a whole number over
    to the next), as it would with one scale for a whole batch."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        weight = linear.weight.detach()
        scales = (weight.abs().amax(dim=1) / _WEIGHT_STEPS).clamp(min=1e-12).double()
        zeros = torch.zeros(len(weight), dtype=torch.long)
        with warnings.catch_warnings():
            # Tensors of integers are to leave torch one day. What is to follow them (oneDNN's
            # qlinear_pointwise in 2.13) is slower than float32 on processors without VNNI.
            warnings.simplefilter("ignore", UserWarning)
            integers = torch.quantize_per_channel(weight, scales, zeros, 0, torch.qint8)
        self.packed = torch.ops.quantized.linear_prepack(integers, None)
        self.sums = integers.dequantize().sum(dim=1)  # what a row's least value is multiplied with
        self.bias = linear.bias

    def forward(self, x: Tensor) -> Tensor:
        """[..., inputs] to [..., outputs], float32."""
        least, largest = torch.aminmax(x, dim=-1, keepdim=True)
        reach = (largest - least).clamp_(min=1e-12)
        y: Tensor = torch.ops.quantized.linear_with_input_q_dq_qweight_dq_output_fp32(
            (x - least).div_(reach), 1 / _STEPS, 0, self.packed
        )
        y = y.mul_(reach).addcmul_(least, self.sums)
        return y if self.bias is None else y.add_(self.bias)
