"""LLaVA-OneVision as verifier, on tiny random checkpoints in both published formats.

Oracles: transformers' own forward pass and picture processor, one row at a time, without cache or padding.
"""

import json

import pytest
import torch
from PIL import Image
from published_tools import EOS, GRID, SIDE, tiny_model, tokenizer, write_next
from safetensors.torch import load_file, save_file
from tokenizers import pre_tokenizers
from transformers import Qwen2Tokenizer
from transformers.models.llava_onevision.image_processing_pil_llava_onevision import (
    LlavaOnevisionImageProcessorPil,
)

from cotlib.errors import UserError
from cotlib.interfaces import CLARITY, FINAL, POTENTIAL, STEP
from cotlib.loading import load
from cotlib.models.published.llava import BEFORE, LlavaVerifier, load_tokenizer, read_questions, tokens
from cotlib.models.published.llava_images import Look, best_grid, padded_square, read_grids
from cotlib.models.published.pictures import to_pil
from cotlib.search import parm

PROMPTS = ["a photo of a dog", "a photo of two red cats and a bench", "a photo of an apple"]


def old_hub_name(name: str) -> str:
    """The name in the hub's transformers files of before version 4.52."""
    for ours, theirs in {"model.vision_tower.": "vision_tower.vision_model.", "model.language_model.": "language_model.model.",
                         "lm_head": "language_model.lm_head", "model.": ""}.items():  # fmt: skip
        if name.startswith(ours):
            return theirs + name[len(ours) :]
    return name


@pytest.fixture(scope="module")
def words():
    return tokenizer()


@pytest.fixture(scope="module")
def model(words):
    return tiny_model(False, len(words) + 5)


@pytest.fixture(scope="module")
def folders(tmp_path_factory, model, words):
    root = tmp_path_factory.mktemp("llava")
    model.save_pretrained(root / "transformers")
    words.save_pretrained(root / "transformers")
    old = root / "old"
    old.mkdir()
    (old / "config.json").write_text((root / "transformers" / "config.json").read_text())
    save_file(
        {old_hub_name(k): v.contiguous() for k, v in model.state_dict().items()}, old / "model.safetensors"
    )
    words.save_pretrained(old)
    return {
        "next": write_next(root / "next", model, words, False),
        "transformers": root / "transformers",
        "old": old,
    }


@pytest.fixture(scope="module", params=("pad", "anyres"))
def verifier(folders, request):
    return LlavaVerifier.from_pretrained(folders["next"], mode=request.param, batch=2)


def pictures(count=3, size=(40, 40), seed=0):
    return torch.rand(count, 3, size[1], size[0], generator=torch.Generator().manual_seed(seed))


def naive(model, words, wording, question, prompt, picture, mode):
    """Last-position logits by transformers alone: one row, no cache, no padding, the chat put together by hand."""
    look = LlavaOnevisionImageProcessorPil(
        size={"height": SIDE, "width": SIDE},
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
        image_grid_pinpoints=GRID,
    )
    if mode == "anyres":
        seen = look(picture, return_tensors="pt")
        visual = model.model.get_image_features(seen["pixel_values"], seen["image_sizes"]).pooler_output[0]
    else:  # its single-tile path opens only for two pictures of one row
        seen = look([[picture, picture]], return_tensors="pt")
        visual = model.model.get_image_features(
            seen["pixel_values"], seen["image_sizes"], batch_num_images=torch.tensor([2])
        )
        visual = visual.pooler_output[0]
    said = wording[CLARITY if question == POTENTIAL else question].replace("{prompt}", prompt)
    after = f" {said}<|im_end|>\n<|im_start|>assistant\n"
    if question == POTENTIAL:
        after += f"yes<|im_end|>\n<|im_start|>user\n{wording[POTENTIAL]}<|im_end|>\n<|im_start|>assistant\n"
    embed = model.get_input_embeddings()
    first, last = (embed(torch.tensor(words(text)["input_ids"])) for text in (BEFORE, after))
    return model(inputs_embeds=torch.cat([first, visual, last])[None]).logits[0, -1]


# ----- both formats, against transformers ---------------------------------------------------------------------------


