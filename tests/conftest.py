"""For all tests: figures without a screen, property tests that are the same every time and have no deadline."""

import os

from hypothesis import settings

os.environ.setdefault("MPLBACKEND", "Agg")
settings.register_profile("course", deadline=None, derandomize=True)
settings.load_profile("course")
