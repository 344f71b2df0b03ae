"""What the notebooks need: set-up, figures, predictions, checked exercises, claims, widgets.

    from cotlib.lab import setup, show, show_images, predict, reveal, score, check, solution
    from cotlib.lab import Claim, claims, progress, step_scrubber, step_strip, code_editor, code_grid

Everything here is for people at a screen; nothing else in cotlib imports it.
"""

from cotlib.lab.checks import check, solution
from cotlib.lab.claim_table import Claim, claims
from cotlib.lab.environment import Environment, setup
from cotlib.lab.figures import image_grid, show, show_images
from cotlib.lab.predictions import predict, reveal, score
from cotlib.lab.progress_bar import progress
from cotlib.lab.progress_page import my_progress
from cotlib.lab.token_figures import code_grid, step_strip
from cotlib.lab.widgets import code_editor, step_scrubber

__all__ = [
    "Claim", "Environment", "check", "claims", "code_editor", "code_grid", "image_grid", "my_progress", "predict",
    "progress",
    "reveal", "score", "setup", "show", "show_images", "solution", "step_scrubber", "step_strip",
]  # fmt: skip
