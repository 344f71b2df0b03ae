"""Where each published checkpoint is, what it is for here, and under which licence it was given out, as far as could be found.

    python -m cotlib.models.published.sources       the table of docs/PUBLISHED_MODELS.md

A licence is quoted from the tag on a hub page or from a licence file, and where neither was seen the table says so. It is no legal
advice: before you publish anything made with weights, read their page.
"""

import sys
from dataclasses import dataclass


@dataclass(frozen=True)
class Source:
    """One checkpoint. hub: its id, with the folder inside; gb: 10^9 bytes of weights, about; option: how the command line takes it;
    licence: as given out; basis: where that stands."""

    what: str
    hub: str
    gb: float
    option: str
    licence: str
    basis: str


TAG = "tag of the hub page"
NONE_FOUND = "**none found**"
UNTAGGED = "no tag on the hub page, no licence file with the code"

SOURCES = (
    Source("Show-o, 256 pixels", "showlab/show-o", 5.8, "`--model`", "MIT", TAG),
    Source("Show-o, 512 pixels", "showlab/show-o-512x512", 5.8, "`--model`", "Apache-2.0", TAG),
    Source("its image tokenizer, MAGVIT-v2", "showlab/magvitv2", 0.38, "beside Show-o, as `magvitv2`", "MIT", TAG),
    Source("its text tokenizer (files of Phi-1.5, without the weights)", "microsoft/phi-1_5", 0.004, "beside Show-o, as `phi-1_5`", "MIT", "not looked up; read its page"),
    Source("Show-o tuned by DPO (the paper's)", "ZiyuG/Image-Generation-CoT/dpo", 2.9, "`--model`", NONE_FOUND, UNTAGGED),
    Source("... by iterative DPO", "ZiyuG/Image-Generation-CoT/dpo_iter", 2.9, "`--model`", NONE_FOUND, UNTAGGED),
    Source("... guided by PARM (spelled so)", "ZiyuG/Image-Generation-CoT/dpo_iter_parm_gudie", 2.9, "`--model`", NONE_FOUND, UNTAGGED),
    Source("the paper's fine-tuned ORM", "ZiyuG/Image-Generation-CoT/orm_ft", 16, "`--verifier`, with `--questions`", NONE_FOUND, UNTAGGED),
    Source("the paper's PARM", "ZiyuG/Image-Generation-CoT/parm", 16, "`--verifier`, with `--questions`", NONE_FOUND, UNTAGGED),
    Source("LLaVA-OneVision 7 B (zero-shot verifier)", "lmms-lab/llava-onevision-qwen2-7b-ov", 16, "`--verifier`", "Apache-2.0", TAG),
    Source("... in transformers' format", "llava-hf/llava-onevision-qwen2-7b-ov-hf", 16, "`--verifier`", "Apache-2.0", TAG),
    Source("LLaVA-OneVision 0.5 B", "lmms-lab/llava-onevision-qwen2-0.5b-ov", 1.8, "`--verifier`", "Apache-2.0", "as the one of 7 B; read its page"),
    Source("GenEval's detector, Mask2Former", "facebook/mask2former-swin-small-coco-instance", 0.28, "`--judge`, a folder that holds both", "other", TAG),
    Source("GenEval's colours, CLIP ViT-L/14", "openai/clip-vit-large-patch14", 1.7, "`--judge`, a folder that holds both", "not seen", "its code is MIT; read its page"),
    Source("Janus-Pro 1 B", "deepseek-community/Janus-Pro-1B", 4.2, "`--model`", "unclear", "tag MIT, but upstream's page puts the weights under the DeepSeek Model License, which restricts use"),
    Source("... 7 B", "deepseek-community/Janus-Pro-7B", 14.8, "`--model`", "unclear", "as the one of 1 B"),
)  # fmt: skip


def sources_table() -> str:
    """Markdown: checkpoint, hub id, size, option, licence, basis."""
    lines = ["| checkpoint | hub id | about GB | goes to | licence | says |", "|---|---|---|---|---|---|"]
    for s in SOURCES:
        lines.append(f"| {s.what} | `{s.hub}` | {s.gb:g} | {s.option} | {s.licence} | {s.basis} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(sources_table())
    sys.exit(0)
