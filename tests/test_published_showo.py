"""Show-o against an oracle that knows no transformers: numpy in float64, one query at a time, whole sequences.

Weights are tiny and random, in the published layout. What cannot be tested without the real ones is whether their
pictures are any good.
"""

import json
import math
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from published_showo_tools import (
    CODES,
    END,
    HEADS,
    INNER,
    LAYERS,
    NEW,
    TEXT,
    WIDTH,
    Letters,
    header_bytes,
    masked_after,
    showo_shapes,
    write_magvit,
    write_showo,
    write_tokenizer,
)  # fmt: skip

from cotlib.decoding import masked_rounds, sample_masked
from cotlib.decoding.noise import path_uniforms
from cotlib.decoding.ratios import mask_ratio
from cotlib.decoding.schedule import temperatures
from cotlib.errors import UserError
from cotlib.models.published import showo_files
from cotlib.models.published.chunked import Chunks
from cotlib.models.published.files import Weights
from cotlib.models.published.showo import Showo
from cotlib.models.published.showo_layout import ShowoConfig, omni_mask

PAD, SOI, EOI, T2I = 50295, 50296, 50297, 50300  # as published, not computed
FIRST, MASK = 50305, 58497
SHORT, LONG = "a cat", "a red dog and a blue cup"
PROMPTS = [SHORT, LONG, ""]
PLAIN, LEAN = (
    2e-5,
    1e-4,
)  # bounds of the project: plain logits against the original, lean path against the plain one


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    """A folder with phi-1_5's tokenizer, a Show-o of 4 by 4 tokens and its image tokenizer, side by side."""
    folder = tmp_path_factory.mktemp("published")
    write_tokenizer(folder / "phi-1_5")
    write_showo(folder / "show-o")
    return folder


@pytest.fixture(scope="module")
def model(home) -> Showo:
    return Showo.from_pretrained(home / "show-o")


@pytest.fixture(scope="module")
def oracle(home) -> "Oracle":
    return Oracle(write_showo(home / "show-o"))


