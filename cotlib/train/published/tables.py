"""Tables about training published models: the presets, and the memory that a run takes at least.

python -m cotlib.train.published.tables       the table of docs/PUBLISHED_MODELS.md
"""

import sys
from dataclasses import fields

import torch

from cotlib.models.published.sizes import LLAVA_05B, LLAVA_7B, SHOWO_256
from cotlib.train.published.loop import GIB, memory
from cotlib.train.published.presets import STAGES, Fit

FORMATS = {  # of frozen weights beside adapters, as the recipes keep them on a GPU that has bfloat16
    "LLaVA-OneVision 7 B": (LLAVA_7B.parameters(), torch.bfloat16, "llava-orm"),
    "LLaVA-OneVision 0.5 B": (LLAVA_05B.parameters(), torch.bfloat16, "llava-orm"),
    "Show-o": (SHOWO_256.parameters(), torch.float32, "showo-dpo"),
}


def presets_table() -> str:
    """Markdown: every setting of a preset, of the whole model and with adapters."""
    columns = {
        name: fit for name, fit in STAGES.items() if name != "llava-parm"
    }  # as llava-orm, but for the data
    columns |= {f"{name} --lora": fit.with_lora() for name, fit in list(columns.items())}
    names = list(dict.fromkeys(f.name for fit in columns.values() for f in fields(fit)))
    lines = [
        "| setting | " + " | ".join(f"`{name}`" for name in columns) + " |",
        "|---" * (1 + len(columns)) + "|",
    ]
    for name in names:
        cells = [_said(getattr(fit, name, None)) for fit in columns.values()]
        lines.append(f"| `{name}` | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _said(value: object) -> str:
    if value is None:
        return "–"
    return (
        str(value).lower()
        if isinstance(value, bool)
        else f"{value:g}"
        if isinstance(value, float)
        else str(value)
    )


def memory_table() -> str:
    """Markdown: GiB of weights, gradients and Adam's means, without activations."""
    lines = ["| model | every weight | adapters (`--lora`) |", "|---|---|---|"]
    for name, (count, dtype, stage) in FORMATS.items():
        fit = STAGES[stage]
        copies = int(getattr(fit, "reference", "") == "copy")
        cells = [_gib(count, fit, torch.float32, copies), _gib(count, fit.with_lora(), dtype, 0)]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _gib(count: int, fit: Fit, dtype: torch.dtype, copies: int) -> str:
    return f"{memory(count, fit, dtype, copies) / GIB:.1f} GiB"


def markdown() -> str:
    """Both tables, with what they leave out."""
    return "\n".join([
        presets_table(),
        "\nWhat a run keeps at least in each process, before any activation:\n", memory_table(),
    ])  # fmt: skip


if __name__ == "__main__":
    print(markdown())
    sys.exit(0)
