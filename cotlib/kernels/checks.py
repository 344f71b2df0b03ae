"""What the kernels refuse, in the same words everywhere: what was found, what was expected.

`check...` raise; `unfit...` return why a Triton kernel cannot take a tensor that plain torch can. Numbers inside a tensor
are looked at only where that is free (`readable`): on a GPU the host would have to wait, and no graph could be recorded.
"""

import torch
from torch import Tensor

from cotlib.errors import UserError

FLOATS = (torch.float32, torch.float16, torch.bfloat16)


def check(right: bool, found: str, expected: str) -> None:
    """UserError with what was found and what was expected, unless right."""
    if not right:
        raise UserError(f"{found}; expected {expected}")


def readable(tensor: Tensor) -> bool:
    """Whether the host can look at a tensor's numbers without waiting for a device."""
    return not tensor.is_cuda


def check_float(name: str, tensor: Tensor, dims: int) -> None:
    """UserError unless the tensor has floats and this many dimensions."""
    check(tensor.is_floating_point(), f"{name} has dtype {tensor.dtype}", "floats")
    check(tensor.dim() == dims, f"{name} has shape {list(tensor.shape)}", f"{dims} dimensions")


def check_shape(name: str, tensor: Tensor, shape: tuple[int, ...], like: Tensor) -> None:
    """UserError unless the tensor has this shape and lies on the device of `like`."""
    check(tuple(tensor.shape) == tuple(shape), f"{name} has shape {list(tensor.shape)}", str(list(shape)))
    check(tensor.device == like.device, f"{name} is on {tensor.device}", f"{like.device}, as the others")


def check_long(name: str, tensor: Tensor) -> None:
    """UserError unless the tensor has 64-bit integers."""
    check(tensor.dtype == torch.long, f"{name} has dtype {tensor.dtype}", "torch.int64")


def unfit_dtype(name: str, tensor: Tensor) -> str | None:
    """Why a kernel cannot read this tensor's numbers, or None."""
    if tensor.dtype not in FLOATS:
        return f"{name} has dtype {tensor.dtype}; the kernel reads float32, float16 and bfloat16"
    return None


def unfit_floats(name: str, tensor: Tensor) -> str | None:
    """Why a kernel without a gradient cannot read this tensor of floats along its last dimension, or None."""
    if tensor.shape[-1] > 1 and tensor.stride(-1) != 1:
        return f"{name} is not contiguous along its last dimension; call .contiguous() first"
    if torch.is_grad_enabled() and tensor.requires_grad:
        return f"{name} wants a gradient, which the kernel does not give"
    return unfit_dtype(name, tensor)
