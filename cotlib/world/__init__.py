"""The pictogram world: prompts, scenes and pixels, with exact truth."""

from cotlib.world.prompts import benchmark, load_prompts, parse_prompt, prompt_text, sample_metadata, split_of
from cotlib.world.render import render, render_batch
from cotlib.world.scenes import CLASSES, COLORS, RELATIONS, TASKS, Scene, Thing, holds, sample_scene

__all__ = [
    "CLASSES", "COLORS", "RELATIONS", "TASKS", "Scene", "Thing", "benchmark", "holds", "load_prompts",
    "parse_prompt", "prompt_text", "render", "render_batch", "sample_metadata", "sample_scene", "split_of",
]  # fmt: skip
