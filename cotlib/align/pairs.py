"""Judged pairs: two pictures of the same prompt, one right and one wrong, from the generator itself."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cotlib.decoding import run_steps
from cotlib.interfaces import ImageTokenModel, Judge
from cotlib.world.prompts import sample_metadata


@dataclass(frozen=True)
class Pairs:
    """prompts: one per pair; chosen, rejected: codes long [pairs, N]; counts of what was drawn and kept."""

    prompts: list[str]
    chosen: Tensor
    rejected: Tensor
    counts: dict[str, int]

    def shuffled(self, rng: np.random.Generator) -> "Pairs":
        """The control: in each pair the labels are exchanged with probability one half."""
        swap = torch.from_numpy(rng.random(len(self.prompts)) < 0.5)[:, None]
        chosen, rejected = (
            torch.where(swap, self.rejected, self.chosen),
            torch.where(swap, self.chosen, self.rejected),
        )
        return Pairs(self.prompts, chosen, rejected, self.counts)


def draw_pairs(
    model: ImageTokenModel, judge: Judge, prompts: int, each: int, seed: int, most: int = 4, chunk: int = 16
) -> Pairs:
    """Draws `each` pictures for `prompts` training prompts, judges them, and pairs right with wrong ones.

    At most `most` pairs a prompt; a picture stands in one pair only. Prompts whose pictures are all right or all
    wrong give none.
    """
    rng = np.random.default_rng([seed, 1])
    metadatas = list({(m := sample_metadata(rng))["prompt"]: m for _ in range(prompts)}.values())
    texts, chosen, rejected, right = [], [], [], 0
    for start in range(0, len(metadatas), chunk):
        part = [m for m in metadatas[start : start + chunk] for _ in range(each)]
        for step in run_steps(
            model, [m["prompt"] for m in part], list(range(each)) * (len(part) // each), seed
        ):
            codes = step.codes
        correct = torch.tensor([v.correct for v in judge(part, model.decode(codes))])
        right += int(correct.sum())
        for row in range(0, len(part), each):
            good = codes[row : row + each][correct[row : row + each]]
            bad = codes[row : row + each][~correct[row : row + each]]
            count = min(len(good), len(bad), most)
            texts += [part[row]["prompt"]] * count
            chosen.append(good[:count])
            rejected.append(bad[:count])
    counts = {"prompts": len(metadatas), "pictures": len(metadatas) * each, "right": right, "pairs": len(texts),
              "mixed_prompts": len(set(texts))}  # fmt: skip
    return Pairs(texts, torch.cat(chosen), torch.cat(rejected), counts)
