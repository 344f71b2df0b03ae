"""Which form runs when, what a machine without Triton sees, and that all kernels keep to one form."""

import ast
import importlib
import os
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from kernel_tools import CAPABILITIES, listening, needs_triton, pretend_gpu

from cotlib.errors import UserError
from cotlib.kernels import launch
from cotlib.kernels.compiled import table, usage
from cotlib.kernels.cost import Cost

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "cotlib" / "kernels"
NAMES = sorted(
    {file.stem for file in FOLDER.glob("*.py")}
    - {"__init__", "__main__", "checks", "compiled", "cost", "launch"}
)


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


def forms(name: str) -> list[tuple]:
    """(function, its Triton form, arguments) of all that a module offers."""
    kernel = module(name)
    found = [(getattr(kernel, name), kernel.launch, ARGUMENTS[name])]
    if name == "lfq_pack":
        found.append((kernel.lfq_unpack, kernel.launch_unpack, lambda: (torch.arange(4), 3)))
    return found


def without_numbers(mode, part):
    """Arguments as `pretend_gpu` has them."""
    if isinstance(part, torch.Tensor):
        return mode.from_tensor(part)
    return type(part)(without_numbers(mode, x) for x in part) if isinstance(part, tuple) else part


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
from test_kernel_launch import NAMES, forms, module
from cotlib.errors import UserError
for name in NAMES:
    for function, triton_form, arguments in forms(name):
        function(*arguments())
        try:
            triton_form(*arguments())
        except UserError as error:
            assert "pip install triton" in str(error), error
        else:
            raise AssertionError(name)
