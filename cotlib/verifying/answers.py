"""From the logits of an answer's first word to P(yes): as it should be read, and as the released code reads it.

A language model that is asked "yes or no" gives a logit to every word it knows. P(yes) compares two of them:

    P(yes) = exp(l_yes) / (exp(l_yes) + exp(l_no)) = sigmoid(l_yes - l_no)

The released code of arXiv 2501.13926 lets the model *sample* an answer and reads the probability of "yes" from the
scores that sampling used (selector.py at 1ff33eb). Those have been through the sampling filters: with top_p = 0.8,
as in the generation configs of that model family, a word that holds 80 % of the probability is the only one left. So
P(yes) from 0.8 up reads as 1, up to 0.2 as 0, and whichever candidate comes first among many 1s is chosen.
"""

import torch
from torch import Tensor

TOP_K, TOP_P = 20, 0.8  # generation config of the LLaVA-OneVision family


def p_yes(logits: Tensor, yes: int, no: int) -> Tensor:
    """P(yes) [B] from the logits [B, V] of the answer's first word; yes, no: the places of the two words.

    Only the difference of the two counts. What the model gives to other words is left out.
    """
    return (logits[:, yes] - logits[:, no]).sigmoid()


def filtered_p_yes(logits: Tensor, yes: int, top_k: int = TOP_K, top_p: float = TOP_P) -> Tensor:
    """P(yes) [B] after the sampling filters: only the top_k likeliest words, and of these the fewest that together hold
    at least top_p. Words that are filtered out get 0, the others share what is left."""
    kept = logits >= logits.topk(min(top_k, logits.shape[1])).values[:, -1:]
    p, order = logits.masked_fill(~kept, float("-inf")).softmax(-1).sort(descending=True)
    before = p.cumsum(-1) - p  # what the likelier words hold already
    enough = before >= top_p - 1e-6  # a word that reaches top_p exactly is the last one
    p = p.masked_fill(enough, 0.0)
    p = p / p.sum(-1, keepdim=True)
    return (p * (order == yes)).sum(-1)


class FilteredVerifier:
    """A verifier whose answers are read through the sampling filters; to be passed wherever a verifier is asked.

    Its answer has two words only, so top_k changes nothing. The network, its questions and what it is sure of stay the
    same: only the reading differs.
    """

    def __init__(self, verifier, top_p: float = TOP_P):
        self.verifier, self.top_p = verifier, top_p

    @property
    def questions(self) -> tuple[str, ...]:
        """The questions of the verifier inside."""
        return self.verifier.questions

    def ask(self, question: str, prompts: list[str], images: Tensor) -> Tensor:
        """P(yes) [B] after the filters; errors as in the verifier's own `margin`."""
        margin = self.verifier.margin(question, prompts, images)
        return filtered_p_yes(torch.stack([margin, torch.zeros_like(margin)], dim=1), 0, top_p=self.top_p)
