"""How kernels are tested where there is no GPU (and, in the same words, where there is one).

Functions named `kernel_*` in a `test_kernel_*.py` run the Triton form. Pytest does not collect them by itself:
`run_kernels` does, in a process of its own, as the interpreter must be switched on before Triton is imported. They
run in the interpreter, and on a GPU compiled as well. `check_builds` runs Triton's compiler and NVIDIA's assembler for a
GPU that need not be there: it finds what the interpreter accepts and a GPU does not. `pretend_gpu` runs everything
around the kernels as on a GPU, without numbers.
"""

import os
import re
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from unittest import mock

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

from cotlib.kernels.compiled import CAPABILITIES, assembly, usage
from cotlib.kernels.launch import INTERPRETED, triton

__all__ = ["CAPABILITIES", "DEVICE", "DTYPES", "GPU", "PLACES", "Listener", "check_builds", "check_ones", "listening",
           "needs_triton", "poisoned", "pretend_gpu", "run_kernels"]  # fmt: skip
HERE = Path(__file__).parent
GPU = torch.cuda.is_available()
DEVICE = "cuda" if GPU and not INTERPRETED else "cpu"  # where kernel_* functions put their tensors
PLACES = ["interpreter", *(["gpu"] if GPU else [])]
DTYPES = [torch.float32, torch.float16]
if DEVICE == "cuda" and torch.cuda.get_device_capability() >= (8, 0):
    DTYPES.append(torch.bfloat16)  # the interpreter's bfloat16 is wrong

needs_triton = pytest.mark.skipif(
    triton is None or INTERPRETED,
    reason="Triton is not installed (the extra gpu), or TRITON_INTERPRET is set",
)


def run_kernels(request: pytest.FixtureRequest, place: str) -> None:
    """Runs the `kernel_*` functions of the asking test's file; fails with pytest's report when one fails.

    Those of all files in this session run in one process, as starting it takes longer than most of them.
    """
    files = sorted({str(item.path) for item in request.session.items if item.name == request.node.name})
    report = _report(tuple(files), place)
    found = re.findall(rf"^(\w+) \S*{re.escape(request.path.name)}\S*", report, re.MULTILINE)
    assert found and set(found) == {"PASSED"}, report[-8000:]


@cache
def _report(files: tuple[str, ...], place: str) -> str:
    """What pytest says of the `kernel_*` functions of the files, run in a process of its own."""
    environ = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    environ |= {"TRITON_INTERPRET": "1"} if place == "interpreter" else {}
    environ |= {"PYTHONPATH": f"{HERE}{os.pathsep}{HERE.parent}", "PYTEST_KERNELS": "1"}
    options = ["-q", "-rA", "-p", "no:cacheprovider", "-p", "kernel_tools", "-o", "python_functions=kernel_*"]
    command = [sys.executable, "-m", "pytest", *options, *files]
    done = subprocess.run(command, cwd=HERE.parent, env=environ, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


@pytest.fixture(autouse="PYTEST_KERNELS" in os.environ)
def poisoned(monkeypatch):
    """`torch.empty` gives NaN and -1, so that an output which nobody wrote does not look right."""
    for name, original in (("empty", torch.empty), ("empty_like", torch.empty_like)):

        def make(*arguments, original=original, **options):
            fresh = original(*arguments, **options)
            return fresh.fill_(float("nan") if fresh.is_floating_point() else -1)

        monkeypatch.setattr(torch, name, make)


# ----- the compiler ------------------------------------------------------------------------------------------------


def check_builds(module, capability: int) -> None:
    """What the module compiles keeps all numbers in registers."""
    for build in module.builds():
        assert usage(build, capability).spills == 0, build.case


def check_ones(module) -> None:
    """Whole numbers that are 1 become compile-time numbers, on a GPU but not in the interpreter; it must compile too."""
    for build in module.builds():
        ones = {name: 1 for name, kind in build.types.items() if kind == "i32"}
        assembly(replace(build, options=build.options | ones), 80)


# ----- a GPU that is not there -------------------------------------------------------------------------------------


@contextmanager
def pretend_gpu(capability: tuple[int, int] = (9, 0)):
    """Inside `with`, tensors have shapes but no numbers and say that they are on a GPU.

    Code takes the ways it takes there, and whoever looks at a number, or asks for a shape that depends on one, gets an
    error: on a GPU the host would wait for it. New tensors from the host's numbers are refused too. Gives the mode.
    """

    def refuse(*_, **__):
        raise AssertionError("numbers of the host are copied to the device")

    with ExitStack() as stack:
        put = stack.enter_context
        put(mock.patch.object(torch.cuda, "get_device_capability", lambda *_: capability))
        put(mock.patch.object(FakeTensor, "is_cuda", property(lambda _: True), create=True))
        put(mock.patch.object(torch, "tensor", refuse))
        put(torch.no_grad())
        yield put(FakeTensorMode(allow_non_fake_inputs=True))


class Listener:
    """In a kernel's place: notes with what it is launched."""

    def __init__(self, kernel):
        self.kernel, self.calls = kernel, []

    def __getitem__(self, grid):
        assert all(isinstance(n, int) and n > 0 for n in grid), grid
        return lambda *arguments, **options: self.calls.append((arguments, options))

    def check(self, builds: list) -> None:
        """Every call had the arguments that the compiler was told of, of the same types."""
        dtypes = {torch.float32: "*fp32", torch.int64: "*i64", torch.bool: "*i1", torch.float16: "*fp16"}
        mine, names = [b for b in builds if b.kernel is self.kernel], self.kernel.arg_names
        assert self.calls and mine
        for arguments, options in self.calls:
            named = dict(zip(names, arguments, strict=False))
            assert [*named, *(n for n in names if n in options)] == names
            for name, given in named.items():
                kind = (
                    dtypes[given.dtype]
                    if isinstance(given, torch.Tensor)
                    else {int: "i32", float: "fp32"}.get(type(given))
                )
                assert kind in {b.types[name] for b in mine} or given is None, (name, given)


@contextmanager
def listening(*modules):
    """Puts listeners in the place of the modules' kernels; gives them by their kernels' names."""
    with ExitStack() as stack:
        heard = {}
        for module in modules:
            for name in [n for n in vars(module) if n.endswith("_kernel")]:
                heard[f"{module.__name__}.{name}"] = listener = Listener(getattr(module, name))
                stack.enter_context(mock.patch.object(module, name, listener))
        yield heard
