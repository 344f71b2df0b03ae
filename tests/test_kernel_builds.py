"""What every kernel must be: accepted by the compiler for each kind of GPU, with all its numbers in registers."""

from importlib import import_module
from pathlib import Path

import pytest
from kernel_tools import CAPABILITIES, check_builds, check_ones, needs_triton

from cotlib import kernels

pytestmark = needs_triton
NAMES = ["lfq_pack", "linear_logprob", "masked_sample", "qknorm_rope_kv", "remask_step", "vq_assign"]


@pytest.fixture(params=NAMES)
def module(request):
    return import_module(f"cotlib.kernels.{request.param}")


def test_no_kernel_is_left_out():
    found = {
        path.stem
        for place in kernels.__path__
        for path in Path(place).glob("*.py")
        if "def builds(" in path.read_text()
    }
    assert found == set(NAMES)


@pytest.mark.parametrize("capability", CAPABILITIES)
def test_compiles_without_spills(module, capability):
    check_builds(module, capability)


def test_compiles_with_ones(module):
    check_ones(module)
