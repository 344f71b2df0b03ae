"""How kernels are tested where there is no GPU (and, in the same words, where there is one).

Functions named `kernel_*` in a `test_kernel_*.py` run the Triton form. Pytest does not collect them by itself:
`run_kernels` does, in a process of its own, as the interpreter must be switched on before Triton is imported. They
run in the interpreter, and on a GPU compiled as well. `spills` runs Triton's compiler and NVIDIA's assembler for a GPU
that need not be there: it finds what the interpreter accepts and a GPU does not.
"""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import torch

from cotlib.kernels.launch import INTERPRETED, triton

HERE = Path(__file__).parent
GPU = torch.cuda.is_available()
DEVICE = "cuda" if GPU and not INTERPRETED else "cpu"  # where kernel_* functions put their tensors
PLACES = ["interpreter", *(["gpu"] if GPU else [])]
DTYPES = [torch.float32, torch.float16]
if DEVICE == "cuda" and torch.cuda.get_device_capability() >= (8, 0):
    DTYPES.append(torch.bfloat16)  # the interpreter's bfloat16 is wrong
CAPABILITIES = [75, 80, 90]

needs_triton = pytest.mark.skipif(
    triton is None or INTERPRETED,
    reason="Triton is not installed (the extra gpu), or TRITON_INTERPRET is set",
)


def run_kernels(file: str, place: str) -> None:
    """Runs the file's `kernel_*` functions in a process of its own; fails with pytest's report when one fails."""
    environ = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    environ |= {"TRITON_INTERPRET": "1"} if place == "interpreter" else {}
    environ |= {"PYTHONPATH": f"{HERE}{os.pathsep}{HERE.parent}", "PYTEST_KERNELS": "1"}
    options = ["-q", "-x", "-p", "no:cacheprovider", "-p", "kernel_tools", "-o", "python_functions=kernel_*"]
    command = [sys.executable, "-m", "pytest", *options, file]
    done = subprocess.run(command, cwd=HERE.parent, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert " passed" in done.stdout and " skipped" not in done.stdout, done.stdout[-2000:]


@pytest.fixture(autouse="PYTEST_KERNELS" in os.environ)
def poisoned(monkeypatch):
    """`torch.empty` gives NaN and -1, so that an output which nobody wrote does not look right."""
    for name, original in (("empty", torch.empty), ("empty_like", torch.empty_like)):

        def make(*arguments, original=original, **options):
            fresh = original(*arguments, **options)
            return fresh.fill_(float("nan") if fresh.is_floating_point() else -1)

        monkeypatch.setattr(torch, name, make)


def assembly(kernel, types: dict[str, str], options: dict, capability: int) -> str:
    """The kernel's PTX for a compute capability.

    types: Triton's type of each argument that is not a compile-time choice, as "*fp16" or "i32"; options: the module's
    `meta(...)`. Pointers and 32-bit integers count as divisible by 16, as for real tensors.
    """
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    names = kernel.arg_names
    fixed = {name: options[name] for name in names if name in options}
    signature = {name: "constexpr" if name in fixed else types[name] for name in names}
    whole = [i for i, name in enumerate(names) if signature[name][0] == "*" or signature[name] == "i32"]
    source = ASTSource(kernel, signature, fixed, {(i,): [["tt.divisibility", 16]] for i in whole})
    flags = {k: v for k, v in options.items() if k not in fixed}
    return triton.compile(source, target=GPUTarget("cuda", capability, 32), options=flags).asm["ptx"]


def spills(ptx: str, capability: int) -> int:
    """Bytes of registers that NVIDIA's assembler has to keep in memory."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "kernel.ptx"
        file.write_text(ptx)
        arch = re.search(r"^\.target (\w+)", ptx, re.MULTILINE).group(1)
        assert arch.startswith(f"sm_{capability}"), arch
        command = [triton.knobs.nvidia.ptxas.path, "-v", f"--gpu-name={arch}", str(file), "-o", os.devnull]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    return sum(map(int, re.search(r"(\d+) bytes spill stores, (\d+) bytes spill loads", said).groups()))
