"""Whole models of transformers from a folder, strictly: nothing may be missing, and every complaint is one sentence."""

import re
from pathlib import Path

import torch
from torch import nn

from cotlib.errors import UserError
from cotlib.models.published.files import open_weights, reason_of


def load_whole(
    kind: type, folder: Path, dtype: torch.dtype, device: torch.device | str, spare: str = "$."
) -> nn.Module:
    """`kind.from_pretrained(folder)` in eval mode; UserError when a tensor is missing or of another shape.

    spare: pattern of names that may be missing, because nothing is computed with them. Tensors the model has no use for
    are left out, as transformers does.
    """
    from transformers.utils import logging

    open_weights(folder)  # a missing shard, a damaged file or a dangerous one is refused here
    told = logging.get_verbosity()
    logging.set_verbosity_error()  # its table of left out tensors would only alarm
    try:
        model, said = kind.from_pretrained(
            folder, dtype=dtype, output_loading_info=True, ignore_mismatched_sizes=True
        )  # those are complained of below
    except (OSError, ValueError, RuntimeError, KeyError, TypeError) as error:
        raise UserError(
            f"{folder} does not hold a {kind.__name__} ({reason_of(error)}); give that model's folder"
        ) from error
    finally:
        logging.set_verbosity(told)
    wrong = [f"{name} missing" for name in sorted(said["missing_keys"]) if not re.search(spare, name)]
    wrong += [f"{entry[0]} of another shape" for entry in sorted(said["mismatched_keys"])]
    if wrong:
        raise UserError(f"the weights in {folder} are not those of a {kind.__name__}: {wrong[0]} ({len(wrong)} such tensors); "
                        "check that the folder is of this model and whole")  # fmt: skip
    return model.eval().to(device)
