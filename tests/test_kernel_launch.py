"""Which form runs when, what a machine without Triton sees, and that all kernels keep to one form."""

import ast
import importlib
import os
import subprocess
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from kernel_tools import assembly, needs_triton, spills

from cotlib.errors import UserError
from cotlib.kernels import launch
from cotlib.kernels.cost import Cost

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "cotlib" / "kernels"
NAMES = sorted({file.stem for file in FOLDER.glob("*.py")} - {"__init__", "checks", "cost", "launch"})


def module(name: str):
    return importlib.import_module(f"cotlib.kernels.{name}")


# ----- the choice --------------------------------------------------------------------------------------------------


@pytest.fixture
def gpu(monkeypatch):
    """A tensor on a T4 that is not there."""
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    monkeypatch.setattr(launch, "_said", set())
    return SimpleNamespace(is_cuda=True, device="cuda:0")


def test_why_triton_cannot_serve_a_gpu():
    assert launch.lacking((7, 5), True) is None and launch.lacking((9, 0), True) is None
    assert "compute capability 7.0; Triton needs 7.5" in launch.lacking((7, 0), True)
    assert "pip install triton" in launch.lacking((9, 0), False)


def test_the_kernel_runs_on_a_gpu_unless_turned_off(gpu, monkeypatch):
    monkeypatch.setattr(launch, "lacking", lambda capability: None)
    assert launch.chosen(True, gpu, None)
    assert not launch.chosen(False, gpu, None)
    assert not launch.chosen(True, torch.zeros(1), None)


def test_each_reason_is_said_once(gpu, monkeypatch):
    monkeypatch.setattr(launch, "lacking", lambda capability: None)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        for reason in ("too long", "too long", "too wide", None):
            assert launch.chosen(True, gpu, reason) is (reason is None)
        launch.chosen(False, gpu, "not said, as nobody asked for the kernel")
        launch.chosen(True, torch.zeros(1), "not said, as a CPU always takes plain torch")
    assert [str(warning.message).split(".")[0] for warning in said] == ["too long", "too wide"]
    assert "same result" in str(said[0].message)


def test_a_missing_triton_is_said_on_a_gpu(gpu, monkeypatch):
    monkeypatch.setattr(launch, "lacking", lambda capability, real=launch.lacking: real(capability, False))
    with pytest.warns(UserWarning, match="pip install triton"):
        assert not launch.chosen(True, gpu, None)


ARGUMENTS = {
    "masked_sample": lambda: (torch.zeros(2, 4), torch.zeros(2)),
    "remask_step": lambda: (torch.zeros(1, 4), torch.arange(4)[None], torch.zeros(1, 4) > 0, 2, torch.zeros(1, 4), 1.0, 9),
    "qknorm_rope_kv": lambda: (*torch.ones(3, 1, 2, 1, 4), *[(torch.ones(4), torch.zeros(4))] * 2, None,
                               *torch.zeros(2, 1, 1, 2, 4), 0),
    "linear_logprob": lambda: (torch.zeros(2, 3), torch.zeros(4, 3), torch.zeros(2).long()),
    "lfq_pack": lambda: (torch.ones(2, 3),),
    "vq_assign": lambda: (torch.zeros(2, 3), torch.zeros(4, 3)),
}  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_the_function_takes_the_form_that_was_chosen(name, monkeypatch):
    kernel, asked = module(name), []
    function = getattr(kernel, name)
    for form in ("launch", "reference"):
        monkeypatch.setattr(kernel, form, lambda *_, form=form: form)
    monkeypatch.setattr(kernel, "chosen", lambda kernel, *_: asked.append(kernel) or kernel)
    assert function(*ARGUMENTS[name]()) == "launch"
    assert function(*ARGUMENTS[name](), kernel=False) == "reference"
    assert asked == [True, False]


# ----- without Triton ----------------------------------------------------------------------------------------------

WITHOUT = """
import sys, warnings
sys.modules["triton"] = None  # importing it fails, as where it is not installed
warnings.simplefilter("error")
sys.path.insert(0, "tests")
from test_kernel_launch import ARGUMENTS, module
from cotlib.errors import UserError
for name, arguments in ARGUMENTS.items():
    getattr(module(name), name)(*arguments())
    try:
        module(name).launch(*arguments())
    except UserError as error:
        assert "pip install triton" in str(error), error
    else:
        raise AssertionError(name)
"""


def test_without_triton_the_reference_runs():
    environ = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    command = [sys.executable, "-c", WITHOUT]
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@needs_triton
def test_the_triton_form_refuses_cpu_tensors_and_names_the_way_out():
    for name, arguments in ARGUMENTS.items():
        with pytest.raises(UserError, match=r"takes CUDA tensors; call reference\(\)"):
            module(name).launch(*arguments())


# ----- one form for all --------------------------------------------------------------------------------------------


def test_every_kernel_is_in_the_lists_here():
    assert list(ARGUMENTS) and sorted(ARGUMENTS) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_every_kernel_has_its_parts(name):
    kernel = module(name)
    for part in (name, "reference", "launch", "meta", "cost"):
        assert callable(getattr(kernel, part)), part
    for words in ("Least traffic", "FLOP", "[R" if name not in ("remask_step", "qknorm_rope_kv") else "[B"):
        assert words in kernel.__doc__, words
    assert (ROOT / "tests" / f"test_kernel_{name}.py").is_file()
    assert (ROOT / "bench" / f"{name}.py").is_file()


@pytest.mark.parametrize("file", sorted(FOLDER.glob("*.py")), ids=lambda file: file.stem)
def test_kernels_import_torch_and_errors_only(file):
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
        names += [node.module] if isinstance(node, ast.ImportFrom) else []
        for name in names:
            whole = name == "cotlib.errors" or name.startswith("cotlib.kernels.")
            assert whole or name.split(".")[0] in {"torch", "triton", *sys.stdlib_module_names}, name


# ----- small things ------------------------------------------------------------------------------------------------


def test_cost_is_a_roofline():
    cost = Cost(100, 1000)
    assert cost.floor(bandwidth=10, peak=1000) == 10 and cost.floor(bandwidth=1000, peak=10) == 100
    assert cost.intensity == 10 and cost + cost == Cost(200, 2000)


@pytest.mark.parametrize(("n", "power"), [(0, 1), (1, 1), (2, 2), (3, 4), (1024, 1024), (1025, 2048)])
def test_power_of_two(n, power):
    assert launch.power_of_two(n) == power


@needs_triton
def test_the_spill_counter_counts():
    """A row of 16384 codes in one warp cannot fit into its registers."""
    kernel = module("masked_sample")
    types = {"logits": "*fp32", "uniforms": "*fp32", "tokens": "*i64", "log_p": "*fp32", "row_stride": "i32", "rows": "i32",
             "temperature": "fp32"}  # fmt: skip
    options = kernel.meta(8192, 1) | {"num_warps": 1}
    assert spills(assembly(kernel._kernel, types, options, 80), 80) > 1000
