"""What the machine offers: `setup` prints it once at the top of every notebook and returns it.

    env = setup("04")
    # cotlib 0.1.0, Python 3.11.7, torch 2.13.0, cpu float32, profile quick, seed 0

The number format follows the compute capability, not torch's own `is_bf16_supported`, which says yes on a T4 where
bfloat16 is only emulated and slow.
"""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass

import torch

from cotlib.lab.style import use_house_style


@dataclass(frozen=True)
class Environment:
    """Where and how a notebook computes."""

    device: torch.device
    dtype: torch.dtype
    quick: (
        bool  # the profile "quick": everything fits a laptop's two cores; COTLIB_PROFILE=full asks for more
    )
    seed: int


def setup(notebook: str = "", seed: int = 0, device: str = "auto") -> Environment:
    """Choose device and dtype, seed torch, set the house style, print one line, return the facts.

    notebook: its number, such as "04", for which the learner's minutes are counted from now on.
    """
    from cotlib.lab import clock  # it asks `headless` of this module

    chosen = torch.device(pick_device() if device == "auto" else device)
    env = Environment(chosen, pick_dtype(chosen), os.environ.get("COTLIB_PROFILE", "quick") == "quick", seed)
    torch.manual_seed(seed)
    use_house_style()
    clock.start(notebook)
    print(describe(env))
    return env


def pick_device() -> str:
    """ "cuda" when torch sees a GPU, else "cpu"."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def pick_dtype(device: torch.device, capability: tuple[int, int] | None = None) -> torch.dtype:
    """float32 on a CPU; on a GPU bfloat16 from compute capability 8.0 on, float16 below (a T4 has 7.5)."""
    if device.type != "cuda":
        return torch.float32
    capability = capability or torch.cuda.get_device_capability(device)
    return torch.bfloat16 if capability >= (8, 0) else torch.float16


def describe(env: Environment) -> str:
    """One line: versions, device, dtype, profile, seed."""
    where = env.device.type
    if where == "cuda":
        where = torch.cuda.get_device_name(env.device)
    parts = [
        f"cotlib {cotlib_version()}",
        f"Python {platform.python_version()}",
        f"torch {torch.__version__.split('+')[0]}",
        f"{where} {str(env.dtype).removeprefix('torch.')}",
        f"profile {'quick' if env.quick else 'full'}",
        f"seed {env.seed}",
    ]
    return ", ".join(parts)


def cotlib_version() -> str:
    """The installed version, or the package's own word when it runs from a clone."""
    from importlib.metadata import PackageNotFoundError, version

    import cotlib

    try:
        return getattr(cotlib, "__version__", None) or version("cotlib")
    except PackageNotFoundError:
        return "(clone)"


def headless() -> bool:
    """True where nobody can press a button: no notebook kernel, or a build or test run set COTLIB_HEADLESS."""
    if os.environ.get("COTLIB_HEADLESS"):
        return True
    try:
        from IPython import get_ipython
    except ImportError:
        return True
    return type(get_ipython()).__name__ not in ("ZMQInteractiveShell", "Shell")  # Jupyter's, Colab's
