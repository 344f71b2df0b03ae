"""Janus-Pro against transformers' own drawing, on a tiny random checkpoint that is written here in the published format.

What transformers' loop sees at each step is watched by a logits processor, which also draws: by the same uniform numbers
as ours, from the logits it was handed, in float64. What cannot be tested without the real weights is whether the
pictures are any good.
"""

import json
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import (
    JanusConfig,
    JanusForConditionalGeneration,
    JanusProcessor,
    LogitsProcessor,
    LogitsProcessorList,
    PreTrainedTokenizerFast,
)

from cotlib.decoding import raster_steps, run_steps, sample_raster
from cotlib.decoding.noise import path_uniforms
from cotlib.errors import UserError
from cotlib.interfaces import FINAL
from cotlib.models.generator import GeneratorConfig, PictogramGenerator
from cotlib.models.published.janus import Janus, JanusCache
from cotlib.models.published.janus_files import JanusConfig as Sizes
from cotlib.models.published.janus_files import JanusParts, sizes_of
from cotlib.search import STRATEGIES, Ledger, logprob, orm, single
from cotlib.search.logprob import LOG_P

BOS, EOS, PAD = "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜▁pad▁｜>"
BOI, EOI, IMAGE, USER, ASSISTANT = (
    "<begin_of_image>",
    "<end_of_image>",
    "<image_placeholder>",
    "<|User|>",
    "<|Assistant|>",
)
SIDE, N, V, WIDTH = 3, 9, 48, 32  # a grid of 3 x 3 codes
SHORT, LONG = "a cat", "two red dogs and a blue cup"
CLOSE = 1e-5
# what the published chat template makes of one user's turn, written in our own words
TEMPLATE = (
    "{% for message in messages %}{{ '<|User|>: ' }}"
    "{% for part in message['content'] %}{{ part['text'].strip() }}{% endfor %}"
    "{{ '\n\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|Assistant|>:' }}{% endif %}"
)


# ----- a checkpoint in the published format ------------------------------------------------------------------------


def write_tokenizer(folder, without: str = "") -> None:
    """A byte-level tokenizer.json as DeepSeek's, with the class that Janus-Pro's own tokenizer_config.json names."""
    vocab = {letter: i for i, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    merges = [("Ġ", "a"), ("c", "a"), ("ca", "t"), ("Ġ", "c"), ("r", "e"), ("re", "d"), ("Ġ", "red")]
    for pair in merges:
        vocab["".join(pair)] = len(vocab)
    made = Tokenizer(models.BPE(vocab=vocab, merges=merges))
    made.pre_tokenizer, made.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    marks = [token for token in (BOS, EOS, PAD, BOI, EOI, IMAGE, USER, ASSISTANT) if token != without]
    made.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in marks])
    if BOS in marks:
        made.post_processor = processors.TemplateProcessing(
            f"{BOS} $A", special_tokens=[(BOS, made.token_to_id(BOS))]
        )
    made.save(str(folder / "tokenizer.json"))
    said = {"tokenizer_class": "LlamaTokenizerFast", "bos_token": BOS, "eos_token": EOS, "pad_token": PAD,
            "extra_special_tokens": {"boi_token": BOI, "eoi_token": EOI, "image_token": IMAGE}}  # fmt: skip
    (folder / "tokenizer_config.json").write_text(json.dumps(said))