def test_all_formats_hold_the_same_model(folders):
    loaded = {
        name: LlavaVerifier.from_pretrained(folder).model.state_dict() for name, folder in folders.items()
    }
    first = loaded.pop("next")
    assert not any(t.is_meta for t in first.values())
    for other in loaded.values():
        assert first.keys() == other.keys()
        assert all(torch.equal(first[name], other[name]) for name in first)


@pytest.mark.parametrize("size", [(40, 40), (28, 28), (60, 33), (30, 70)])
@torch.no_grad()
def test_logits_equal_transformers_own(verifier, model, words, size):
    mode = "anyres" if verifier.look.grids else "pad"
    images = pictures(2, size, seed=size[0])
    for question in (FINAL, STEP, CLARITY, POTENTIAL):
        verifier.forget()
        ours = verifier.logits(question, PROMPTS[:2], images)
        for row, prompt, picture in zip(ours, PROMPTS, to_pil(images), strict=False):
            theirs = naive(model, words, verifier.wording, question, prompt, picture, mode)
            assert (row - theirs).abs().max() <= 1e-5
    assert ours.std() > 0.1


def test_the_formats_answer_alike(folders):
    images = pictures()
    answers = [LlavaVerifier.from_pretrained(folder, mode=mode).logits(FINAL, PROMPTS, images)
               for folder in folders.values() for mode in ("pad", "anyres")]  # fmt: skip
    assert torch.equal(answers[0], answers[2]) and torch.equal(answers[1], answers[3])
    assert torch.equal(answers[0], answers[4]) and not torch.equal(answers[0], answers[1])


def test_a_tied_checkpoint_has_no_head_and_needs_none(tmp_path, words):
    model = tiny_model(True, len(words))
    folder = write_next(tmp_path / "tied", model, words, True)
    verifier = LlavaVerifier.from_pretrained(folder)
    theirs = naive(model, words, verifier.wording, FINAL, PROMPTS[0], to_pil(pictures(1))[0], "pad")
    assert (verifier.logits(FINAL, PROMPTS[:1], pictures(1))[0] - theirs).abs().max() <= 1e-5


def test_half_precision_is_near(folders):
    whole, half = (LlavaVerifier.from_pretrained(folders["next"], dtype=d).logits(FINAL, PROMPTS, pictures())
                   for d in ("float32", "bfloat16"))  # fmt: skip
    assert half.dtype == torch.float32 and 0 < (whole - half).abs().max() < 0.05 * whole.std() + 0.2


# ----- batches, padding, memory --------------------------------------------------------------------------------------


@pytest.mark.parametrize("question", (FINAL, STEP, CLARITY, POTENTIAL))
def test_a_batch_answers_as_one_by_one(verifier, question):
    verifier.forget()
    images = pictures()
    together = verifier.logits(question, PROMPTS, images)
    verifier.forget()
    alone = torch.cat([verifier.logits(question, [p], images[i : i + 1]) for i, p in enumerate(PROMPTS)])
    assert (together - alone).abs().max() <= 1e-5


def test_padding_on_the_left_changes_nothing(verifier):
    """A short prompt beside ever longer ones."""
    images = pictures(2)
    alone = verifier.logits(FINAL, ["a"], images[:1])
    for length in (1, 7, 60):
        beside = verifier.logits(FINAL, ["a", "a" * length], images)[:1]
        assert (beside - alone).abs().max() <= 1e-5


@pytest.mark.parametrize("prompts", (PROMPTS, PROMPTS[:1] * 3), ids=("padded", "equally long"))
def test_potential_continues_what_clarity_read(verifier, monkeypatch, prompts):
    verifier.forget()
    images = pictures()
    fresh = verifier.logits(POTENTIAL, prompts, images)
    monkeypatch.setattr(verifier, "thresholds", (0.0, 0.5), raising=False)  # keep every row
    verifier.ask(CLARITY, prompts, images)
    looked = []
    whole = verifier.visual_tokens
    monkeypatch.setattr(verifier, "visual_tokens", lambda seen: looked.append(len(seen)) or whole(seen))
    for _ in range(2):  # what is remembered is not used up
        assert (verifier.logits(POTENTIAL, prompts, images) - fresh).abs().max() <= 1e-5
    some = [2, 0]  # another order, and not all of them
    cached = verifier.logits(POTENTIAL, [prompts[b] for b in some], images[some])
    assert (cached - fresh[some]).abs().max() <= 1e-5
    assert looked == []  # at no picture again
    other = verifier.logits(POTENTIAL, ["a cup", prompts[1], "a cup"], images)
    assert looked == [2]
    assert (other[1] - fresh[1]).abs().max() <= 1e-5 and (other[0] - fresh[0]).abs().max() > 1e-4


