"""Show-o's layers with the kernel: the numbers of transformers' own Phi, in plain torch and in the interpreter."""

import copy

import pytest
import torch
from kernel_tools import DEVICE, PLACES, needs_triton, run_kernels
from published_showo_tools import LAYERS, write_showo, write_tokenizer

from cotlib.decoding import masked_rounds, sample_masked
from cotlib.kernels import masked_sample, qknorm_rope_kv, remask_step
from cotlib.models.published.showo import Showo
from cotlib.models.published.showo_body import suits

SHORT, LONG = "a cat", "a red dog and a blue cup"


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("published")
    write_tokenizer(folder / "phi-1_5")
    write_showo(folder / "show-o")
    return folder / "show-o"


@pytest.fixture
def fused(home, monkeypatch) -> Showo:
    """A Show-o that takes the way of a GPU wherever it is, unless it is told not to."""
    monkeypatch.setattr(Showo, "_fused", lambda self, _: self.kernel and suits(self.phi))
    return Showo.from_pretrained(home, device=DEVICE)


def states(model: Showo, prompts: list[str], guidance: float) -> torch.Tensor:
    """Logits of a half drawn picture for each prompt."""
    chance = torch.Generator().manual_seed(0)
    codes = torch.randint(0, model.codebook_size, (len(prompts), model.tokens), generator=chance)
    rows = (torch.rand(codes.shape, generator=chance) < 0.6).to(DEVICE)
    codes = codes.to(DEVICE).masked_fill(rows, model.mask_id)
    return model.logits(model.prefix(prompts, guidance), codes, rows)


def check_agreement(model: Showo) -> None:
    """With and without pads, with and without guidance; one prompt's text may be longer than the other's."""
    for prompts in ([SHORT], [LONG, LONG], [SHORT, LONG]):
        for guidance in (0.0, 1.75):
            ours = states(model, prompts, guidance)
            plain = states(model.without_kernels(), prompts, guidance)
            assert plain.std() > 0.1
            torch.testing.assert_close(ours, plain, atol=2e-5 * (1 + 2 * guidance), rtol=1e-5)


# ----- plain torch -------------------------------------------------------------------------------------------------


def test_the_way_of_a_gpu_gives_phi_s_numbers(fused):
    check_agreement(fused)


def test_and_the_same_pictures(fused):
    ours, plain = (
        sample_masked(fused, [SHORT, LONG], [0, 1], 3, steps=4, kernel=kernel) for kernel in (True, False)
    )
    assert ours.equal(plain)


def test_half_precision_is_no_further_from_the_truth(fused):
    """The exact numbers are those of the same rounded weights in float64."""
    half = copy.deepcopy(fused).to(torch.bfloat16)
    half.phi.model.rotary_emb = fused.phi.model.rotary_emb
    exact = states(copy.deepcopy(half.without_kernels()).double(), [SHORT, LONG], 1.0)
    ours, plain = (states(m, [SHORT, LONG], 1.0) for m in (half, half.without_kernels()))
    errors = [(x - exact).square().mean().sqrt() for x in (ours, plain)]
    assert errors[0] < 1.05 * errors[1]
    assert errors[0] < 0.02 * exact.std()


def test_one_argument_turns_all_kernels_off(fused, home, monkeypatch):
    """In the loop and in the model; from_pretrained's own turns off the model's alone."""
    asked = []
    for module in (masked_sample, remask_step, qknorm_rope_kv):
        monkeypatch.setattr(
            module, "chosen", lambda kernel, *_, name=module.__name__: asked.append((name, kernel)) or False
        )
    list(masked_rounds(fused, [SHORT], [0], 0, steps=3))
    assert all(kernel for _, kernel in asked)
    assert sum(name.endswith("qknorm_rope_kv") for name, _ in asked) == 3 * LAYERS
    asked.clear()
    list(masked_rounds(fused, [SHORT], [0], 0, steps=3, kernel=False))
    assert asked and not any(kernel for _, kernel in asked)
    assert not any(name.endswith("qknorm_rope_kv") for name, _ in asked)
    assert fused.kernel  # the model itself was not touched
    asked.clear()
    list(masked_rounds(Showo.from_pretrained(home, kernel=False), [SHORT], [0], 0, steps=3))
    assert {name.rsplit(".", 1)[1] for name, kernel in asked if kernel} == {"masked_sample", "remask_step"}


def test_plain_torch_shares_the_weights(home):
    model = Showo.from_pretrained(home)
    plain = model.without_kernels()
    assert not plain.kernel and model.kernel
    assert plain.phi is model.phi and plain.chunks is model.chunks


@pytest.mark.parametrize("change", [
    {"num_key_value_heads": 1}, {"qk_layernorm": False}, {"_attn_implementation": "eager"}, {"training": True},
])  # fmt: skip
def test_what_the_kernel_does_not_compute_goes_phi_s_own_way(home, change):
    phi = Showo.from_pretrained(home).phi
    assert suits(phi)
    for name, value in change.items():
        setattr(phi if name == "training" else phi.config, name, value)
    assert not suits(phi)


def test_on_a_cpu_and_with_gradients_the_way_is_phi_s_own(home):
    model = Showo.from_pretrained(home)
    ids = torch.zeros(1, 3, dtype=torch.long)
    with torch.no_grad():
        assert not model._fused(ids)
        there = type("", (), {"is_cuda": True})
        assert model._fused(there) and not model.without_kernels()._fused(there)
    assert not model._fused(there)


# ----- the kernel, in a process of its own -------------------------------------------------------------------------


def kernel_gives_phi_s_numbers(fused, monkeypatch):
    ran = []
    monkeypatch.setattr(qknorm_rope_kv, "chosen", lambda kernel, *_: ran.append(kernel) or kernel)
    check_agreement(fused)
    assert ran and all(ran)


@needs_triton
@pytest.mark.parametrize("place", PLACES)
def test_kernel(place, request):
    run_kernels(request, place)