def reference(**text) -> JanusForConditionalGeneration:
    """transformers' model with weights that make every part matter; four heads share two of keys and values."""
    said = {"model_type": "llama", "vocab_size": 320, "hidden_size": WIDTH, "intermediate_size": 48, "num_hidden_layers": 3,
            "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 256}  # fmt: skip
    config = JanusConfig(
        text_config=said | text,
        vision_config={"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 2 * SIDE,
                       "patch_size": 2, "projection_dim": WIDTH, "num_image_tokens": N},
        vq_config={"embed_dim": 4, "num_embeddings": V, "latent_channels": 32, "base_channels": 32, "num_res_blocks": 1,
                   "channel_multiplier": [1, 2], "projection_dim": WIDTH, "image_token_embed_dim": WIDTH},
        image_token_id=5, tie_word_embeddings=False,
    )  # fmt: skip
    torch.manual_seed(5)
    model = JanusForConditionalGeneration(config).eval()
    with torch.no_grad():
        for name, p in model.named_parameters():
            near_one = "norm" in name and name.endswith("weight")
            p.normal_(1.0 if near_one else 0.0, 0.2 if p.ndim == 1 else 1.4 / p[0].numel() ** 0.5)
        model.model.generation_head.vision_head.weight.mul_(0.3)  # logits of a few units, also under guidance
        model.model.generation_embeddings.weight.normal_(0, 1)
        model.model.language_model.embed_tokens.weight.normal_(0, 1)
    return model


def write_janus(folder, model=None) -> JanusForConditionalGeneration:
    """A whole Janus-Pro folder; returns transformers' model of it."""
    folder.mkdir(parents=True, exist_ok=True)
    model = model or reference()
    write_tokenizer(folder)
    words = Tokenizer.from_file(str(folder / "tokenizer.json"))
    ids = {name: words.token_to_id(token) for name, token in (("bos", BOS), ("eos", EOS), ("pad", PAD))}
    model.generation_config.update(**{f"{name}_token_id": number for name, number in ids.items()})
    model.generation_config.generation_kwargs = {"boi_token_id": words.token_to_id(BOI)}
    model.save_pretrained(folder)
    return model


def edited(home, tmp_path, edit) -> Path:
    """A copy of the folder whose tensors were changed by `edit`."""
    folder = shutil.copytree(home, tmp_path / "edited")
    tensors = load_file(folder / "model.safetensors")
    edit(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("hub") / "Janus-Pro"


@pytest.fixture(scope="module")
def theirs(home) -> JanusForConditionalGeneration:
    return write_janus(home)


@pytest.fixture(scope="module")
def model(home, theirs) -> Janus:
    return Janus.from_pretrained(home)


@pytest.fixture(scope="module")
def processor(home, theirs) -> JanusProcessor:
    words = PreTrainedTokenizerFast(
        tokenizer_file=str(home / "tokenizer.json"), bos_token=BOS, eos_token=EOS, pad_token=PAD,
        extra_special_tokens={"boi_token": BOI, "eoi_token": EOI, "image_token": IMAGE},
    )  # fmt: skip
    return JanusProcessor(image_processor(), words, chat_template=TEMPLATE, num_image_tokens=N)


def image_processor():
    """Janus-Pro's, without torchvision: mean and deviation of one half, as its preprocessor_config.json says."""
    from transformers.models.janus.image_processing_pil_janus import JanusImageProcessorPil

    return JanusImageProcessorPil(image_mean=[0.5] * 3, image_std=[0.5] * 3)


class Watch(LogitsProcessor):
    """Notes the raw logits [2B, V] of each step, prompt rows first, and draws code by code from Janus's own formula.

    uniforms: [B, N], or None for the likeliest code.
    """

    def __init__(self, weight: float, uniforms=None):
        self.weight, self.uniforms, self.steps = weight, uniforms, []

    def __call__(self, input_ids, scores):
        own, empty = scores.double().chunk(2)
        guided = empty + self.weight * (own - empty)
        self.steps.append((own, empty, guided))
        if self.uniforms is None:
            code = guided.argmax(-1)
        else:
            p = np.exp(guided.numpy() - guided.numpy().max(-1, keepdims=True))
            border = np.cumsum(p / p.sum(-1, keepdims=True), -1)
            code = (border <= self.uniforms[:, len(self.steps) - 1, None].numpy()).sum(-1)
        only = torch.nn.functional.one_hot(torch.as_tensor(code), scores.shape[1]).float()
        return torch.cat([only, torch.zeros_like(only)])  # with any weight, and greedily, that code is taken


def generate(theirs, processor, prompts, weight=5.0, uniforms=None):
    """(codes [B, N], each step's (prompt logits, unconditional ones, guided ones), [B, V] each) of transformers' own loop.

    One prompt at a time: padded ones see their pads in transformers 4.57.
    """
    codes, watched = [], []
    for b, prompt in enumerate(prompts):
        chat = [{"role": "user", "content": [{"type": "text", "text": prompt}]}]
        text = processor.apply_chat_template(chat, add_generation_prompt=True)
        # a list: transformers 5.10 to 5.17 take a string for a list of letters
        inputs = processor(text=[text], generation_mode="image", return_tensors="pt")
        watch = Watch(weight, None if uniforms is None else uniforms[b : b + 1])
        codes.append(theirs.generate(
            input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"], generation_mode="image",
            do_sample=False, guidance_scale=weight, logits_processor=LogitsProcessorList([watch]),
        ))  # fmt: skip
        watched.append(watch.steps)
    steps = [[torch.cat(parts) for parts in zip(*step, strict=True)] for step in zip(*watched, strict=True)]
    return torch.cat(codes), steps


def run(model, prompts, numbers, seed=0, stop=None, **options):
    """All steps of a loop; stop: {step: which rows go on, bool}."""
    loop, answer, steps = raster_steps(model, prompts, numbers, seed, **options), None, []
    while True:
        try:
            step = loop.send(answer)
        except StopIteration:
            return steps
        steps.append(step)
        answer = (stop or {}).get(step.index)


# ----- the same numbers as transformers ----------------------------------------------------------------------------


def test_text_becomes_the_same_ids(model, processor):
    chat = [{"role": "user", "content": [{"type": "text", "text": "  two red cats \n"}]}]
    text = processor.apply_chat_template(chat, add_generation_prompt=True)
    right = processor(text=[text], generation_mode="image", return_tensors="pt")["input_ids"][0].tolist()
    assert model.text_ids("  two red cats \n") == right
    words = [model.words.id_to_token(i) for i in right]
    assert (words[0], words[-1]) == (BOS, BOI) and words[1] == USER and ASSISTANT in words
    assert "Ġred" in words  # a blank is kept: the class that tokenizer_config.json names may lose it


def test_the_unconditional_prompt_keeps_bos_and_boi(model):
    ids, pads = model.text_batch([SHORT, LONG])
    empty = model.without_prompt(ids)
    assert pads[1] == 0 < pads[0] and empty.shape == ids.shape
    kept = (ids == model.bos) | (ids == model.boi)
    assert torch.equal(empty[kept], ids[kept]) and (empty[~kept] == model.pad).all() and kept.sum() == 4


@pytest.mark.parametrize("weight", [5.0, 2.5])
def test_every_step_has_the_same_logits(model, theirs, processor, weight):
    prompts, numbers = [LONG, SHORT, LONG], [0, 0, 1]
    uniforms = path_uniforms(3, prompts, numbers, (N,))
    codes, watched = generate(theirs, processor, prompts, weight, uniforms)
    assert len(watched) == N and len(codes.unique()) > N  # the tiny model does not repeat itself
    prefix, stretched = model.prefix(prompts, weight - 1), (2 * weight - 1) * CLOSE
    cache, plain = model.start_cache(prefix, 3), model.start_cache(model.prefix(prompts, 0), 3)
    before = torch.full((3,), model.mask_id)
    for place, (own, empty, guided) in enumerate(watched):
        assert (model.next_logits(cache, before, place) - guided).abs().max() < stretched
        assert (model.next_logits(plain, before, place) - own).abs().max() < CLOSE
        assert (model.head(cache.last) - torch.cat([own, empty])).abs().max() < CLOSE
        before = codes[:, place]
    rows = torch.ones_like(codes, dtype=torch.bool)
    whole = torch.stack([guided for _, _, guided in watched], 1)
    assert (model.logits(prefix, codes, rows).view(3, N, V) - whole).abs().max() < stretched


@pytest.mark.parametrize("prompts", [[SHORT], [SHORT, LONG, "x", LONG]])
def test_the_same_uniforms_draw_the_same_codes(model, theirs, processor, prompts):
    numbers = list(range(len(prompts)))
    right, watched = generate(theirs, processor, prompts, uniforms=path_uniforms(1, prompts, numbers, (N,)))
    steps = run(model, prompts, numbers, seed=1)
    assert torch.equal(steps[-1].codes, right) and torch.equal(
        sample_raster(model, prompts, numbers, 1), right
    )
    for place, (step, (_, _, guided)) in enumerate(zip(steps, watched, strict=True)):
        exact = guided.log_softmax(-1).gather(1, right[:, place, None])[:, 0]
        assert (step.log_p[:, place] - exact).abs().max() < CLOSE and step.log_p.count_nonzero() == len(
            prompts
        )
        assert (step.codes[:, place + 1 :] == model.mask_id).all() and step.masked.sum() == len(prompts) * (
            N - place - 1
        )


def test_greedy_drawing_agrees(model, theirs, processor):
    right, _ = generate(theirs, processor, [SHORT, LONG])
    cold = sample_raster(model, [SHORT, LONG], [0, 0], seed=0, temperature=1e-4)
    assert torch.equal(cold, right)


def test_guidance_comes_after_the_head(model):
    """The head has a GELU, so guiding hidden states, exact for a linear head, would draw from other odds."""
    assert (model.config.guidance, model.config.order, model.config.steps) == (4.0, "raster", N)
    last = model.prefix([LONG]).last
    right = model.guided(last, 4.0)
    own, empty = last.chunk(2)
    assert torch.allclose(right, 5 * model.head(own) - 4 * model.head(empty), atol=CLOSE)
    early = model.head(5 * own - 4 * empty)
    assert (early.softmax(-1) - right.softmax(-1)).abs().max() > 0.1


def test_without_guidance_there_is_one_branch(model):
    prefix = model.prefix([SHORT, LONG], 0)
    assert prefix.paths == len(prefix.last) == 2 and model.prefix([SHORT, LONG]).last.shape[0] == 4
    with pytest.raises(UserError, match="guidance is -1"):
        model.prefix([SHORT], -1)


# ----- paths that stop, and go on again ----------------------------------------------------------------------------


def test_survivors_draw_what_they_would_have_drawn_alone(model, monkeypatch):
    prompts, numbers = [SHORT, LONG, SHORT, LONG], [0, 0, 1, 7]
    whole = sample_raster(model, prompts, numbers, seed=2)
    seen, forward = [], model.llama.forward

    def counted(*args, inputs_embeds, **more):
        seen.append(inputs_embeds.shape[:2])
        return forward(*args, inputs_embeds=inputs_embeds, **more)

    monkeypatch.setattr(model.llama, "forward", counted)
    stop = {1: torch.tensor([True, False, True, True]), 4: torch.tensor([False, True, True])}
    steps = run(model, prompts, numbers, seed=2, stop=stop)
    assert [len(step.codes) for step in steps] == [4] * 2 + [3] * 3 + [2] * 4
    assert steps[-1].paths.tolist() == [1, 7] and torch.equal(steps[-1].codes, whole[2:])
    # two branches each; the text once per prompt; a stopped path costs nothing more
    assert [rows for rows, _ in seen] == [4] + [8] + [6] * 3 + [4] * 4
    assert [new for _, new in seen[1:]] == [1] * (N - 1)
    monkeypatch.undo()
    for prompt, number, row in zip(prompts, numbers, whole, strict=True):
        assert torch.equal(sample_raster(model, [prompt], [number], seed=2)[0], row)


def test_a_loop_whose_last_path_stops_ends(model):
    assert len(run(model, [SHORT], [0], stop={2: torch.tensor([False])})) == 3


@pytest.mark.parametrize("known", [1, 2, 5, 8])
@pytest.mark.parametrize("at_once", [True, False])
def test_a_path_goes_on_from_its_codes_as_if_it_had_never_paused(model, monkeypatch, known, at_once):
    prompts, numbers = [SHORT, LONG], [3, 4]
    steps = run(model, prompts, numbers, seed=6)
    if not at_once:
        monkeypatch.delattr(Janus, "fill_cache")
    resumed = run(model, prompts, numbers, seed=6, start=steps[known - 1].codes)
    assert [step.index for step in resumed] == list(range(known, N))
    assert torch.equal(resumed[-1].codes, steps[-1].codes)
    for early, late in zip(steps[known:], resumed, strict=True):
        assert torch.equal(early.masked, late.masked) and (early.log_p - late.log_p).abs().max() < CLOSE
        assert (late.confidence[:, :known] == float("inf")).all() and (late.log_p[:, :known] == 0).all()
    other = sample_raster(model, prompts, [8, 9], seed=6, start=steps[known - 1].codes)
    assert torch.equal(other[:, :known], steps[-1].codes[:, :known]) and not torch.equal(
        other, steps[-1].codes
    )


def test_the_pictogram_generator_goes_on_in_the_same_way():
    torch.manual_seed(0)
    small = PictogramGenerator(GeneratorConfig(order="raster", width=32, layers=2, heads=2, hidden=32))
    for p in small.parameters():
        torch.nn.init.normal_(p, std=0.3)
    prompts, numbers = ["a photo of a dog", "a photo of two cats"], [0, 5]
    steps = run(small, prompts, numbers, seed=3)
    resumed = run(small, prompts, numbers, seed=3, start=steps[20].codes)
    assert resumed[0].index == 21 and torch.equal(resumed[-1].codes, steps[-1].codes)


def test_codes_that_raster_order_cannot_go_on_from_are_refused(model):
    codes = torch.zeros(2, N, dtype=torch.long)
    gap, uneven, finished = codes.clone(), codes.clone(), codes
    gap[:, 3] = uneven[0, 5:] = uneven[1, 6:] = V
    for start in (gap, uneven):
        with pytest.raises(UserError, match="begin with equally many codes"):
            sample_raster(model, [SHORT, LONG], [0, 0], 0, start=start)
    with pytest.raises(UserError, match="are finished"):
        sample_raster(model, [SHORT, LONG], [0, 0], 0, start=finished)
    with pytest.raises(UserError, match=rf"shape \[2, {N - 1}\]; expected \[2, {N}\]"):
        sample_raster(model, [SHORT, LONG], [0, 0], 0, start=gap[:, 1:])
    with pytest.raises(UserError, match="before those in front of it are drawn"):
        model.logits(model.prefix([SHORT, LONG]), gap, torch.ones_like(gap, dtype=torch.bool))
    rows = torch.zeros_like(gap, dtype=torch.bool)
    rows[:, 3] = True  # the first undrawn place itself may be asked for
    assert model.logits(model.prefix([SHORT, LONG]), gap, rows).shape == (2, V)


def room_for_two(monkeypatch) -> list[int]:
    """From now on three paths are too many at once; returns the list of how many were tried."""
    taken, start_cache = [], Janus.start_cache

    def tight(self, prefix, rows):
        taken.append(rows)
        if rows > 2:
            raise torch.OutOfMemoryError("out of memory")
        return start_cache(self, prefix, rows)

    monkeypatch.setattr(Janus, "start_cache", tight)
    return taken


def test_too_many_paths_are_drawn_in_groups(home, model, monkeypatch):
    prompts, numbers = [SHORT, LONG, SHORT, LONG, SHORT], [0, 0, 1, 1, 2]
    right = sample_raster(model, prompts, numbers, seed=4)
    small = Janus.from_pretrained(home, chunk=4)
    taken = room_for_two(monkeypatch)
    with pytest.warns(UserWarning, match="4 paths at once do not fit.*going on with 2"):
        got = sample_raster(small, prompts, numbers, seed=4)
    assert torch.equal(got, right) and taken == [4, 2, 2, 1]
    start = right.clone()
    start[:, 4:] = V
    assert torch.equal(sample_raster(small, prompts, numbers, seed=4, start=start), right)


def test_a_device_without_room_says_how_much_is_needed(model, monkeypatch):
    tokens = 2**22  # a picture too large for this test's patience
    parts = JanusParts(replace(model.config, tokens=tokens), model.network, model.ends)
    vast = Janus(parts, model.words)

    def full(self, room):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(JanusCache, "with_room", full)
    prefix = model.prefix([SHORT], 4.0)
    numbers = 2 * 3 * 2 * (WIDTH // 4)  # keys and values; layers; heads of keys and values; their size
    size = (
        4 * numbers * (2 * 5) * (prefix.used + tokens - 1) / 2**30
    )  # five paths of two branches, in float32
    with pytest.raises(torch.OutOfMemoryError, match=f"5 paths need {size:.1f} GiB.*chunk") as error:
        vast.start_cache(prefix, 5)
    assert size > 1 and not isinstance(error.value, UserError)  # whoever draws in groups catches it


# ----- pictures ----------------------------------------------------------------------------------------------------


def test_pictures_have_the_same_pixels(model, theirs):
    codes = torch.randint(V, (3, N), generator=torch.Generator().manual_seed(0))
    ours = model.decode(codes)
    with torch.no_grad():
        raw = theirs.decode_image_tokens(codes)
    assert ours.shape == (3, 3, 2 * SIDE, 2 * SIDE) and ours.dtype == torch.float32
    assert raw.min() < -1 and raw.max() > 1 and ours.min() == 0 and ours.max() == 1
    assert torch.allclose(ours.permute(0, 2, 3, 1), ((raw + 1) / 2).clamp(0, 1), atol=1e-6)
    right = image_processor().postprocess(list(raw.permute(0, 3, 1, 2).numpy()), return_tensors="np")[
        "pixel_values"
    ]
    levels = (ours * 255).numpy()
    assert np.abs(levels - right).max() < 1.001  # theirs are cut off to whole levels


def test_an_unfinished_picture_has_the_placeholder_behind_its_last_code(home, model, theirs):
    codes = run(model, [LONG], [0])[4].codes
    assert (codes == model.mask_id).sum() == N - 5
    other = Janus.from_pretrained(home, placeholder=7)
    for drawer, code in ((model, 0), (other, 7)):
        with torch.no_grad():
            raw = theirs.decode_image_tokens(codes.masked_fill(codes == model.mask_id, code))
        assert torch.allclose(
            drawer.decode(codes).permute(0, 2, 3, 1), ((raw + 1) / 2).clamp(0, 1), atol=1e-6
        )
    drawn = slice(0, 2)  # pixel rows of the first row of codes: drawn, but not final
    assert (model.decode(codes)[:, :, drawn] - other.decode(codes)[:, :, drawn]).abs().max() > 1e-3
    with pytest.raises(UserError, match=f"placeholder is {V}; expected a code from 0 to {V - 1}"):
        Janus.from_pretrained(home, placeholder=V)


# ----- number formats ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("dtype", "close"), [("bf16", 1.0), ("fp16", 0.1)])
def test_half_precision_is_near(home, model, dtype, close):
    half = Janus.from_pretrained(home, dtype=dtype)
    kind = {"bf16": torch.bfloat16, "fp16": torch.float16}[dtype]
    assert {p.dtype for p in half.network.parameters()} == {kind}
    assert {p.dtype for p in half.ends.parameters()} == {torch.float32}
    codes = torch.randint(V, (2, N), generator=torch.Generator().manual_seed(1))
    rows = torch.ones_like(codes, dtype=torch.bool)
    right = model.logits(model.prefix([SHORT, LONG]), codes, rows)
    got = half.logits(half.prefix([SHORT, LONG]), codes, rows)
    assert got.dtype == torch.float32 and 0 < (got - right).abs().max() < close < right.std()
    assert torch.equal(half.decode(codes), model.decode(codes))
    assert sample_raster(half, [SHORT] * 2, [0, 1], seed=0).max() < V


# ----- strategies --------------------------------------------------------------------------------------------------


class Brightest:
    """A verifier that likes bright pictures."""

    questions = (FINAL, "STEP", "CLARITY", "POTENTIAL", "REFLECT")

    def __init__(self):
        self.shown = Counter()

    def ask(self, question, prompts, images):
        self.shown[question] += len(images)
        return images.mean((1, 2, 3))


def test_best_of_n_strategies_draw_with_it(model):
    prompts, n = [SHORT, LONG], 3
    outcome = single(model, prompts, n, seed=5)
    codes = torch.stack([path.codes for own in outcome.paths for path in own])
    texts = [prompt for prompt in prompts for _ in range(n)]
    assert torch.equal(codes, sample_raster(model, texts, [0, 1, 2] * 2, seed=5))
    assert torch.equal(outcome.images, model.decode(codes[::n]))
    assert outcome.ledger.generator_token_passes == 2 * len(codes) * N  # two branches, one token a step

    ledger, verifier = Ledger(), Brightest()
    best = orm(model, prompts, n, 5, ledger, verifier=verifier)
    brightness = model.decode(codes).mean((1, 2, 3)).view(2, n)
    assert (
        best.chosen == brightness.argmax(1).tolist() and verifier.shown == {FINAL: 6} == ledger.verifier_calls
    )

    likely = logprob(model, prompts, n, seed=5)
    every = model.logits(model.prefix(texts), codes, torch.ones_like(codes, dtype=torch.bool)).view(6, N, V)
    mean = every.log_softmax(-1).gather(2, codes[:, :, None])[:, :, 0].mean(1)
    scores = torch.tensor([path.scores[LOG_P][0] for own in likely.paths for path in own])
    assert torch.allclose(scores, mean, atol=1e-4) and likely.chosen == mean.view(2, n).argmax(1).tolist()


def test_best_of_n_draws_in_groups_too(home, model, monkeypatch):
    prompts, n = [SHORT, LONG], 3
    right = logprob(model, prompts, n, seed=5)
    small = Janus.from_pretrained(home, chunk=4)
    room_for_two(monkeypatch)
    with pytest.warns(UserWarning, match="4 paths at once do not fit.*going on with 2"):
        got = logprob(small, prompts, n, seed=5)
    assert got.chosen == right.chosen
    for own, other in zip(sum(got.paths, []), sum(right.paths, []), strict=True):
        assert torch.equal(own.codes, other.codes)
        assert own.scores[LOG_P][0] == pytest.approx(other.scores[LOG_P][0], abs=1e-5)
    assert got.ledger.generator_token_passes == right.ledger.generator_token_passes


@pytest.mark.parametrize("name", ["prm", "prm-zs", "parm", "halving", "parm++"])
def test_strategies_that_look_at_unfinished_pictures_refuse_it(model, name):
    verifier = Brightest()
    more = {"correct": None} if name == "parm++" else {}
    with pytest.raises(
        UserError, match="which raster order does not have; use masked order, or the strategy orm"
    ):
        STRATEGIES[name](model, [SHORT], 2, verifier=verifier, **more)
    assert not verifier.shown


def test_steps_mean_nothing_to_it(model):
    assert [step.index for step in run_steps(model, [SHORT], [0], 0, steps=3)] == list(range(N))


# ----- what the folders say ----------------------------------------------------------------------------------------


def test_the_parts_that_do_not_draw_are_not_needed(home, model, tmp_path):
    def without(tensors):
        for name in list(tensors):
            if name.startswith(("lm_head", "model.vision_model", "model.aligner", "model.vqmodel.encoder")):
                del tensors[name]

    lean = Janus.from_pretrained(edited(home, tmp_path, without))
    assert torch.equal(lean.prefix([LONG]).last, model.prefix([LONG]).last)
    assert not any(
        f".{part}." in name
        for name in lean.state_dict()
        for part in ("encoder", "quant_conv", "vision_model")
    )


def test_the_names_are_the_published_ones(home, theirs):
    """As deepseek-community/Janus-Pro has them, from the table of transformers' conversion script."""
    names = set(load_file(home / "model.safetensors"))
    assert names >= {
        "lm_head.weight", "model.aligner.fc1.weight", "model.generation_aligner.fc1.weight",
        "model.generation_aligner.hidden_layers.0.bias", "model.generation_embeddings.weight",
        "model.generation_head.proj_out.weight", "model.generation_head.vision_head.bias",
        "model.language_model.embed_tokens.weight", "model.language_model.layers.2.self_attn.q_proj.weight",
        "model.language_model.norm.weight", "model.vision_model.embeddings.position_embedding.weight",
        "model.vqmodel.decoder.up.0.block.0.conv1.weight", "model.vqmodel.decoder.mid.attn_1.q.weight",
        "model.vqmodel.post_quant_conv.weight", "model.vqmodel.quantize.embedding.weight",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "message"),
    [("model.generation_head.vision_head.bias", "1 tensor missing .generation_head.vision_head.bias"),
     ("model.language_model.layers.1.mlp.up_proj.weight", "1 tensor missing .language_model.layers.1.mlp.up_proj"),
     ("model.vqmodel.post_quant_conv.weight", "1 tensor missing .vqmodel.post_quant_conv.weight")],
)  # fmt: skip
def test_a_missing_tensor_is_refused(home, theirs, tmp_path, name, message):
    with pytest.raises(UserError, match=message):
        Janus.from_pretrained(edited(home, tmp_path, lambda tensors: tensors.pop(name)))


def test_extra_and_misshapen_tensors_are_refused(home, theirs, tmp_path):
    for number, (name, message) in enumerate([
        ("model.language_model.layers.3.mlp.up_proj.weight", "1 tensor left over"),
        ("model.somebody.else", "1 tensor left over .model.somebody.else"),
        ("model.vqmodel.quantize.usage", "1 tensor left over"),
        ("model.generation_embeddings.weight", "has shape .2, 2.; expected"),
    ]):  # fmt: skip
        with pytest.raises(UserError, match=message):
            Janus.from_pretrained(
                edited(home, tmp_path / str(number), lambda t, n=name: t.update({n: torch.zeros(2, 2)}))
            )


def test_a_truncated_file_is_refused(home, theirs, tmp_path):
    folder = shutil.copytree(home, tmp_path / "cut")
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-5000])
    with pytest.raises(UserError, match="damaged or truncated"):
        Janus.from_pretrained(folder)
    file.unlink()
    with pytest.raises(UserError, match="has no weights"):
        Janus.from_pretrained(folder)


