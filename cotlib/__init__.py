"""Chain-of-thought ideas for autoregressive image generation: a small library under a course of notebooks.

Letters used for shapes everywhere: B batch or paths, N image tokens, T text tokens, V codes, D width, S steps,
K candidates.

    from cotlib import load
    generator = load("generator")          # order="raster" for next-token generation
    judge = load("judge")                  # kind="template" for the independent one
"""

from cotlib.loading import load

__version__ = "0.1.0"
__all__ = ["load"]
