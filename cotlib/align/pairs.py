"""Judged pairs: two pictures of the same prompt, one right and one wrong, from the generator itself."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cotlib.decoding import run_steps
from cotlib.devices import on_all_cores
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
    model: ImageTokenModel, judge: Judge, prompts: int, each: int, seed: int, most: int = 4
) -> Pairs:
    """Draws `each` pictures for `prompts` training prompts, judges them, and pairs right with wrong ones.

    At most `most` pairs a prompt; a picture stands in one pair only. Prompts whose pictures are all right or all
    wrong give none.
    """
    rng = np.random.default_rng([seed, 1])
    metadatas = list({(m := sample_metadata(rng))["prompt"]: m for _ in range(prompts)}.values())

    def draw(metadata: dict) -> tuple[Tensor, Tensor]:
        """(codes [each, N], right or wrong bool [each]) of one prompt."""
        for step in run_steps(model, [metadata["prompt"]] * each, list(range(each)), seed):
            codes = step.codes
        return codes, torch.tensor([v.correct for v in judge([metadata] * each, model.decode(codes))])

    texts, chosen, rejected, right = [], [], [], 0
    for metadata, (codes, correct) in zip(metadatas, on_all_cores(draw, metadatas), strict=True):
        right += int(correct.sum())
        good, bad = codes[correct], codes[~correct]
        count = min(len(good), len(bad), most)
        texts += [metadata["prompt"]] * count
        chosen.append(good[:count])
        rejected.append(bad[:count])
    counts = {"prompts": len(metadatas), "pictures": len(metadatas) * each, "right": right, "pairs": len(texts),
              "mixed_prompts": len(set(texts))}  # fmt: skip
    return Pairs(texts, torch.cat(chosen), torch.cat(rejected), counts)
