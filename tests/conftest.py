"""For all tests: figures without a screen, property tests that are the same every time and have no deadline."""

import os

import pytest
import torch
from hypothesis import settings

os.environ.setdefault("MPLBACKEND", "Agg")
settings.register_profile("course", deadline=None, derandomize=True)
settings.load_profile("course")


@pytest.fixture(scope="module")
def one_thread():
    """Layers as small as those of many tests are slower on two cores than on one, the more so when others work there as well."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
