"""Exercises of notebook 11, the published models."""

from __future__ import annotations

import torch

from cotlib.lab.exercises.registry import Exercise, Mistake
from cotlib.models.published.llava import answer_margin, answer_p_yes
from cotlib.models.published.llava_files import transformers_name
from cotlib.models.published.showo_layout import omni_mask

# --- transformers_name: a tensor's name in one format to that in another

TOWER = "model.vision_tower.vision_tower.vision_model."


def _names() -> list[tuple]:
    """Names of every kind of tensor in a LLaVA-NeXT file."""
    names = ["lm_head.weight", "model.embed_tokens.weight", "model.norm.weight", "model.image_newline"]
    for layer in (0, 27):
        names += [f"model.layers.{layer}.{part}" for part in ("self_attn.q_proj.weight", "self_attn.k_proj.bias",
                                                              "mlp.down_proj.weight", "input_layernorm.weight")]  # fmt: skip
    names += [f"model.mm_projector.{i}.{part}" for i in (0, 2) for part in ("weight", "bias")]
    names += [TOWER + part for part in ("embeddings.patch_embedding.weight", "encoder.layers.3.self_attn.out_proj.bias",
                                        "encoder.layers.25.mlp.fc1.weight", "post_layernorm.weight")]  # fmt: skip
    return [(name,) for name in names]


def _instead(change):
    """The right name, changed where `change(right, name)` says otherwise."""
    return lambda name: change(transformers_name(name), name)


def _all_language(name: str) -> str:
    return name.replace("model.", "model.language_model.", 1) if name.startswith("model.") else name


TRANSFORMERS_NAME = Exercise(
    name="transformers_name",
    where="cotlib.models.published.llava_files:transformers_name",
    inputs=_names,
    mistakes=(
        Mistake(
            "everything is language",
            "You put all of model.* into the language model, vision tower and projector too. Look at what comes after model.: "
            "only embed_tokens, layers and norm belong to it.",
            _all_language,
        ),
        Mistake(
            "all occurrences",
            "Your replacement also hits the model. inside vision_model. Change the beginning of a name only.",
            lambda n: n.replace("model.", "model.language_model."),
        ),
        Mistake(
            "a level too many",
            "Your vision tower still has the level vision_model, as in older releases. Version 5 dropped it.",
            _instead(lambda r, n: r.replace("model.vision_tower.", "model.vision_tower.vision_model.")),
        ),
        Mistake(
            "twice the tower",
            "The original names the tower twice (the wrapper and what is in it). Here it is named once.",
            _instead(lambda r, n: r.replace("model.vision_tower.", "model.vision_tower.vision_tower.")),
        ),
        Mistake(
            "head inside",
            "You moved lm_head into the model. It stands beside it, under the same name in both formats.",
            _instead(lambda r, n: f"model.{r}" if n.startswith("lm_head") else r),
        ),
        Mistake(
            "numbers of the projector",
            "Your projector's layers are linear_0 and linear_2: places in the original's list, where number 1 is the GELU. "
            "Here they are called linear_1 and linear_2.",
            _instead(lambda r, n: r.replace("linear_1", "linear_0")),
        ),
        Mistake(
            "projector swapped",
            "The projector's layer 0 comes first, so it is linear_1, and 2 is linear_2.",
            _instead(
                lambda r, n: (
                    r.replace("linear_1", "linear_x")
                    .replace("linear_2", "linear_1")
                    .replace("linear_x", "linear_2")
                )
            ),
        ),  # fmt: skip
        Mistake(
            "newline moved",
            "The newline vector is no part of the language model: its name stays as it is.",
            _instead(lambda r, n: "model.language_model.image_newline" if n.endswith("image_newline") else r),
        ),
        Mistake(
            "without the outer model",
            "Your names begin inside model. The state of the whole model is asked for, so all but the head begin with model.",
            _instead(lambda r, n: r.removeprefix("model.")),
        ),
    ),
)

# --- omni_mask: who sees whom

PAD, SOI = 90, 91


def _sequences() -> list[tuple]:
    """(ids [B, L], pad, soi): with and without pads, longer texts and pictures, two rows of different length."""
    rng = torch.Generator().manual_seed(7)

    def row(pads: int, text: int, picture: int) -> list[int]:
        words = torch.randint(0, 80, (text + picture,), generator=rng).tolist()
        return [PAD] * pads + words[:text] + [SOI] + words[text:]

    shapes = [[(2, 3, 4)], [(0, 5, 3)], [(4, 1, 2), (1, 4, 2)], [(3, 2, 6), (0, 5, 6), (5, 0, 6)]]
    return [(torch.tensor([row(*shape) for shape in rows]), PAD, SOI) for rows in shapes]


def _parts(ids, pad, soi):
    """(causal [L, L], picture [B, L], real [B, L])."""
    place = torch.arange(ids.shape[1])
    return place[:, None] >= place, (ids == soi).cumsum(1) > 0, ids != pad


def _strict(ids, pad, soi):
    """The picture begins after soi."""
    causal, picture, real = _parts(ids, pad, soi)
    inside = picture & (ids != soi)
    return ((causal | inside[:, :, None]) & (real[:, None] | ~(real | picture)[:, :, None]))[:, None]


def _blind(ids, pad, soi):
    """Pads see nothing."""
    return omni_mask(ids, pad, soi) & (ids != pad)[:, None, :, None]


def _pads_seen(ids, pad, soi):
    causal, picture, _ = _parts(ids, pad, soi)
    return (causal | picture[:, :, None])[:, None]


def _causal(ids, pad, soi):
    causal, _, real = _parts(ids, pad, soi)
    return (causal & (real[:, None] | ~real[:, :, None]))[:, None]


