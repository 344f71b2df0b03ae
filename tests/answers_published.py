"""Right and wrong answers to the exercises of notebook 11, written as a learner would write them; see `test_exercises.py`."""

import re

import torch


def transformers_name(name):
    if "mm_projector" in name:
        number = int(re.search(r"mm_projector\.(\d)", name)[1])
        return name.replace(f"mm_projector.{number}", f"multi_modal_projector.linear_{number // 2 + 1}")
    if "vision_tower" in name:
        return "model.vision_tower." + name.split("vision_model.", 1)[1]
    for part in ("embed_tokens", "layers", "norm"):
        if name.startswith(f"model.{part}."):
            return "model.language_model." + name[6:]
    return name


def omni_mask(ids, pad, soi):
    batch, length = ids.shape
    seen = torch.zeros(batch, 1, length, length, dtype=torch.bool)
    for b, row in enumerate(ids.tolist()):
        border = row.index(soi)
        for i in range(length):
            for j in range(length):
                if i >= border:
                    seen[b, 0, i, j] = row[j] != pad
                elif row[i] == pad:
                    seen[b, 0, i, j] = j <= i
                else:
                    seen[b, 0, i, j] = j <= i and row[j] != pad
    return seen


def answer_p_yes(logits, yes, no):
    both = torch.log_softmax(logits[:, [*yes, *no]].double(), dim=1).exp()
    return both[:, : len(yes)].sum(1).float()


RIGHT = [transformers_name, omni_mask, answer_p_yes]


def language_only(name):
    return "model.language_model." + name[len("model.") :] if name.startswith("model.") else name


def old_release(name):
    return transformers_name(name).replace("vision_tower.", "vision_tower.vision_model.")


def counted_from_zero(name):
    return re.sub(r"mm_projector\.(\d)", r"multi_modal_projector.linear_\1", transformers_name(name) if "mm_pro" not in name else name)  # fmt: skip


def head_too(name):
    return "model.lm_head.weight" if name == "lm_head.weight" else transformers_name(name)


def raster(ids, pad, soi):
    seen = omni_mask(ids, pad, soi)
    return seen & torch.ones(seen.shape[2:]).tril().bool()


def pads_too(ids, pad, soi):
    return omni_mask(ids.masked_fill(ids == pad, 0), pad, soi)


def picture_from_the_next_place(ids, pad, soi):
    moved = omni_mask(ids, pad, soi).clone()
    for b, row in enumerate(ids.tolist()):
        moved[b, 0, row.index(soi), row.index(soi) + 1 :] = False
    return moved


def unasked_pads(ids, pad, soi):
    return omni_mask(ids, pad, soi) & (ids != pad)[:, None, :, None]


def no_heads(ids, pad, soi):
    return omni_mask(ids, pad, soi).squeeze(1)


def lower_case(logits, yes, no):
    return torch.sigmoid(logits[:, yes[0]] - logits[:, no[0]])


def averaged(logits, yes, no):
    return torch.sigmoid(logits[:, yes].mean(1) - logits[:, no].mean(1))


def among_all(logits, yes, no):
    return torch.softmax(logits, 1)[:, yes].sum(1)


def likeliest(logits, yes, no):
    return torch.sigmoid(logits[:, yes].max(1).values - logits[:, no].max(1).values)


def ratio(logits, yes, no):
    return logits[:, yes].exp().sum(1) / (logits[:, yes].exp().sum(1) + logits[:, no].exp().sum(1))


WRONG = [
    ("transformers_name", language_only, "only embed_tokens"),
    ("transformers_name", old_release, "Version 5 dropped it"),
    ("transformers_name", counted_from_zero, "number 1 is the GELU"),
    ("transformers_name", head_too, "stands beside it"),
    ("omni_mask", raster, "raster order"),
    ("omni_mask", pads_too, "Nobody but a pad"),
    ("omni_mask", picture_from_the_next_place, "one place late"),
    ("omni_mask", unasked_pads, "0/0"),
    ("omni_mask", no_heads, "one mask for all heads"),
    ("omni_mask", lambda *a: ~omni_mask(*a), "may see"),
    ("answer_p_yes", lower_case, "capital letter"),
    ("answer_p_yes", averaged, "average"),
    ("answer_p_yes", among_all, "compare yes with no alone"),
    ("answer_p_yes", likeliest, "larger of the spellings"),
    ("answer_p_yes", ratio, "infinite"),
    ("answer_p_yes", lambda x, yes, no: answer_p_yes(x, no, yes), "P(no)"),
]