def test_folders_of_other_models_are_refused(tmp_path):
    for said, message in (
        ({"_class_name": "Showo"}, "is of the model Showo; expected JanusForConditionalGeneration or janus"),
        ({"architectures": ["LlamaForCausalLM"], "model_type": "llama"}, "is of the model LlamaForCausalLM"),
        ({"architectures": ["MultiModalityCausalLM"], "model_type": "multi_modality"}, "format of Janus's own code.*deepseek-community"),
        ({"model_type": "janus", "text_config": {}, "vision_config": {}}, "has no vq_config"),
        ({"model_type": "janus", "text_config": {"hidden_size": "wide"}, "vision_config": {}, "vq_config": {}}, "does not describe"),
    ):  # fmt: skip
        (tmp_path / "config.json").write_text(json.dumps(said))
        with pytest.raises(UserError, match=message):
            Janus.from_pretrained(tmp_path)
    with pytest.raises(UserError, match="is no folder"):
        Janus.from_pretrained(tmp_path / "nothing")


def test_sizes_that_do_not_fit_are_refused(home, theirs, tmp_path):
    folder = shutil.copytree(home, tmp_path / "wrong")
    good = json.loads((home / "config.json").read_text())
    for part, name, value, message in (
        ("vision_config", "num_image_tokens", 16, f"num_image_tokens as 16; expected {N}"),
        ("vq_config", "projection_dim", 16, f"projection_dim of vq_config as 16; expected {WIDTH}"),
        ("vq_config", "image_token_embed_dim", 64, "image_token_embed_dim of vq_config as 64"),
        ("vq_config", "num_embeddings", V + 1, rf"has shape .*expected \[{V + 1}"),
        ("text_config", "num_hidden_layers", 2, "left over"),
    ):
        said = json.loads(json.dumps(good))
        said[part][name] = value
        (folder / "config.json").write_text(json.dumps(said))
        with pytest.raises(UserError, match=message):
            Janus.from_pretrained(folder)