def test_only_clear_pictures_are_remembered_and_not_too_many(folders):
    images, prompts = pictures(6), PROMPTS[:1] * 6
    verifier = LlavaVerifier.from_pretrained(folders["next"], batch=2)
    p = verifier.margin(CLARITY, prompts, images).sigmoid()
    kept = {}
    for remember in (32, 2, 0):
        verifier = LlavaVerifier.from_pretrained(folders["next"], batch=2, remember=remember)
        verifier.thresholds = (p.median().item(), 0.5)
        verifier.ask(CLARITY, prompts, images)
        kept[remember] = sum(len(part.keys) for part in verifier._remembered)
    clear = int((p >= p.median()).sum())
    assert 0 < clear < 6 and kept[32] == clear and 0 < kept[2] <= 2 and kept[0] == 0


def test_older_tokenizer_files_are_read_too(tmp_path, words):
    """vocab.json, merges.txt and a list of added tokens, as older checkpoints have them."""
    known = json.loads(words.backend_tokenizer.to_str())
    (tmp_path / "vocab.json").write_text(json.dumps(known["model"]["vocab"]))
    pairs = [" ".join(pair) for pair in known["model"]["merges"]]
    (tmp_path / "merges.txt").write_text("#version: 0.2\n" + "\n".join(pairs) + "\n")
    marks = {token: words.convert_tokens_to_ids(token) for token in (EOS, "<|im_start|>", "<|im_end|>")}
    (tmp_path / "added_tokens.json").write_text(json.dumps(marks))
    flags = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False, "special": True}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({
        "tokenizer_class": "Qwen2Tokenizer", "add_prefix_space": False, "bos_token": None, "eos_token": "<|im_end|>",
        "pad_token": EOS, "unk_token": None, "model_max_length": 32768, "padding_side": "right", "split_special_tokens": False,
        "added_tokens_decoder": {str(i): {"content": token} | flags for token, i in marks.items()},
    }))  # fmt: skip
    text = BEFORE + " Is it a dog? Yes or no."
    assert tokens(load_tokenizer(tmp_path), text) == tokens(words, text)


def test_two_turns_are_the_same_tokens_in_one_piece_or_two(folders, words):
    verifier = LlavaVerifier.from_pretrained(folders["next"])
    first, second = verifier.text(POTENTIAL, PROMPTS[0])
    assert words(first)["input_ids"] + words(second)["input_ids"] == words(first + second)["input_ids"]
    assert verifier.text(CLARITY, PROMPTS[0]) == [first]


def test_too_little_memory_halves_the_batch_and_says_so(folders, monkeypatch):
    verifier = LlavaVerifier.from_pretrained(folders["next"], batch=3)
    expected = verifier.logits(FINAL, PROMPTS, pictures())
    whole = verifier._anew

    def small(question, rows):
        if len(rows) > 1:
            raise torch.OutOfMemoryError("as on a GPU")
        return whole(question, rows)

    monkeypatch.setattr(verifier, "_anew", small)
    with pytest.warns(UserWarning, match="3 pictures"):
        assert (verifier.logits(FINAL, PROMPTS, pictures()) - expected).abs().max() <= 1e-5


@pytest.mark.parametrize("paper_compatible", (False, True))
def test_strategies_ask_it_as_any_verifier(folders, monkeypatch, paper_compatible):
    """PARM on drawn pictograms: CLARITY and FINAL look at pictures, POTENTIAL at none again."""
    verifier = LlavaVerifier.from_pretrained(folders["next"], paper_compatible=paper_compatible)
    verifier.thresholds = (0.0, 0.0)
    looked = []
    whole = verifier.visual_tokens
    monkeypatch.setattr(verifier, "visual_tokens", lambda seen: looked.extend(seen) or whole(seen))
    answers = torch.tensor([0.75])
    monkeypatch.setattr(verifier, "read", lambda _, logits: answers.expand(len(logits)))
    outcome = parm(load("generator"), ["a photo of a red dog"], n=3, seed=0, steps=2, verifier=verifier,
                   paper_compatible=paper_compatible)  # fmt: skip
    assert dict(outcome.ledger.verifier_calls) == {CLARITY: 3, POTENTIAL: 3, FINAL: 3}
    assert len(looked) == 6 and outcome.chosen == [0] and outcome.ties == [3]


