"""LoRA (Hu et al., arXiv 2106.09685) through `peft`: W + (alpha / rank) B A, where only A and B are tuned.

B begins at zero, so the tuned model begins as the given one, and with its adapters switched off it is the given one at any
time: preference tuning then needs no second model as reference. For a checkpoint the product is added to W.
"""

import contextlib
from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor, nn

from cotlib.errors import UserError
from cotlib.train.published.presets import Fit


def add_adapters(module: nn.Module, pattern: str, fit: Fit, seed: int) -> None:
    """Puts adapters, in float32, beside the linear layers whose names match the pattern, and freezes all else.

    UserError when `peft` is not installed.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise UserError("adapters need the package peft, which is not installed; install it with `pip install peft`, or tune every "
                        "weight, without --lora") from error  # fmt: skip
    config = LoraConfig(r=fit.lora, lora_alpha=fit.alpha, lora_dropout=0.0, target_modules=pattern)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        inject_adapter_in_model(config, module)
    for parameter in module.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()


def layers(module: nn.Module) -> dict[str, nn.Module]:
    """The layers with an adapter, by name."""
    return {name: part for name, part in module.named_modules() if hasattr(part, "lora_A")}


@contextlib.contextmanager
def switched_off(module: nn.Module) -> Iterator[None]:
    """The module as it was given."""
    for layer in layers(module).values():
        layer.enable_adapters(False)
    try:
        yield
    finally:
        for layer in layers(module).values():
            layer.enable_adapters(True)


def changes(module: nn.Module) -> dict[str, Callable[[], Tensor]]:
    """What each adapter adds to a weight, computed when called, float32, by the weight's name as if there were no adapters."""

    def added(layer: nn.Module) -> Tensor:
        with torch.no_grad():
            return layer.get_delta_weight("default").float()

    return {f"{name}.weight": partial(added, layer) for name, layer in layers(module).items()}


@torch.no_grad()
def merge(module: nn.Module) -> None:
    """Adds every adapter to its layer, in float32, rounded once to the layer's own format; the adapters are gone then."""
    added = changes(module)
    for name, layer in layers(module).items():
        own = layer.base_layer
        own.weight.data = (own.weight.float() + added[f"{name}.weight"]()).to(own.weight.dtype)
        path, _, leaf = name.rpartition(".")
        setattr(module.get_submodule(path), leaf, own)