def _everything(ids, pad, soi):
    _, _, real = _parts(ids, pad, soi)
    return real[:, None, None].expand(-1, 1, ids.shape[1], -1).clone()


def _text_sees_all(ids, pad, soi):
    _, picture, real = _parts(ids, pad, soi)
    return (real[:, None] & (real | picture)[:, :, None] | omni_mask(ids, pad, soi)[:, 0])[:, None]


def _picture_alone(ids, pad, soi):
    _, picture, _ = _parts(ids, pad, soi)
    return omni_mask(ids, pad, soi) & (~picture[:, :, None] | picture[:, None])[:, None]


OMNI_MASK = Exercise(
    name="omni_mask",
    where="cotlib.models.published.showo_layout:omni_mask",
    inputs=_sequences,
    mistakes=(
        Mistake(
            "causal everywhere",
            "Your picture is causal, as in raster order. From soi on every place sees the whole picture, what comes later too.",
            _causal,
        ),
        Mistake(
            "nothing is causal",
            "Your text sees what comes later. Text is causal; only the picture looks both ways.",
            _text_sees_all,
        ),
        Mistake(
            "everybody sees every token",
            "All your rows are alike: every place sees every token that is no pad. Before soi only earlier ones may be seen.",
            _everything,
        ),
        Mistake(
            "pads are seen",
            "Text and picture see pads. Nobody but a pad may look at a pad: what stands there would depend on how long the prompt is.",
            _pads_seen,
        ),
        Mistake(
            "blind pads",
            "Your pads see nothing. A row without anything to see makes the softmax 0/0; pads see earlier pads and themselves.",
            _blind,
        ),
        Mistake(
            "after soi",
            "Your picture begins one place late: soi itself already looks both ways.",
            _strict,
        ),
        Mistake(
            "no text",
            "Your picture does not see the text, so the prompt could say what it likes.",
            _picture_alone,
        ),
        Mistake(
            "transposed",
            "Rows and columns are exchanged: mask[row, column] says whether the row's place may see the column's.",
            lambda *a: omni_mask(*a).transpose(2, 3),
        ),
        Mistake(
            "a dimension too few",
            "The values are right; the shape is not. Attention wants [B, 1, L, L], one mask for all heads.",
            lambda *a: omni_mask(*a)[:, 0],
        ),
        Mistake(
            "the other way round",
            "Your mask is True where nobody may look. Here True means: may see.",
            lambda *a: ~omni_mask(*a),
        ),
        Mistake(
            "numbers to add",
            "You return numbers to be added to the scores. Asked for is the plain truth: a bool for each pair.",
            lambda *a: torch.zeros(omni_mask(*a).shape).masked_fill(~omni_mask(*a), float("-inf")),
        ),
    ),
)

# --- answer_p_yes: from the logits of all spellings


def _answers() -> list[tuple]:
    """(logits [B, V], ids of yes, ids of no): two spellings and one, sure and unsure, likely other words, large logits."""
    rng = torch.Generator().manual_seed(8)
    cases = [(2.0 * torch.randn((6, 12), generator=rng), yes, no) for yes, no in (([3, 5], [7, 2]), ([4], [9, 1]),
                                                                                 ([0, 11], [6]))]  # fmt: skip
    near = 0.3 * torch.randn((5, 12), generator=rng)
    near[:, [3, 5, 7]] += 6.0
    return [
        *cases,
        (near, [3, 5], [7, 2]),
        (30.0 * torch.randn((4, 12), generator=rng) + 110.0, [8, 3], [2, 4]),
    ]


def _pooled(pool):
    """Sigmoid of the difference of two pooled logits."""
    return lambda x, yes, no: (pool(x[:, yes]) - pool(x[:, no])).sigmoid()


def _unguarded(x, yes, no):
    a, b = x[:, yes].exp().sum(1), x[:, no].exp().sum(1)
    return a / (a + b)


ANSWER_P_YES = Exercise(
    name="answer_p_yes",
    where="cotlib.models.published.llava:answer_p_yes",
    inputs=_answers,
    mistakes=(
        Mistake(
            "small letters only",
            "You read the first spelling only. A model that answers with a capital letter would seem to say nothing.",
            _pooled(lambda x: x[:, 0]),
        ),
        Mistake(
            "largest spelling",
            "You take the larger of the spellings. Their probabilities add up, so logsumexp is what pools logits.",
            _pooled(lambda x: x.amax(1)),
        ),
        Mistake(
            "mean of logits",
            "You average the logits of the spellings. An unlikely spelling then drags a likely one down; add probabilities: logsumexp.",
            _pooled(lambda x: x.mean(1)),
        ),
        Mistake(
            "sum of logits",
            "You add logits, which multiplies probabilities. Add the probabilities: logsumexp of the logits.",
            _pooled(lambda x: x.sum(1)),
        ),
        Mistake(
            "whole vocabulary",
            "You compare yes with all words. What goes to other words says nothing about the picture: compare yes with no alone.",
            lambda x, yes, no: x.softmax(-1)[:, yes].sum(1),
        ),
        Mistake(
            "P(no)",
            "That is P(no). The margin is yes minus no.",
            lambda x, yes, no: answer_p_yes(x, no, yes),
        ),
        Mistake(
            "margin",
            "You return the margin, any real number. P(yes) is its sigmoid.",
            lambda x, yes, no: answer_margin(x, yes, no),
        ),
        Mistake(
            "overflow",
            "exp of a large logit is infinite, and infinite by infinite is no number. Use logsumexp and subtract before anything else.",
            _unguarded,
        ),
    ),
)

EXERCISES = (TRANSFORMERS_NAME, OMNI_MASK, ANSWER_P_YES)