# ----- reading the answer --------------------------------------------------------------------------------------------


def crafted(words, **odds):
    """Logits [1, V] of the given probabilities, the rest spread over two bytes."""
    logits = torch.full((1, len(words)), -30.0)
    for word, p in odds.items():
        logits[0, words.convert_tokens_to_ids(word)] = torch.tensor(p).log()
    return logits


def test_p_yes_compares_both_spellings_of_both_words(folders, words):
    verifier = LlavaVerifier.from_pretrained(folders["next"])
    p = verifier.read(FINAL, crafted(words, yes=0.2, Yes=0.1, no=0.05, No=0.05, a=0.6))
    assert p.item() == pytest.approx(0.75, abs=1e-5)
    images = pictures()
    assert torch.equal(
        verifier.ask(FINAL, PROMPTS, images), verifier.margin(FINAL, PROMPTS, images).sigmoid()
    )


def test_the_released_reading_saturates_and_knows_small_letters_only(folders, words):
    verifier = LlavaVerifier.from_pretrained(folders["next"], paper_compatible=True)
    read = lambda question, **odds: verifier.read(question, crafted(words, **odds)).item()  # noqa: E731
    assert read(FINAL, yes=0.81, no=0.19) == 1.0  # top_p 0.8
    assert read(FINAL, yes=0.19, no=0.81) == 0.0
    assert read(FINAL, yes=0.6, no=0.4) == pytest.approx(0.6)
    assert read(FINAL, Yes=0.5, yes=0.4, no=0.1) == pytest.approx(0.4 / 0.9)
    assert read(FINAL, Yes=0.9, yes=0.1) == 0.0
    assert read(FINAL, a=0.6, yes=0.4) != read(FINAL, a=0.6, yes=0.4)  # NaN: neither word
    assert [read(CLARITY, yes=0.6, no=0.4), read(CLARITY, yes=0.4, no=0.6)] == [1.0, 0.0]
    assert read(POTENTIAL, yes=0.4, no=0.6) == pytest.approx(0.4)
    assert read(POTENTIAL, yes=0.1, no=0.9) == 0.0
    assert read(POTENTIAL, no=0.4, No=0.35, yes=0.25) < 0.5 <= read(POTENTIAL, Yes=0.4, yes=0.3, no=0.3)


def test_filters_come_from_the_checkpoint_when_it_has_them(tmp_path, folders, words):
    assert LlavaVerifier.from_pretrained(folders["transformers"]).filters == {"top_k": 20, "top_p": 0.8}
    folder = write_next(tmp_path / "own", tiny_model(False, len(words)), words, False)
    (folder / "generation_config.json").write_text('{"do_sample": true, "top_k": 1, "top_p": 0.9}')
    verifier = LlavaVerifier.from_pretrained(folder, paper_compatible=True)
    assert verifier.filters == {"top_k": 1, "top_p": 0.9}
    assert verifier.read(FINAL, crafted(words, yes=0.6, no=0.4)).item() == 1.0
    assert LlavaVerifier.from_pretrained(folder, filters={"top_p": 0.5}).filters == {"top_k": 1, "top_p": 0.5}


def test_rows_of_the_head_beyond_the_words_do_not_count_in_the_filters(folders, words):
    verifier = LlavaVerifier.from_pretrained(folders["next"], paper_compatible=True)
    logits = torch.nn.functional.pad(crafted(words, yes=0.6, no=0.4), (0, 5), value=9.0)
    assert verifier.read(FINAL, logits).item() == pytest.approx(0.6)


# ----- pictures ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "tokens"), [((256, 256), 1485), ((512, 512), 3699), ((600, 400), 2709)])
def test_published_token_counts(size, tokens):
    """With tiles of 384 and patches of 14: counts of the original code."""
    look = Look(384, read_grids("(1x1),...,(6x6)", 384, False), 9)
    tiles, grid = look.cut(Image.new("RGB", size))
    assert look.pack(torch.zeros(len(tiles), 729, 1), torch.zeros(1), size, grid).shape == (tokens, 1)
    assert Look(384).pack(torch.zeros(1, 729, 1), torch.zeros(1), size, (0, 0)).shape == (730, 1)