assert module("__main__").main() == 1
"""


def test_without_triton_the_reference_runs():
    environ = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    command = [sys.executable, "-c", WITHOUT]
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Triton is not installed; expected Triton's compiler; install the extra gpu" in done.stderr


@needs_triton
@pytest.mark.parametrize("name", NAMES)
def test_the_triton_form_refuses_cpu_tensors_and_names_the_way_out(name):
    for _, triton_form, arguments in forms(name):
        with pytest.raises(UserError, match=r"takes CUDA tensors; call reference\(\)"):
            triton_form(*arguments())


# ----- as on a GPU -------------------------------------------------------------------------------------------------


@needs_triton
@pytest.mark.parametrize("name", NAMES)
def test_on_a_gpu_nobody_waits_and_the_kernel_gets_what_it_was_compiled_for(name):
    for function, _, arguments in forms(name):
        with pretend_gpu() as mode, listening(module(name)) as heard:
            ours = function(*without_numbers(mode, arguments()))
            plain = function(*without_numbers(mode, arguments()), kernel=False)
        called = [listener for listener in heard.values() if listener.calls]
        assert len(called) == 1 and len(called[0].calls) == 1  # one launch, and none for plain torch
        called[0].check(module(name).builds())
        exact = function(*arguments())  # on the CPU
        for results in zip(
            *((x if isinstance(x, tuple) else (x,)) for x in (ours, plain, exact)), strict=True
        ):
            assert len({(r.shape, r.dtype) for r in results}) == 1


@needs_triton
def test_on_a_gpu_nobody_waits_on_the_way_back_either():
    kernel = module("linear_logprob")
    for with_bias in (True, False):
        with pretend_gpu() as mode, listening(kernel) as heard, torch.enable_grad():
            hidden, weight, targets = without_numbers(mode, ARGUMENTS["linear_logprob"]())
            leaves = [hidden.requires_grad_(), weight.requires_grad_()]
            leaves += [mode.from_tensor(torch.zeros(4)).requires_grad_()] * with_bias
            kernel.linear_logprob(hidden, weight, targets, *leaves[2:], chunk=1).sum().backward()
            assert all(leaf.grad.shape == leaf.shape for leaf in leaves)
        for listener in heard.values():
            assert len(listener.calls) == 2  # one for each chunk, forward and backward
            listener.check(kernel.builds())


@pytest.mark.parametrize("name", NAMES)
def test_a_gpu_that_is_too_old_gets_plain_torch_and_is_told(name, monkeypatch):
    for function, triton_form, arguments in forms(name):
        monkeypatch.setattr(launch, "_said", set())
        why = "compute capability 7.0; Triton needs 7.5" if launch.triton else "Triton is not installed"
        with pretend_gpu((7, 0)) as mode, listening(module(name)) as heard:
            with pytest.raises(UserError, match=why):
                triton_form(*without_numbers(mode, arguments()))
            with pytest.warns(UserWarning, match=f"{why}.*Plain torch runs instead"):
                function(*without_numbers(mode, arguments()))
        assert not any(listener.calls for listener in heard.values())


@needs_triton
@pytest.mark.parametrize(("name", "change", "why"), [
    ("masked_sample", lambda x, u: (x.double(), u), "float64"),
    ("masked_sample", lambda x, u: (x.expand(4, 2, 4)[..., 0].T, u), "not contiguous along its last dimension"),
    ("masked_sample", lambda x, u: (x[:, :1].repeat(1, 16385), u), "16385 codes; the kernel holds up to 16384"),
    ("remask_step", lambda p, t, k, *more: (*(x[:, :1].repeat(1, 4097) for x in (p, t, k)), 2, p[:, :1].repeat(1, 4097),
                                            *more[2:]), "4097 tokens; the kernel holds up to 4096"),
    ("qknorm_rope_kv", lambda q, *more: (q.repeat(1, 1, 1, 2)[..., :4], *more), "do not lie alike"),
    ("linear_logprob", lambda h, w, t: (h.double(), w.double(), t), "float64"),
    ("lfq_pack", lambda z: (z.double(),), "float64"),
    ("vq_assign", lambda x, e: (x.double(), e.double()), "float64"),
])  # fmt: skip
def test_what_does_not_suit_the_kernel_gets_plain_torch_and_is_told(name, change, why, monkeypatch):
    monkeypatch.setattr(launch, "_said", set())
    with pretend_gpu() as mode, listening(module(name)) as heard, pytest.warns(UserWarning, match=why):
        getattr(module(name), name)(*change(*without_numbers(mode, ARGUMENTS[name]())))
    assert not any(listener.calls for listener in heard.values())


@pytest.mark.parametrize(("look", "says"), [
    (lambda x: bool((x > 0).all()), "_local_scalar_dense"), (lambda x: x.sum().item(), "_local_scalar_dense"),
    (lambda x: x.tolist(), "_local_scalar_dense"), (lambda x: x[x > 0], "nonzero"), (lambda x: x.nonzero(), "nonzero"),
    (lambda x: x.masked_select(x > 0), "masked_select"), (lambda x: x.cpu().numpy(), "numpy"),
    (lambda x: x.repeat_interleave((x > 0).long()), "repeat_interleave"),
    (lambda x: torch.tensor([1.0]) + x, "copied to the device"),
])  # fmt: skip
def test_the_pretended_gpu_notices_who_waits(look, says):
    with pretend_gpu() as mode, pytest.raises((RuntimeError, AssertionError), match=says):
        look(mode.from_tensor(torch.ones(3)))


# ----- what the compiler says --------------------------------------------------------------------------------------


def test_the_table_of_builds_needs_triton_s_compiler():
    environ = os.environ | {"TRITON_INTERPRET": "1"}
    command = [sys.executable, "-m", "cotlib.kernels"]
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True)
    assert done.returncode == 1 and not done.stdout
    assert "install the extra gpu, and unset TRITON_INTERPRET" in done.stderr


@needs_triton
def test_the_table_of_builds_has_a_line_for_each():
    builds = module("vq_assign").builds()
    lines = table({"vq_assign": builds})
    assert len(lines) == 1 + len(builds) and all(f"cc {c // 10}.{c % 10}" in lines[0] for c in CAPABILITIES)
    found = [usage(builds[0], c).registers for c in CAPABILITIES]
    assert lines[1].split()[-3:] == [str(n) for n in found] and min(found) > 8


def test_the_table_has_all_kernels():
    assert sorted(m.__name__.rsplit(".", 1)[1] for m in module("__main__").KERNELS) == NAMES


# ----- one form for all --------------------------------------------------------------------------------------------


def test_every_kernel_is_in_the_lists_here():
    assert list(ARGUMENTS) and sorted(ARGUMENTS) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_every_kernel_has_its_parts(name):
    kernel = module(name)
    for part in (name, "reference", "launch", "meta", "builds", "cost"):
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
            whole = name in ("cotlib.errors", "cotlib.kernels") or name.startswith("cotlib.kernels.")
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
    """A row of 8192 codes in one warp cannot fit into its registers."""
    build = next(b for b in module("masked_sample").builds() if b.options["V"] == 8192)
    assert usage(build, 80).spills == 0
    assert usage(replace(build, options=build.options | {"num_warps": 1}), 80).spills > 1000
