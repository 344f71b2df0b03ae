"""Which form of a kernel runs: Triton on a GPU, plain torch everywhere else.

Every kernel has two forms with the same arguments and results: `reference` in plain torch and `launch` for the Triton
kernel. The function with the kernel's own name picks one; its argument `kernel=False` turns Triton off. Triton runs on
CUDA tensors, when it is installed (the optional extra "gpu"), from compute capability 7.5 on, and where dtype and shape
suit the kernel. Otherwise the reference runs, and on a GPU a notice says why, once for each reason.

Without a GPU, `launch` runs in Triton's interpreter when TRITON_INTERPRET=1 was set before Triton was first imported.
It is exact but slow (milliseconds for each program), so it is for reading and testing: only `launch` itself uses it.
"""

import os
import warnings
from types import SimpleNamespace

import torch
from torch import Tensor

from cotlib.errors import UserError

try:
    import triton
    import triton.language as tl
except ImportError:
    triton, tl = None, SimpleNamespace(constexpr=object)  # enough to read the kernels' signatures

INTERPRETED = triton is not None and os.environ.get("TRITON_INTERPRET") == "1"
OLDEST = (7, 5)  # compute capability of a T4
_said: set[str] = set()


def jit(function):
    """`triton.jit`; without Triton the function stays as it is and `need_triton` keeps anybody from calling it."""
    return triton.jit(function) if triton else function


def cdiv(a: int, b: int) -> int:
    """a / b, rounded up."""
    return -(-a // b)


def power_of_two(n: int) -> int:
    """The smallest power of two that is at least n."""
    return 1 << max(0, n - 1).bit_length()


def rows_a_program(rows: int) -> int:
    """Rows that one program handles: `rows` on a GPU. The interpreter pays for programs, so there 64."""
    return 64 if INTERPRETED else rows


def product(a: Tensor, b: Tensor) -> Tensor:
    """Matrix product with a float32 result; half-precision numbers on a GPU go to its tensor cores as they are."""
    if a.is_cuda and a.dtype != torch.float32:
        return torch.mm(a, b, out_dtype=torch.float32)
    return a.float() @ b.float()


# ----- the choice ------------------------------------------------------------------------------------------------


def lacking(capability: tuple[int, int], installed: bool = triton is not None) -> str | None:
    """Why Triton cannot serve a GPU of this compute capability, or None."""
    if not installed:
        return "Triton is not installed; get it with: pip install triton"
    if capability < OLDEST:
        found, oldest = (".".join(map(str, c)) for c in (capability, OLDEST))
        return f"this GPU has compute capability {found}; Triton needs {oldest}"
    return None


def chosen(kernel: bool, tensor: Tensor, unfit: str | None) -> bool:
    """Whether the Triton form runs. unfit: why dtype or shape do not suit the kernel, or None when they do."""
    if not kernel or not tensor.is_cuda:
        return False
    reason = lacking(torch.cuda.get_device_capability(tensor.device)) or unfit
    if reason:
        notice(reason)
    return reason is None


def notice(reason: str) -> None:
    """Says once for each reason that plain torch stands in for the kernel."""
    if reason not in _said:
        _said.add(reason)
        warnings.warn(f"{reason}. Plain torch runs instead: same result, slower.", stacklevel=4)


def need_triton(tensor: Tensor, unfit: str | None) -> None:
    """UserError unless the Triton form can run on the tensor, compiled or interpreted."""
    if triton is None:
        raise UserError("Triton is not installed; get it with: pip install triton; or call reference()")
    if tensor.is_cuda and INTERPRETED:
        raise UserError("TRITON_INTERPRET=1 is set and tensors are on the GPU; unset it, or use the CPU")
    if not tensor.is_cuda and not INTERPRETED:
        raise UserError(f"the tensor is on the {tensor.device.type}; the Triton form takes CUDA tensors; call reference(), or "
                        "set TRITON_INTERPRET=1 before importing cotlib to run it in the interpreter")  # fmt: skip
    if tensor.is_cuda and (reason := lacking(torch.cuda.get_device_capability(tensor.device))):
        raise UserError(f"{reason}; call reference()")
    if unfit:
        raise UserError(f"{unfit}; call reference()")
