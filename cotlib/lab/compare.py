"""Compare what two functions returned: tensors, arrays, numbers, sets, and tuples or lists of these."""

from __future__ import annotations

import copy
import math
from collections.abc import Set
from numbers import Number

import numpy as np
import torch


def fresh(args: tuple) -> tuple:
    """A copy of the arguments, so that a function that writes into them spoils nothing."""
    return tuple(
        arg.detach().clone() if isinstance(arg, torch.Tensor) else copy.deepcopy(arg) for arg in args
    )


def same(a, b, tolerance: float) -> bool:
    """Equal up to `tolerance`, in kind, shape and every number. Tensors of whole numbers must stay whole."""
    return difference(a, b, tolerance) == ""


def difference(got, wanted, tolerance: float = 1e-5) -> str:
    """What differs, in a few words; empty when nothing does."""
    if isinstance(wanted, Set):
        try:
            return "" if set(got) == set(wanted) else "another set"
        except TypeError:
            return f"a {type(got).__name__} where a set was expected"
    if isinstance(wanted, (tuple, list)):
        if not isinstance(got, (tuple, list)) or len(got) != len(wanted):
            return f"expected {len(wanted)} values"
        return next(
            (text for a, b in zip(got, wanted, strict=True) if (text := difference(a, b, tolerance))), ""
        )
    if isinstance(wanted, (torch.Tensor, np.ndarray)) or isinstance(got, (torch.Tensor, np.ndarray)):
        return _tensor_difference(got, wanted, tolerance)
    if isinstance(wanted, Number) and isinstance(got, Number):
        return "" if math.isclose(got, wanted, rel_tol=0, abs_tol=tolerance) else "another number"
    return "" if type(got) is type(wanted) and got == wanted else f"a {type(got).__name__}"


def _tensor_difference(got, wanted, tolerance: float) -> str:
    try:
        a, b = torch.as_tensor(got), torch.as_tensor(wanted)
    except (TypeError, ValueError, RuntimeError):
        return f"a {type(got).__name__} where a tensor was expected"
    if a.shape != b.shape:
        return f"shape {tuple(a.shape)} where {tuple(b.shape)} was expected"
    if isinstance(wanted, torch.Tensor) and _kind(a) != _kind(b):
        return f"{a.dtype} where {b.dtype} was expected"
    a, b = a.detach().double(), b.detach().double()
    far = ~torch.isclose(a, b, rtol=tolerance, atol=tolerance, equal_nan=True)
    return f"{int(far.sum())} of {far.numel()} numbers" if far.any() else ""


def _kind(tensor: torch.Tensor) -> str:
    return "truth" if tensor.dtype == torch.bool else "float" if tensor.is_floating_point() else "whole"


def brief(value, room: int = 160) -> str:
    """A value in one line, shortened."""
    if isinstance(value, tuple):
        text = ", ".join(brief(item, room) for item in value)
    elif isinstance(value, torch.Tensor):
        flat = [
            f"{x:.4g}" if isinstance(x, float) else str(x) for x in value.detach().flatten()[:12].tolist()
        ]
        dots = ", ..." if value.numel() > 12 else ""
        text = f"tensor {list(value.shape)}: {', '.join(flat)}{dots}" if value.ndim else flat[0]
    elif isinstance(value, float):
        text = f"{value:.6g}"
    elif isinstance(value, Set):
        text = "{" + ", ".join(repr(item) for item in sorted(value, key=str)) + "}"
    else:
        text = repr(value)
    return text if len(text) <= room else text[: room - 3] + "..."