def test_the_tokenizer_has_to_be_januss(home, theirs, tmp_path):
    folder = shutil.copytree(home, tmp_path / "words")
    write_tokenizer(folder, without=BOI)
    with pytest.raises(UserError, match=f"has no token {BOI}; expected the tokenizer of Janus-Pro"):
        Janus.from_pretrained(folder)
    (folder / "tokenizer.json").write_text("{")
    with pytest.raises(UserError, match="tokenizer.json cannot be read"):
        Janus.from_pretrained(folder)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(UserError, match="has no tokenizer.json"):
        Janus.from_pretrained(folder)
    words = write_janus(tmp_path / "few", reference(vocab_size=200))
    assert words.config.text_config.vocab_size == 200
    with pytest.raises(UserError, match="entries; expected at most 200"):
        Janus.from_pretrained(tmp_path / "few")


@pytest.mark.parametrize("mark", [BOI, BOS, USER, ASSISTANT, IMAGE, EOI, PAD, EOS])
def test_a_mark_of_the_chat_in_a_prompt_is_refused(model, mark):
    with pytest.raises(UserError, match="has a mark of the chat"):
        model.prefix([f"a cat {mark} a dog"])


def test_a_prompt_that_leaves_no_room_for_the_picture_is_refused(model):
    assert model.max_text == 256 - N
    spare = model.max_text - len(model.text_ids("x"))
    assert len(model.text_ids("x" * (1 + spare))) == model.max_text
    with pytest.raises(
        UserError, match=f"has {model.max_text + 1} tokens; expected at most {model.max_text}"
    ):
        model.text_ids("x" * (2 + spare))


def test_the_defaults_are_the_published_sizes():
    """576 codes of 16384 in a square of 24, whatever the language model; guidance 4 is Janus's weight of 5."""
    published = {"model_type": "llama", "hidden_size": 2048, "max_position_embeddings": 16384}
    described = JanusConfig(text_config=published)
    assert (
        sizes_of(Path("here"), described)
        == Sizes(tokens=576, codes=16384, longest=16384, guidance=4.0)
        == Sizes()
    )
