"""What the compiler makes of a kernel, for a GPU that need not be there: registers, spills, shared memory.

    python -m cotlib.kernels        a line for each kernel, case and compute capability

Triton's compiler and NVIDIA's assembler, which it brings along, need no driver. They find what the interpreter lets pass,
and what makes a kernel slow without making it wrong: a program that needs more registers than it has keeps the rest in
memory ("spills").
"""

import inspect
import os
import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cotlib.errors import UserError
from cotlib.kernels.launch import INTERPRETED, triton

CAPABILITIES = (75, 80, 90)  # T4; A100; H100 and H200


@dataclass(frozen=True)
class Build:
    """A kernel with all that the compiler must know.

    case: sizes and number format, for people. types: Triton's type of each argument that is no compile-time choice, as
    "*fp16" or "i32"; options: the module's `meta(...)`.
    """

    kernel: Any
    case: str
    types: dict[str, str]
    options: dict


@dataclass(frozen=True)
class Usage:
    """registers: of a thread; spills: bytes of registers that are written to memory and read again; shared: bytes of
    shared memory of a program."""

    registers: int
    spills: int
    shared: int


def need_compiler() -> None:
    """UserError where Triton's compiler is not to be had: without Triton, and when TRITON_INTERPRET=1 is set."""
    if triton is None or INTERPRETED:
        found = "Triton is not installed" if triton is None else "TRITON_INTERPRET=1 is set"
        raise UserError(
            f"{found}; expected Triton's compiler; install the extra gpu, and unset TRITON_INTERPRET"
        )


def assembly(build: Build, capability: int) -> tuple[str, int]:
    """(the kernel's PTX for a compute capability such as 75, bytes of shared memory).

    Pointers and 32-bit integers count as divisible by 16, as for real tensors. Errors as in `need_compiler`.
    """
    need_compiler()
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    names = build.kernel.arg_names
    fixed = {name: build.options[name] for name in names if name in build.options}
    signature = {name: "constexpr" if name in fixed else build.types[name] for name in names}
    whole = [i for i, name in enumerate(names) if signature[name][0] == "*" or signature[name] == "i32"]
    source = ASTSource(build.kernel, signature, fixed, {(i,): [["tt.divisibility", 16]] for i in whole})
    flags = {k: v for k, v in build.options.items() if k not in fixed}
    made = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=flags)
    return made.asm["ptx"], made.metadata.shared


def assembler(capability: int) -> str:
    """Path of the assembler that Triton itself takes for a compute capability; it brings more than one."""
    from triton.backends.nvidia.compiler import get_ptxas

    several = inspect.signature(get_ptxas).parameters  # not in Triton 3.5
    return (get_ptxas(capability) if several else get_ptxas()).path


def usage(build: Build, capability: int) -> Usage:
    """What the assembler says of the kernel; errors as in `need_compiler`."""
    ptx, shared = assembly(build, capability)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "kernel.ptx"
        file.write_text(ptx)
        arch = re.search(r"^\.target (\w+)", ptx, re.MULTILINE).group(1)
        command = [assembler(capability), "-v", f"--gpu-name={arch}", str(file), "-o", os.devnull]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    spilled = re.search(r"(\d+) bytes spill stores, (\d+) bytes spill loads", said).groups()
    registers = int(re.search(r"Used (\d+) registers", said).group(1))
    return Usage(registers, sum(map(int, spilled)), shared)


def table(builds: dict[str, list[Build]]) -> list[str]:
    """Lines of text: registers a thread, and bytes of spills where there are any, of each build on each of `CAPABILITIES`."""
    heads = [f"cc {c // 10}.{c % 10}" for c in CAPABILITIES]
    lines = [f"{'kernel':34s}{'case':30s}" + "".join(f"{head:>14s}" for head in heads)]
    for module, own in builds.items():
        for build in own:
            name = f"{module} {build.kernel.__name__.strip('_').removesuffix('kernel').strip('_')}".strip()
            cells = []
            for capability in CAPABILITIES:
                found = usage(build, capability)
                cells.append(f"{found.registers}" + (f" +{found.spills} B" if found.spills else ""))
            lines.append(f"{name:34s}{build.case:30s}" + "".join(f"{cell:>14s}" for cell in cells))
    return lines