def test_newlines_end_the_rows():
    look = Look(28, ((56, 56),), None)
    features = torch.arange(5 * 4, dtype=torch.float).view(5, 4, 1)
    tokens = look.pack(features, torch.tensor([-1.0]), (56, 56), (2, 2))[:, 0].tolist()
    rows = [
        [4, 5, 8, 9],
        [6, 7, 10, 11],
        [12, 13, 16, 17],
        [14, 15, 18, 19],
    ]  # tile after tile, row after row
    assert tokens == [0, 1, 2, 3] + [v for row in rows for v in (*row, -1)]
    assert Look(28).pack(features[:1], torch.tensor([-1.0]), (5, 9), (0, 0))[:, 0].tolist() == [
        0,
        1,
        2,
        3,
        -1,
    ]


def test_many_tiles_are_scaled_down():
    look = Look(28, ((28 * 6, 28 * 6),), 9)
    features = torch.rand(37, 4, 3)
    tokens = look.pack(features, torch.zeros(3), (168, 168), (6, 6))
    side = int(12 // 2)  # sqrt(36 / 9) = 2 times too long
    assert tokens.shape == (4 + side * (side + 1), 3)
    assert (
        len(Look(28, ((168, 168),), None).pack(features, torch.zeros(3), (168, 168), (6, 6))) == 4 + 12 * 13
    )


def test_padding_is_grey_and_in_the_middle():
    square = padded_square(Image.new("RGB", (6, 3), (255, 0, 0)))
    column = [square.getpixel((2, y)) for y in range(6)]
    assert square.size == (6, 6) and column == [(127,) * 3] + [(255, 0, 0)] * 3 + [(127,) * 3] * 2
    values = Look(28).pixels([Image.new("RGB", (9, 9), (0, 127, 255))])
    assert values.dtype == torch.float32 and values.shape == (1, 3, 28, 28)
    assert values[0, :, 3, 5].tolist() == pytest.approx([-1, 127 / 127.5 - 1, 1])


def test_grids_are_read_in_all_spellings():
    assert read_grids(None, 384, False) == read_grids("(1x1),...,(6x6)", 384, False)
    assert read_grids("(1x2), (3x1)", 10, False) == ((10, 20), (30, 10))
    assert read_grids([[384, 768]], 384, True) == ((768, 384),)
    assert best_grid((600, 400), read_grids(None, 384, False)) == (768, 768)
    with pytest.raises(UserError, match="multiples of 384"):
        read_grids([[100, 100]], 384, False)


def test_levels_are_cut_off_and_survive_a_file(tmp_path):
    levels = torch.arange(256).view(1, 1, 16, 16).expand(1, 3, 16, 16) / 255
    assert sorted(to_pil(levels)[0].getchannel(0).tobytes()) == list(range(256))
    assert to_pil(torch.full((1, 3, 1, 1), 0.9999))[0].getpixel((0, 0)) == (254, 254, 254)
    images = torch.rand(1, 3, 8, 8)
    to_pil(images)[0].save(tmp_path / "a.png")
    assert Image.open(tmp_path / "a.png").tobytes() == to_pil(images)[0].tobytes()
    assert to_pil([Image.new("L", (2, 2), 7)])[0].getpixel((1, 1)) == (7, 7, 7)


# ----- refusals ------------------------------------------------------------------------------------------------------


def one_sentence(error) -> str:
    assert "\n" not in str(error.value)
    return str(error.value)


def test_questions_are_checked():
    assert set(read_questions()) == {FINAL, STEP, CLARITY, POTENTIAL}
    for bad, words in [({"WHY": "?"}, '"WHY"'), ({}, "empty"), ({FINAL: 3}, "FINAL as 3"), ({POTENTIAL: "x"}, "lacks CLARITY"),
                       ({FINAL: "<image> so?"}, "<image>")]:  # fmt: skip
        with pytest.raises(UserError) as error:
            read_questions(bad)
        assert words in one_sentence(error)
    with pytest.raises(UserError, match="no such.json"):
        read_questions("no such.json")


def test_asking_what_it_cannot_answer(folders, tmp_path):
    own = tmp_path / "questions.json"
    own.write_text(json.dumps({FINAL: "{prompt}: {right}?"}))
    verifier = LlavaVerifier.from_pretrained(folders["next"], questions=own)
    assert verifier.questions == (FINAL,) and verifier.text(FINAL, "{x}")[0].startswith(" {x}: {right}?")
    for ask, words in [
        (lambda: verifier.ask(STEP, ["a"], pictures(1)), "STEP"),
        (lambda: verifier.ask(FINAL, ["a <image> b"], pictures(1)), "mark of the chat"),
        (lambda: verifier.ask(FINAL, ["a"], torch.rand(1, 1, 8, 8)), r"RGB"),
        (lambda: verifier.ask(FINAL, ["a"], torch.rand(1, 4, 8, 8)), r"RGB"),
        (lambda: verifier.ask(FINAL, ["a"], 255 * torch.rand(1, 3, 8, 8)), "0..1"),
        (lambda: LlavaVerifier.from_pretrained(folders["next"], mode="square"), "square"),
        (lambda: LlavaVerifier.from_pretrained(folders["next"], batch=0), "0"),
    ]:
        with pytest.raises(UserError) as error:
            ask()
        assert words in one_sentence(error)
    with pytest.raises(ValueError, match="2 prompts for 1"):
        verifier.ask(FINAL, ["a", "b"], pictures(1))
    assert verifier.ask(FINAL, [], pictures(0)).shape == (0,)


HARM = {
    "LlavaLlamaForCausalLM": {"architectures": ["LlavaLlamaForCausalLM"]},
    "linear": {"mm_projector_type": "linear"},
    "flat": {"mm_patch_merge_type": "flat"},
    "different models": {"hidden_size": 64},
    "num_attention_heads": {"num_attention_heads": None},
    "does not describe": {"hidden_act": "foo"},
    "5 heads": {"vision_config": {"num_attention_heads": 5}},
}


@pytest.mark.parametrize("expected", HARM)
def test_a_wrong_config_is_refused(tmp_path, model, words, expected):
    folder = write_next(tmp_path / "bad", model, words, False, **HARM[expected])
    with pytest.raises(UserError) as error:
        LlavaVerifier.from_pretrained(folder)
    assert expected in one_sentence(error)


def test_damaged_folders_are_refused(tmp_path, model, words):
    folder = write_next(tmp_path / "bad", model, words, False)
    shard = folder / "model-00002-of-00002.safetensors"
    whole, state = shard.read_bytes(), load_file(shard)
    index = folder / "model.safetensors.index.json"

    def refused() -> str:
        with pytest.raises(UserError) as error:
            LlavaVerifier.from_pretrained(folder)
        return one_sentence(error)

    shard.write_bytes(whole[:-50])
    assert "truncated" in refused()
    name = sorted(state)[-1]
    save_file({k: v for k, v in state.items() if k != name}, shard)
    assert "missing" in refused()
    save_file(state | {"model.vision_resampler.weight": torch.zeros(1)}, shard)
    assert "left over (model.vision_resampler.weight)" in refused()
    shard.unlink()
    assert shard.name in refused()
    shard.write_bytes(whole)
    index.rename(folder / "elsewhere")
    assert "no weights" in refused()
    (folder / "elsewhere").rename(index)
    (folder / "tokenizer.json").write_text("{")
    assert "tokenizer" in refused()
    (folder / "tokenizer.json").unlink()
    assert "tokenizer" in refused()


def test_a_checkpoint_without_head_or_tower_is_refused(tmp_path, model, words):
    for k, (part, expected) in enumerate(
        [("lm_head", "lm_head.weight"), ("vision_tower", "patch_embedding")]
    ):
        folder = write_next(tmp_path / str(k), model, words, False)
        for shard in folder.glob("*.safetensors"):
            save_file({k: v for k, v in load_file(shard).items() if part not in k}, shard)
        with pytest.raises(UserError) as error:
            LlavaVerifier.from_pretrained(folder)
        assert expected in one_sentence(error)


def test_a_tokenizer_of_another_model_is_refused(tmp_path, folders):
    vocab = {letter: i for i, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    Qwen2Tokenizer(vocab=vocab | {EOS: len(vocab)}, merges=[]).save_pretrained(tmp_path)
    with pytest.raises(UserError) as error:
        LlavaVerifier.from_pretrained(folders["next"], words=tmp_path)
    assert '"yes"' in one_sentence(error)
