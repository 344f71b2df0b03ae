"""The verifier in four bits: what is packed, how near it stays, how little it takes; and the sentence where bitsandbytes is missing."""

import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

from cotlib.errors import UserError
from cotlib.interfaces import CLARITY, FINAL, POTENTIAL
from cotlib.lab.tiny_checkpoints import write_llava
from cotlib.models.published.llava import LlavaVerifier
from cotlib.models.published.sizes import LlavaSizes

PROMPTS = ["a photo of a dog", "a photo of two red cats"]

# The sixteen levels of NF4, from the paper's appendix (arXiv 2305.14314), to four digits.
LEVELS = torch.tensor([-1, -0.6962, -0.5251, -0.3949, -0.2844, -0.1848, -0.0911, 0, 0.0796, 0.1609, 0.2461, 0.3379,
                       0.4407, 0.5626, 0.7230, 1])  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_llava(tmp_path_factory.mktemp("four") / "llava", width=128, inner=256)


def test_without_bitsandbytes_one_sentence_says_what_to_do(monkeypatch, folder):
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(UserError) as error:
        LlavaVerifier.from_pretrained(folder, four_bit=True)
    assert "pip install bitsandbytes" in str(error.value) and "\n" not in str(error.value)
    assert LlavaVerifier.from_pretrained(folder).model is not None  # nobody else needs it


@pytest.fixture
def both(folder):
    pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed")
    return LlavaVerifier.from_pretrained(folder), LlavaVerifier.from_pretrained(folder, four_bit=True)


def layers_of(verifier):
    return {
        name: layer for name, layer in verifier.model.named_modules() if type(layer).__name__ == "Linear4bit"
    }


def unpacked(layer):
    import bitsandbytes as bnb

    return bnb.functional.dequantize_4bit(layer.weight.data, layer.weight.quant_state)


def test_every_matrix_of_the_language_model_is_packed_and_nothing_else(both):
    whole, small = both
    packed = set(layers_of(small))
    expected = {name for name, layer in whole.model.named_modules()
                if isinstance(layer, torch.nn.Linear) and "language_model.layers" in name}  # fmt: skip
    assert packed == expected and len(packed) == 2 * 7
    for name, tensor in whole.model.state_dict().items():
        if name.removesuffix(".weight") not in packed:
            assert torch.equal(tensor, small.model.state_dict()[name])


def test_packed_numbers_are_the_nearest_levels(both):
    """By a packing of our own: 64 numbers are divided by the largest, and each goes to the nearest of sixteen levels."""
    whole, small = both
    for name, layer in layers_of(small).items():
        blocks = whole.model.get_submodule(name).weight.reshape(-1, 64)
        top = blocks.abs().amax(1, keepdim=True)
        nearest = LEVELS[(blocks[..., None] / top[..., None] - LEVELS).abs().argmin(-1)] * top
        gap = (unpacked(layer).reshape(-1, 64) - nearest).abs() / top
        assert gap.quantile(0.99) < 0.02 and gap.mean() < 0.01  # the scale itself is rounded to eight bits


def test_answers_are_those_of_the_unpacked_matrices(both, folder):
    """A plain model that is given the unpacked matrices answers nearly alike, where the product runs in bfloat16, as it does
    on some processors; the whole numbers answer a little differently."""
    whole, small = both
    images = torch.rand(2, 3, 256, 256, generator=torch.Generator().manual_seed(0))
    plain = LlavaVerifier.from_pretrained(folder)
    for name, layer in layers_of(small).items():
        plain.model.get_submodule(name).weight.data = unpacked(layer).float()
    for question in (FINAL, CLARITY, POTENTIAL):
        a, b, c = (v.logits(question, PROMPTS, images) for v in (plain, small, whole))
        rounding, packing = ((x - b).abs().mean() / b.std() for x in (a, c))
        assert rounding < 0.02 < packing < 0.5


def test_it_takes_what_the_planner_says(both):
    _, small = both
    sizes = LlavaSizes.of(small.model)
    held = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in small.model.parameters()}
    for layer in layers_of(small).values():
        state = layer.weight.quant_state
        for t in (state.absmax, state.state2.absmax):
            held[t.data_ptr()] = t.nbytes
    assert sum(held.values()) == pytest.approx(sizes.weight_bytes(4, four_bit=True), rel=0.01)


def test_a_checkpoint_that_does_not_fit_is_refused(both, folder, tmp_path):
    bad = write_llava(tmp_path / "bad", width=128, inner=256)
    shard = next(file for file in sorted(bad.glob("*.safetensors")) if "model.layers.0.mlp.up_proj.weight" in load_file(file))  # fmt: skip
    state, name = load_file(shard), "model.layers.0.mlp.up_proj.weight"
    save_file({k: v for k, v in state.items() if k != name}, shard)
    with pytest.raises(UserError, match="up_proj.weight"):
        LlavaVerifier.from_pretrained(bad, four_bit=True)
    save_file(state | {name: torch.zeros(3, 3)}, shard)
    with pytest.raises(UserError, match=r"shape \[3, 3\]; expected \[256, 128\]"):
        LlavaVerifier.from_pretrained(bad, four_bit=True)