class Oracle:
    """Phi with normalised queries and keys as its description says, in float64; one sequence at a time."""

    def __init__(self, tensors, theta: float = 10000.0, heads: int = HEADS, rotated: float = 0.5):
        self.w = {name.removeprefix("showo."): tensor.double().numpy() for name, tensor in tensors.items()}
        self.theta, self.heads, self.rotated = theta, heads, rotated

    def linear(self, x, name):
        return x @ self.w[f"{name}.weight"].T + self.w[f"{name}.bias"]

    def norm(self, x, name):
        centred = x - x.mean(-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
        return scaled * self.w[f"{name}.weight"] + self.w[f"{name}.bias"]

    def turned(self, vector, place):
        """A head's vector with its first half rotated, pair (i, i + quarter) by place / theta^(i / quarter)."""
        out, pairs = vector.copy(), int(len(vector) * self.rotated) // 2
        for i in range(pairs):
            angle = place * self.theta ** (-i / pairs)
            a, b = vector[i], vector[i + pairs]
            out[i] = a * math.cos(angle) - b * math.sin(angle)
            out[i + pairs] = b * math.cos(angle) + a * math.sin(angle)
        return out

    def hidden(self, ids: list[int], sees) -> np.ndarray:
        """Final hidden states [L, D]; sees(q, k) says whether place q may see place k."""
        x = self.w["model.embed_tokens.weight"][ids]
        size = x.shape[1] // self.heads
        for layer in range(LAYERS):
            name = f"model.layers.{layer}"
            h = self.norm(x, f"{name}.input_layernorm")
            attended = np.zeros_like(x)
            q, k, v = (self.linear(h, f"{name}.self_attn.{part}_proj") for part in "qkv")
            for head in range(self.heads):
                own = slice(head * size, (head + 1) * size)
                queries = self.norm(q[:, own], f"{name}.self_attn.q_layernorm")
                keys = self.norm(k[:, own], f"{name}.self_attn.k_layernorm")
                queries = np.stack([self.turned(row, place) for place, row in enumerate(queries)])
                keys = np.stack([self.turned(row, place) for place, row in enumerate(keys)])
                for place in range(len(ids)):
                    seen = [other for other in range(len(ids)) if sees(place, other)]
                    scores = keys[seen] @ queries[place] / math.sqrt(size)
                    weights = np.exp(scores - scores.max())
                    attended[place, own] = weights @ v[seen, own] / weights.sum()
            inner = self.linear(h, f"{name}.mlp.fc1")
            inner = 0.5 * inner * (1 + np.tanh(math.sqrt(2 / math.pi) * (inner + 0.044715 * inner**3)))
            x = x + self.linear(attended, f"{name}.self_attn.dense") + self.linear(inner, f"{name}.mlp.fc2")
        return self.norm(x, "model.final_layernorm")

    def logits(self, ids: list[int]) -> np.ndarray:
        """Logits over all ids [L, 58498] of one whole sequence."""
        return self.linear(self.hidden(ids, rule(ids)), "lm_head")


def rule(ids: list[int]):
    """Show-o's rule of who sees whom, place by place."""
    picture = ids.index(SOI)

    def sees(q: int, k: int) -> bool:
        if q >= picture:
            return ids[k] != PAD
        if ids[q] == PAD:
            return k <= q
        return k <= q and ids[k] != PAD

    return sees


def sequence(text: list[int], codes: list[int]) -> list[int]:
    """Ids of a whole sequence, written out."""
    image = [MASK if code == CODES else FIRST + code for code in codes]
    return [PAD] * (129 - len(text)) + text + [SOI] + image + [EOI]


def half_drawn(rows: int, tokens: int = 16, seed: int = 0) -> torch.Tensor:
    chance = torch.Generator().manual_seed(seed)
    codes = torch.randint(CODES, (rows, tokens), generator=chance)
    return codes.masked_fill(torch.rand(codes.shape, generator=chance) < 0.5, CODES)


# ----- sizes and schedules as published ----------------------------------------------------------------------------


def test_the_published_file_has_exactly_these_tensors():
    from transformers import PhiConfig, PhiForCausalLM

    shapes = showo_shapes(2048, 24, 32, 8192)
    tensors, file = header_bytes(shapes)
    assert (len(shapes), tensors // 4, tensors, file) == (437, 1_448_176_770, 5_792_707_080, 5_792_758_016)
    with torch.device("meta"):
        phi = PhiForCausalLM(PhiConfig(vocab_size=MASK + 1, qk_layernorm=True))
    assert {f"showo.{n}": list(t.shape) for n, t in phi.state_dict().items()} == shapes


def test_ids_are_the_published_ones():
    config = ShowoConfig()
    assert [config.id_of(t) for t in ("[PAD]", "<|soi|>", "<|eoi|>", "<|t2i|>")] == [PAD, SOI, EOI, T2I]
    assert (config.offset, config.offset + config.codes, config.entries) == (FIRST, MASK, MASK + 1)


def test_the_schedule_is_computed_in_float32():
    assert masked_after(256, 18) == [
        255,
        252,
        247,
        240,
        232,
        221,
        209,
        196,
        181,
        164,
        146,
        127,
        108,
        87,
        66,
        44,
        22,
        1,
    ]
    assert float(256 * mask_ratio(12 / 18)) < 128 <= 256 * math.cos(math.pi / 3)


@pytest.mark.parametrize(("name", "exact"), [
    ("cosine", lambda r: math.cos(math.pi * r / 2)), ("linear", lambda r: 1 - r), ("pow2", lambda r: 1 - r * r),
    ("pow0.5", lambda r: 1 - math.sqrt(r)),
    ("sigmoid", lambda r: 0.5 - math.tanh((6 * r - 3) / 2) / 2 / math.tanh(1.5)),
])  # fmt: skip
def test_each_schedule_falls_from_one_to_almost_nothing(name, exact):
    shares = [i / 50 for i in range(51)]
    ratios = [float(mask_ratio(share, name)) for share in shares]
    assert np.allclose(ratios, [max(exact(s), 1e-6 if name != "cosine" else -1) for s in shares], atol=1e-6)
    assert ratios == sorted(ratios, reverse=True)
    assert ratios[-1] == pytest.approx(1e-6 if name != "cosine" else 0, abs=1e-7)
    left = masked_after(1024, 50, name)
    assert all(a > b or a == b == 1 for a, b in zip([1024, *left], left, strict=False)) and left[-1] == 1


def test_an_unknown_schedule_is_refused():
    for name in ("square", "pow", "powx"):
        with pytest.raises(UserError, match="cosine, linear, sigmoid"):
            mask_ratio(0.5, name)


def test_temperature_is_the_running_product():
    expected = [0.944, 0.840, 0.700, 0.544, 0.393, 0.262, 0.160, 0.089, 0.044, 0.020]
    assert np.allclose(temperatures(18)[:10], expected, atol=6e-4) and temperatures(18)[-1] == 0


# ----- sequence and mask -------------------------------------------------------------------------------------------


def test_text_is_tokenised_as_phi_does_and_padded_on_the_left(model):
    ids = model.text_ids("cat dog")
    assert ids[:2] == [T2I, END] and ids[-1] == END
    assert model.words.convert_ids_to_tokens(ids[2:-1]) == ["cat", "Ġ", "dog"]
    full = model.sequence(["cat dog"], torch.full((1, 16), CODES))[0].tolist()
    assert full == sequence(ids, [CODES] * 16) and len(full) == 129 + 16 + 2


def test_runs_of_blanks_are_phis_own_tokens(model):
    assert {50286, 50287} <= set(
        model.text_ids("a  b" + "\t" * 9)
    )  # two blanks, the last of 30 runs; nine tabs, the next


def test_sequences_of_256_and_512_pixels_have_387_and_1155_places(model):
    for tokens, length in ((256, 387), (1024, 1155)):
        assert model.sequence([SHORT], torch.zeros(1, tokens, dtype=torch.long)).shape == (1, length)


def test_an_empty_prompt_is_three_tokens(model):
    assert model.text_ids("") == [T2I, END, END]


def test_a_text_that_begins_with_bos_gets_no_second_one(model):
    assert model.text_ids("<|endoftext|>cat") == model.text_ids("cat")


@pytest.mark.parametrize("letters", [125, 126, 127, 300])
def test_long_text_keeps_its_first_126_tokens_and_ends_in_eos(model, letters):
    ids = model.text_ids("x" * letters)
    one = model.words(["x"])["input_ids"][0]
    assert ids == [T2I, END, *one * min(letters, 126), END] and len(ids) <= 129
    assert model.max_text == 126


def test_the_mask_follows_the_rule_place_by_place(model):
    ids = model.sequence([*PROMPTS, "x" * 300], half_drawn(4))
    mask = model.full_mask(ids)
    assert mask.shape == (4, 1, 147, 147) and mask.dtype == torch.bool
    for row, own in zip(ids.tolist(), mask[:, 0], strict=True):
        sees = rule(row)
        assert own.tolist() == [[sees(q, k) for k in range(147)] for q in range(147)]


def test_the_mask_of_text_alone_is_causal_without_pads():
    mask = omni_mask(torch.tensor([[PAD, T2I, END]]), PAD, SOI)[0, 0]
    assert mask.tolist() == [[True, False, False], [False, True, False], [False, True, True]]


# ----- logits ------------------------------------------------------------------------------------------------------


def test_plain_logits_equal_those_of_the_oracle(model, oracle):
    codes = half_drawn(2)
    ids = model.sequence([SHORT, LONG], codes)
    with torch.no_grad():
        logits = model.full_logits(ids, model.full_mask(ids))
    assert logits.shape == (2, 147, MASK + 1)
    for own, row in zip(logits, ids.tolist(), strict=True):
        exact = oracle.logits(row)
        real = [place for place, token in enumerate(row) if token != PAD]
        assert np.abs(own.double().numpy() - exact)[real].max() < PLAIN
        assert exact[real].std() > 0.5  # the bound would be worth nothing on numbers near 0


def test_a_wrong_mask_would_be_noticed(model):
    ids = model.sequence([SHORT], half_drawn(1))
    right = model.full_mask(ids)
    with torch.no_grad():
        causal = model.full_logits(ids, right & right.new_ones(147, 147).tril())
        assert (causal - model.full_logits(ids, right))[:, 130:-1].abs().max() > 0.1


@pytest.mark.parametrize("guidance", [0.0, 1.75, 5.0])
def test_the_lean_path_equals_guidance_after_the_head_on_whole_sequences(model, oracle, guidance):
    codes = half_drawn(3)
    rows = codes == CODES
    lean = model.logits(model.prefix(PROMPTS, guidance), codes, rows)
    exact = []
    for prompt, own, open_ in zip(PROMPTS, codes.tolist(), rows.tolist(), strict=True):
        cond = oracle.logits(sequence(model.text_ids(prompt), own))[130:146, FIRST:MASK]
        uncond = oracle.logits(sequence([T2I, END, END], own))[130:146, FIRST:MASK]
        exact += [((1 + guidance) * cond - guidance * uncond)[place] for place in range(16) if open_[place]]
    assert lean.shape == (int(rows.sum()), CODES) and lean.dtype == torch.float32
    assert np.abs(lean.double().numpy() - np.array(exact)).max() < LEAN


def test_pads_change_nothing(model):
    codes, rows = half_drawn(1), half_drawn(1) == CODES
    alone = model.logits(model.prefix([SHORT]), codes, rows)
    among = model.prefix([SHORT, "x" * 300]).select(torch.tensor([0]))
    assert among.keys[0].shape[2] == 129 and model.prefix([SHORT]).keys[0].shape[2] < 20
    assert torch.allclose(model.logits(among, codes, rows), alone, atol=LEAN)


def test_a_single_prefix_serves_all_paths(model):
    codes = half_drawn(4)
    rows, one = codes == CODES, model.prefix([LONG])
    four = one.select(torch.zeros(4, dtype=torch.long))
    assert torch.equal(model.logits(one, codes, rows), model.logits(four, codes, rows))


def test_guidance_must_be_a_number_of_at_least_0(model):
    for guidance in (-1.0, float("nan"), float("inf")):
        with pytest.raises(UserError, match="guidance"):
            model.prefix([SHORT], guidance)


def test_tuning_sees_the_same_states_with_gradients(model):
    codes = half_drawn(2)
    ids, valid = model.text_batch([SHORT, LONG])
    hidden = model.train_hidden(ids, valid, codes)
    lean = model.logits(model.prefix([SHORT, LONG], 0), codes, torch.ones_like(codes, dtype=torch.bool))
    assert torch.allclose(model.head(hidden).flatten(0, 1), lean, atol=LEAN)
    model.zero_grad()
    hidden.square().sum().backward()
    grown = {n for n, p in model.phi.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    assert {"model.embed_tokens.weight", "model.layers.0.self_attn.k_proj.weight"} <= grown
    model.zero_grad()


# ----- the loop ----------------------------------------------------------------------------------------------------


def naive_loop(oracle, text, uniforms, steps, guidance) -> list[list[int]]:
    """Show-o's loop on whole sequences, token by token, with the noise given: the full draw of each step."""
    codes, draws, temperature = [CODES] * 16, [], 1.0
    for step in range(steps):
        cond = oracle.logits(sequence(text, codes))[130:146, FIRST:MASK]
        uncond = oracle.logits(sequence([T2I, END, END], codes))[130:146, FIRST:MASK] if guidance else cond
        guess, score = list(codes), [math.inf] * 16
        temperature *= 1 - (step + 1) / steps
        for place in range(16):
            if codes[place] != CODES:
                continue
            logits = (1 + guidance) * cond[place] - guidance * uncond[place]
            p = np.exp(logits - logits.max())
            p /= p.sum()
            guess[place] = int(np.argmax(p.cumsum() > uniforms[step, 0, place]))
            noise = -math.log(-math.log(max(uniforms[step, 1, place], 1e-20)))
            score[place] = math.log(p[guess[place]]) + temperature * noise
        draws.append(guess)
        unknown = codes.count(CODES)
        left = max(1, min(unknown - 1, math.floor(16 * math.cos(math.pi / 2 * (step + 1) / steps))))
        hidden = sorted(range(16), key=lambda place: score[place])[:left]
        codes = [CODES if place in hidden else guess[place] for place in range(16)]
    return draws


@pytest.mark.parametrize("guidance", [0.0, 1.75])
def test_drawn_tokens_are_those_of_a_naive_loop_over_whole_sequences(model, oracle, guidance):
    steps, paths = 5, [0, 3]
    texts = [SHORT, LONG]
    loop = masked_rounds(model, texts, paths, seed=7, steps=steps, guidance=guidance)
    ours = torch.stack([step.codes for step in loop], dim=1).tolist()  # [paths, steps, N]
    noise = path_uniforms(7, texts, paths, (steps, 2, 16)).double().numpy()
    for prompt, own, uniforms in zip(texts, ours, noise, strict=True):
        assert own == naive_loop(oracle, model.text_ids(prompt), uniforms, steps, guidance)
        assert len({tuple(step) for step in own}) > 1


def test_a_path_is_the_same_alone_and_among_others(model):
    together = sample_masked(model, [SHORT, LONG, SHORT], [0, 0, 1], seed=3, steps=4)
    for row, (prompt, path) in enumerate([(SHORT, 0), (LONG, 0), (SHORT, 1)]):
        assert torch.equal(sample_masked(model, [prompt], [path], seed=3, steps=4)[0], together[row])


def test_stopped_paths_leave_the_others_as_they_were(model):
    whole = sample_masked(model, [SHORT] * 3, [0, 1, 2], seed=3, steps=4)
    loop = masked_rounds(model, [SHORT] * 3, [0, 1, 2], seed=3, steps=4)
    next(loop)
    step = loop.send(torch.tensor([True, False, True]))
    *_, step = loop
    assert step.paths.tolist() == [0, 2] and torch.equal(step.codes, whole[[0, 2]])


# ----- chunks, number formats, eager attention ---------------------------------------------------------------------


def test_chunks_change_nothing(model, home):
    small = Showo.from_pretrained(home / "show-o", chunk=2)
    codes = half_drawn(5)
    rows, prefix = codes == CODES, model.prefix([SHORT, LONG, "", SHORT, LONG])
    assert torch.allclose(small.logits(prefix, codes, rows), model.logits(prefix, codes, rows), atol=1e-5)


def test_a_chunk_that_does_not_fit_is_halved_and_said(home, monkeypatch):
    model = Showo.from_pretrained(home / "show-o")
    codes = half_drawn(5)
    rows, prefix = codes == CODES, model.prefix([SHORT] * 5)
    right, run, seen = model.logits(prefix, codes, rows), model.phi.model.forward, []

    def tight(input_ids, *more):
        seen.append(len(input_ids))
        if len(input_ids) > 4:  # two pictures, with and without the prompt
            raise torch.OutOfMemoryError("out of memory")
        return run(input_ids, *more)

    monkeypatch.setattr(model.phi.model, "forward", tight)
    with pytest.warns(UserWarning, match="5 pictures at once do not fit.*going on with 2"):
        got = model.logits(prefix, codes, rows)
    assert torch.allclose(got, right, atol=1e-5) and seen == [10, 4, 4, 2]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.equal(model.logits(prefix, codes, rows), got)  # remembered


def test_not_even_one_picture_fits():
    def never(_):
        raise torch.OutOfMemoryError("out of memory")

    with pytest.warns(UserWarning), pytest.raises(UserError, match="not even one of 3 pictures"):
        Chunks().run(never, 3, "pictures")
    with pytest.raises(UserError, match="chunk is 0"):
        Chunks(0)


@pytest.mark.parametrize(("dtype", "close"), [("bf16", 0.35), ("fp16", 0.05)])
def test_half_precision_is_near(model, home, dtype, close):
    half = Showo.from_pretrained(home / "show-o", dtype=dtype)
    assert {p.dtype for p in half.phi.parameters()} == {
        {"bf16": torch.bfloat16, "fp16": torch.float16}[dtype]
    }
    codes = half_drawn(2)
    rows = codes == CODES
    right = model.logits(model.prefix([SHORT, LONG], 0), codes, rows)
    got = half.logits(half.prefix([SHORT, LONG], 0), codes, rows)
    assert got.dtype == torch.float32 and (got - right).abs().max() < close < right.std()
    ids = half.sequence([SHORT], codes[:1])
    additive = torch.zeros(1, 1, 147, 147).masked_fill(
        ~half.full_mask(ids), float(torch.iinfo(torch.int64).min)
    )
    with torch.no_grad():  # the released code's own mask: float32, the smallest int64
        assert torch.equal(half.full_logits(ids, additive), half.full_logits(ids, half.full_mask(ids)))
    sample_masked(half, [SHORT], [0], seed=0, steps=3)


def test_eager_attention_refuses_a_bool_mask_and_is_right_with_a_float_one(model, home):
    eager = Showo.from_pretrained(home / "show-o", attention="eager")
    codes = half_drawn(2)
    ids = model.sequence([SHORT, LONG], codes)
    mask = model.full_mask(ids)
    with pytest.raises(UserError, match="boolean and the attention eager"):
        eager.full_logits(ids, mask)
    additive = torch.zeros(mask.shape).masked_fill(~mask, float("-inf"))
    real = ids != PAD
    with torch.no_grad():
        assert torch.allclose(
            eager.full_logits(ids, additive)[real], model.full_logits(ids, mask)[real], atol=PLAIN
        )
    rows, prompts = codes == CODES, [SHORT, LONG]
    assert torch.allclose(
        eager.logits(eager.prefix(prompts), codes, rows),
        model.logits(model.prefix(prompts), codes, rows),
        atol=LEAN,
    )
    with pytest.raises(UserError, match='attention is "flash"'):
        Showo.from_pretrained(home / "show-o", attention="flash")


# ----- pictures ----------------------------------------------------------------------------------------------------


def test_pictures_come_from_the_image_tokenizer_beside_the_folder(tmp_path):
    write_showo(
        tmp_path / "all" / "dpo", codebook_size=16, llm_vocab_size=40, vocab_size=67, mask_token_id=66
    )
    words = Letters(40)
    alone = Showo.from_pretrained(tmp_path / "all" / "dpo", words=words)
    with pytest.raises(UserError, match="magvitv2"):
        alone.decode(torch.zeros(1, 16, dtype=torch.long))
    write_magvit(tmp_path / "magvitv2", bits=4)
    model = Showo.from_pretrained(tmp_path / "all" / "dpo", words=words)
    codes = torch.tensor([[0, 15, 16, *[3] * 13]])  # 16 is the mask; it counts as 15
    images = model.decode(codes)
    assert images.shape == (1, 3, 16, 16) and 0 <= images.min() and images.max() <= 1
    assert torch.equal(images, model.tokenizer.decode(codes.clamp(max=15)))
    write_magvit(tmp_path / "other", bits=5)
    with pytest.raises(UserError, match="32 codes, Show-o 16"):
        Showo.from_pretrained(tmp_path / "all" / "dpo", words=words, tokenizer=tmp_path / "other")
    drawn = sample_masked(model, ["a cat"] * 2, [0, 1], seed=1)
    assert drawn.min() >= 0 and drawn.max() < 16 and model.decode(drawn).shape == (2, 3, 16, 16)


# ----- what the folders say ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("tokens", "steps", "guidance", "side"), [(256, 18, 1.75, 16), (1024, 50, 5.0, 32)])
def test_steps_and_guidance_are_the_models_own(tokens, steps, guidance, side, model):
    from published_showo_tools import showo_config

    config = ShowoConfig.of(showo_config(tokens, load_from_showo=True), Path("here"))
    assert (config.steps, config.guidance, config.order) == (steps, guidance, "masked")
    own = Showo(config, model.phi, model.words)
    assert own.grid == (side, side) and own.tokens == tokens and own.codebook_size == 8192 == own.mask_id


def test_optional_fields_may_be_missing(model, home, tmp_path):
    write_showo(tmp_path / "show-o", mask_token_id=None, codebook_size=None, num_new_special_tokens=10)
    again = Showo.from_pretrained(tmp_path / "show-o", words=home / "phi-1_5")
    codes = half_drawn(1)
    rows = codes == CODES
    assert torch.equal(
        again.logits(again.prefix([LONG]), codes, rows), model.logits(model.prefix([LONG]), codes, rows)
    )


@pytest.mark.parametrize("tokens", [0, -16, 15, 36, 100, 300, 512, 4096, 16.0, "256", True])
def test_a_wrong_number_of_image_tokens_is_refused(tmp_path, tokens):
    from published_showo_tools import showo_config

    with pytest.raises(UserError, match="num_vq_tokens as .*expected"):
        ShowoConfig.of(showo_config(tokens), tmp_path)


def test_a_vocabulary_that_does_not_add_up_is_refused(tmp_path):
    from published_showo_tools import showo_config

    for change in (
        {"vocab_size": 58497},
        {"mask_token_id": 58498},
        {"codebook_size": 8191},
        {"llm_vocab_size": 50257},
    ):
        with pytest.raises(UserError, match="expected .*text tokens, 10 new ones"):
            ShowoConfig.of(showo_config(256, **change), tmp_path)


def test_a_language_model_beside_it_is_heard(home, tmp_path):
    """Base of the rotation and norms cannot be read off the weights; the folder in llm_model_path has them."""
    tensors = write_showo(tmp_path / "show-o", llm_model_path=str(tmp_path / "llm"))
    said = {
        "model_type": "phi",
        "rope_theta": 50.0,
        "partial_rotary_factor": 0.25,
        "num_attention_heads": 2,
    }
    (tmp_path / "llm").mkdir()
    (tmp_path / "llm" / "config.json").write_text(json.dumps(said))
    model = Showo.from_pretrained(tmp_path / "show-o", words=home / "phi-1_5")
    ids = model.sequence([LONG], half_drawn(1))
    exact = Oracle(tensors, theta=50.0, rotated=0.25).logits(ids[0].tolist())
    with torch.no_grad():
        logits = model.full_logits(ids, model.full_mask(ids))[0]
    assert np.abs(logits.double().numpy() - exact)[ids[0] != PAD].max() < PLAIN
    said["num_attention_heads"] = 4
    (tmp_path / "llm" / "config.json").write_text(json.dumps(said))
    with pytest.raises(UserError, match="num_attention_heads 2; expected 4"):
        Showo.from_pretrained(tmp_path / "show-o", words=home / "phi-1_5")


def test_a_published_width_with_a_lost_layer_is_not_taken_for_a_smaller_model(monkeypatch, tmp_path):
    shapes = {name: tuple(shape) for name, shape in showo_shapes(2048, 23, 32, 8192).items()}
    monkeypatch.setattr(showo_files, "open_weights", lambda folder: Weights(folder, shapes, {}))
    with pytest.raises(UserError, match="num_hidden_layers 23; expected 24"):
        showo_files.load_phi(tmp_path, {}, ShowoConfig(), torch.float32, "cpu", "sdpa")


def test_a_hub_id_takes_its_companions_from_the_hub(home, monkeypatch, tmp_path):
    hub = tmp_path / "hub"
    write_showo(hub / "showlab" / "show-o" / "snapshot")
    asked = []

    def fetch(repo, **_):
        asked.append(repo)
        if repo == "showlab/magvitv2":
            raise OSError("no network")
        return str(hub / repo / "snapshot")

    monkeypatch.setattr("huggingface_hub.snapshot_download", fetch)
    with pytest.raises(UserError, match="showlab/magvitv2 is no folder here"):
        Showo.from_pretrained("showlab/show-o", words=home / "phi-1_5")
    assert asked == ["showlab/show-o", "showlab/magvitv2"]
    assert showo_files.words_of(hub, {"llm_model_path": "/home/somebody/phi-1_5"}) == "microsoft/phi-1_5"


def test_saved_weights_load_again_under_the_published_names(model, home, tmp_path):
    from safetensors.torch import load_file

    model.save_pretrained(tmp_path / "tuned")
    saved = load_file(tmp_path / "tuned" / "pytorch_model.safetensors")
    assert {n: list(t.shape) for n, t in saved.items()} == showo_shapes(
        WIDTH, LAYERS, HEADS, INNER, TEXT + NEW + CODES + 1
    )
    again = Showo.from_pretrained(tmp_path / "tuned", words=home / "phi-1_5", dtype="fp32")
    ids = model.sequence([LONG], half_drawn(1))
    with torch.no_grad():
        assert torch.equal(
            again.full_logits(ids, again.full_mask(ids)), model.full_logits(ids, model.full_mask(ids))
        )


def test_the_loop_leaves_as_many_masked_as_show_os(home, tmp_path):
    write_showo(tmp_path / "show-o", tokens=256)
    model = Showo.from_pretrained(tmp_path / "show-o", words=home / "phi-1_5")
    left = [int(step.masked.sum()) for step in masked_rounds(model, [SHORT], [0], seed=0)]
    assert left == [*masked_after(256, 18)[:-1], 0]
