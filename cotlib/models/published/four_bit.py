"""Matrices in four bits a number, packed while the checkpoint is read, one matrix at a time.

    LlavaVerifier.from_pretrained("llava-onevision-qwen2-7b-ov", "cuda", four_bit=True)

The format is NF4 (Dettmers et al., arXiv 2305.14314) by bitsandbytes, an extra package: sixteen levels, a scale for 64 numbers,
a scale for 256 of those; 0.52 bytes a number in all. It saves memory, not time: each product unpacks its matrix first. Answers
change a little, so thresholds that were chosen with the whole numbers should be looked at again.
"""

import torch
from torch import Tensor, nn

from cotlib.errors import UserError
from cotlib.models.published.files import Rename, Weights, fill


def need_bitsandbytes() -> None:
    """UserError unless bitsandbytes can be imported."""
    try:
        import bitsandbytes  # noqa: F401
    except ImportError as error:
        raise UserError("four_bit=True packs the matrices with bitsandbytes, which is not here; expected it to be installed: pip "
                        "install bitsandbytes; or load without four_bit") from error  # fmt: skip


def fill_packed(
    module: nn.Module, part: str, weights: Weights, dtype: torch.dtype, device: torch.device | str, rename: Rename
) -> None:  # fmt: skip
    """`files.fill`, but the linear layers inside `module.part` get their matrices packed. UserErrors as there."""
    need_bitsandbytes()
    layers = {f"{part}.{name}.weight": layer for name, layer in module.get_submodule(part).named_modules()
              if isinstance(layer, nn.Linear)}  # fmt: skip
    mine = {name: goal for name in weights.shapes if (goal := rename(name)) in layers}
    for name, goal in mine.items():
        if weights.shapes[name] != tuple(layers[goal].weight.shape):
            raise UserError(f"{name} in {weights.folder} has shape {list(weights.shapes[name])}; expected "
                            f"{list(layers[goal].weight.shape)}; config.json and weights are of different models")  # fmt: skip
    if len(set(mine.values())) < len(layers):
        missing = sorted(layers.keys() - set(mine.values()))
        raise UserError(f"the weights in {weights.folder} have {len(missing)} tensors missing ({missing[0]}); check that the "
                        "folder is of this model and whole")  # fmt: skip
    for layer in layers.values():
        del layer.weight  # so that what is filled now are the others
    fill(module, some(weights, set(weights.shapes) - set(mine)), dtype, device, rename)
    for name, tensor in some(weights, set(mine)).tensors():
        path = mine[name].removesuffix(".weight")
        module.set_submodule(path, packed(layers[mine[name]], tensor.to(dtype), device))


def some(weights: Weights, names: set[str]) -> Weights:
    """The same checkpoint with these tensors only."""
    return Weights(weights.folder, {n: s for n, s in weights.shapes.items() if n in names},
                   {n: f for n, f in weights.files.items() if n in names})  # fmt: skip


def packed(layer: nn.Linear, weight: Tensor, device: torch.device | str) -> nn.Module:
    """A linear layer with this matrix in four bits and the bias of `layer`; it computes in the matrix's dtype."""
    import bitsandbytes as bnb

    made = bnb.nn.Linear4bit(layer.in_features, layer.out_features, bias=layer.bias is not None, compute_dtype=weight.dtype,
                             compress_statistics=True, quant_type="nf4", device="meta")  # fmt: skip
    made.weight = bnb.nn.Params4bit(
        weight, requires_grad=False, compress_statistics=True, quant_type="nf4", module=made
    )
    made.bias = layer.bias
    return made.to(device)  # the move is what packs
