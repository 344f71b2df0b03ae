"""Training of the published models on tiny random checkpoints in the published formats.

Oracles: transformers' own forward pass with labels put together by hand, Show-o's plain full sequence in float64, and runs that
were never interrupted.
"""

import copy
import json
import os
import socket
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from published_showo_tools import write_magvit, write_showo, write_tokenizer
from safetensors.torch import load_file, save_file
from test_published_llava import GRID, SIDE, old_hub_name, tiny_model, tokenizer, write_next
from transformers.models.llava_onevision.image_processing_pil_llava_onevision import (
    LlavaOnevisionImageProcessorPil,
)

from cotlib.cli import main
from cotlib.errors import UserError
from cotlib.interfaces import CLARITY, FINAL, POTENTIAL
from cotlib.loading import load
from cotlib.models.published.llava import BEFORE, LlavaVerifier, read_questions
from cotlib.models.published.llava_files import load_llava
from cotlib.models.published.magvit import prepare
from cotlib.models.published.pictures import to_pil
from cotlib.models.published.showo import Showo
from cotlib.train import stages
from cotlib.train.published import adapters, codes, llava, loop, presets, showo
from cotlib.train.published.data import Dialogue, open_rgb, read_dialogues, read_pairs, read_records

pytestmark = pytest.mark.usefixtures("one_thread")
ASK = "Is it {prompt}?"
THINGS = ("a dog", "a dog", "two cats", "two cats")  # the picture decides, not the question
RIGHT = (True, False, False, True)
QUIET = {"watch": lambda update, curves: None}


def files_of(folder) -> dict[str, torch.Tensor]:
    """All tensors of a folder's weights."""
    weights = [f for f in folder.glob("*.safetensors") if f.name != codes.CACHE]
    return {name: tensor for file in weights for name, tensor in load_file(file).items()}


def same(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def one_sentence(error) -> str:
    assert "\n" not in str(error.value)
    return str(error.value)


class Killed(Exception):
    pass


def kill_at(update: int):
    def watch(number, curves):
        if number == update:
            raise Killed

    return watch


# ----- LLaVA: checkpoint and data ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def words():
    return tokenizer()


@pytest.fixture(scope="module")
def network(words):
    model = tiny_model(False, len(words) + 5)
    with torch.no_grad():  # so that the frozen head of a tuned adapter can tell words apart
        model.model.language_model.norm.weight.fill_(2.0)
    return model


@pytest.fixture(scope="module")
def home(tmp_path_factory, network, words):
    """A checkpoint in the LLaVA-NeXT format, four pictures and questions about them."""
    root = tmp_path_factory.mktemp("llava")
    write_next(root / "llava", network, words, False)
    (root / "pictures").mkdir()
    shades = torch.rand(4, 3, 30, 40, generator=torch.Generator().manual_seed(1))
    records = []
    for number, picture in enumerate(to_pil(shades)):
        picture.save(root / "pictures" / f"{number}.png")
        said = [
            ("human", "<image> " + ASK.replace("{prompt}", THINGS[number])),
            ("gpt", "yes" if RIGHT[number] else "no"),
        ]
        records.append({"id": f"p{number}", "image": f"{number}.png",
                        "conversations": [{"from": who, "value": what} for who, what in said]})  # fmt: skip
    (root / "orm.json").write_text(json.dumps(records))
    return root


def student_of(home, look="pad") -> llava.Student:
    loaded = load_llava(home / "llava", look, torch.float32, "cpu")
    return llava.Student(LlavaVerifier(loaded, tokenizer(), read_questions()))


def tuned_llava(home, out, fit, **options) -> dict:
    return llava.run(out, start=home / "llava", data=home / "orm.json", images=home / "pictures", fit=fit,
                     **(QUIET | options))  # fmt: skip


SHORT = presets.LlavaFit(batch=2, micro=1, epochs=4, lr=1e-3, vision_lr=1e-3, save_minutes=0)  # 8 updates


def quick(lora: int, look: str = "pad") -> presets.LlavaFit:
    """Long enough to learn four examples by heart, all of them in every update."""
    if lora:
        return replace(SHORT, batch=4, micro=4, epochs=60, lr=2e-2, lora=lora, alpha=2 * lora, look=look)
    return replace(SHORT, batch=4, micro=4, epochs=40, lr=1e-2, vision_lr=1e-2, look=look)


# ----- LLaVA: what is read and what counts ---------------------------------------------------------------------------


def by_transformers(network, words, dialogue, picture, look) -> torch.Tensor:
    """Sum of -log p over the answers' tokens: the whole chat as one text, labels found by looking for the answers in it."""
    processor = LlavaOnevisionImageProcessorPil(
        size={"height": SIDE, "width": SIDE},
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
        image_grid_pinpoints=GRID,
    )
    if look == "anyres":
        seen = processor(picture, return_tensors="pt")
        visual = network.model.get_image_features(seen["pixel_values"], seen["image_sizes"]).pooler_output[0]
    else:
        seen = processor([[picture, picture]], return_tensors="pt")
        visual = network.model.get_image_features(
            seen["pixel_values"], seen["image_sizes"], batch_num_images=torch.tensor([2])
        ).pooler_output[0]
    chat, spans = "", []
    for number, (question, answer) in enumerate(dialogue.turns):
        chat += f"{' ' if number == 0 else '<|im_start|>user' + chr(10)}{question}<|im_end|>\n<|im_start|>assistant\n"
        spans.append((len(chat), len(chat) + len(f"{answer}<|im_end|>")))
        chat += f"{answer}<|im_end|>\n"
    read = words(chat, return_offsets_mapping=True)
    ids = torch.tensor(read["input_ids"])
    counts = torch.tensor(
        [any(a <= left and right <= b for a, b in spans) for left, right in read["offset_mapping"]]
    )
    embed = network.get_input_embeddings()
    start = embed(torch.tensor(words(BEFORE)["input_ids"]))
    before = len(start) + len(visual)
    logits = network(inputs_embeds=torch.cat([start, visual, embed(ids)])[None]).logits[0]
    labels = torch.cat([torch.full((before,), -100), ids.masked_fill(~counts, -100)])
    assert int((labels >= 0).sum()) == 2 * len(dialogue.turns)  # the word and the mark that ends it
    return F.cross_entropy(logits[:-1], labels[1:], reduction="sum")


@pytest.mark.parametrize("look", ("pad", "anyres"))
@pytest.mark.parametrize("checkpointing", (False, True))
def test_loss_and_gradient_are_those_of_the_answers_alone(home, network, words, look, checkpointing):
    dialogues = read_dialogues(home / "orm.json", home / "pictures")[:2]
    two_turns = (("Is it clear?", "yes"), ("Will it be a bench? " * 3, "No"))
    dialogues.append(Dialogue(home / "pictures" / "2.png", two_turns, "here"))
    oracle = copy.deepcopy(network).eval()
    oracle.zero_grad()
    sums = [by_transformers(oracle, words, one, open_rgb(one.picture, ""), look) for one in dialogues]
    torch.stack(sums).sum().backward()
    student = student_of(home, look)
    llava.prepare(student.model, replace(SHORT, checkpointing=checkpointing), 0)
    student.model.train()
    log_p, _ = student.answers(dialogues)  # rows of different length in one batch
    (-log_p.sum()).backward()
    assert -log_p.sum().item() == pytest.approx(sum(s.item() for s in sums), rel=1e-5)
    theirs, checked = dict(oracle.named_parameters()), 0
    for name, parameter in student.model.named_parameters():
        if theirs[name].grad is None:
            assert parameter.grad is None, name
            continue
        checked += 1
        limit = 1e-4 * float(theirs[name].grad.abs().max()) + 1e-6
        assert (parameter.grad - theirs[name].grad).abs().max() <= limit, name
    assert checked > 40


def test_a_second_turn_is_read_as_the_verifier_reads_it(home):
    wording = {CLARITY: "Is it clear? {prompt}", POTENTIAL: "Will it be {prompt}?"}
    verifier = LlavaVerifier.from_pretrained(home / "llava", questions=wording)
    turns = [
        (wording[CLARITY].replace("{prompt}", "a cat"), "yes"),
        (wording[POTENTIAL].replace("{prompt}", "a cat"), "no"),
    ]
    own = llava.lesson(verifier.words, turns)
    asked = [i for text in verifier.text(POTENTIAL, "a cat") for i in llava.tokens(verifier.words, text)]
    assert own.ids[: own.first[1]] == asked
    said = [verifier.words.decode([own.ids[i]]) for i in own.answered]
    assert said == ["yes", "<|im_end|>", "no", "<|im_end|>"]


@pytest.mark.parametrize("micro", (1, 3, 8))
def test_parts_of_a_batch_add_up_to_its_loss(home, micro):
    dialogues = read_dialogues(home / "orm.json", home / "pictures")
    dialogues[0] = replace(
        dialogues[0], turns=(*dialogues[0].turns, ("And now?", "yes"))
    )  # with more tokens than others
    student = student_of(home)
    llava.prepare(student.model, SHORT, 0)
    curves = llava.teacher(student, dialogues, replace(SHORT, batch=4, micro=micro), 0)(0)
    with torch.no_grad():
        log_p, right = student.answers(dialogues)
    assert len(log_p) == 10
    assert curves["loss"] == pytest.approx(-log_p.mean().item(), rel=1e-5) and curves["accuracy"] == right / 5


# ----- LLaVA: whole runs ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("look", "lora"), [("pad", 0), ("anyres", 0), ("pad", 16)])
def test_four_examples_are_learned_and_the_folder_is_a_verifier(home, tmp_path, look, lora):
    """All four answered right with P at least 0.9, at use and not only in training. Two share a question each, so it takes the
    pictures to tell them apart."""
    fit = quick(lora, look)
    metrics = tuned_llava(home, tmp_path / "out", fit)
    assert (
        metrics["updates"] == metrics["of"] == fit.epochs
        and metrics["accuracy"] == 1.0
        and metrics["loss"] < 0.1
    )
    if look == "pad":
        verifier = load("verifier", weights=str(tmp_path / "out"), questions={FINAL: ASK})
    else:
        verifier = LlavaVerifier.from_pretrained(tmp_path / "out", questions={FINAL: ASK}, mode=look)
    pictures = [Image.open(home / "pictures" / f"{i}.png") for i in range(4)]
    p = verifier.ask(FINAL, list(THINGS), pictures)
    right = torch.tensor(RIGHT)
    assert (torch.where(right, p, 1 - p) > 0.9).all()
    card = json.loads((tmp_path / "out" / loop.CARD).read_text())
    assert card["complete"] and card["fit"]["lr"] == fit.lr and len(card["curves"]) == fit.epochs
    assert card["curves"][0]["loss"] > 10 * metrics["loss"] and not (tmp_path / "out" / loop.STATE).exists()


def test_every_format_is_written_as_it_was_read(home, network, words, tmp_path, monkeypatch):
    """Same names, same number format, same bits where nothing was tuned; in several files when they grow too large."""
    network.save_pretrained(tmp_path / "transformers")
    words.save_pretrained(tmp_path / "transformers")
    old = tmp_path / "old"
    old.mkdir()
    (old / "config.json").write_text((tmp_path / "transformers" / "config.json").read_text())
    state = {old_hub_name(k): v.bfloat16().contiguous() for k, v in network.state_dict().items()}
    save_file(state, old / "model.safetensors")
    words.save_pretrained(old)
    monkeypatch.setattr(llava, "SHARD", 50_000)
    for folder in (home / "llava", tmp_path / "transformers", old):
        out = tmp_path / f"{folder.name}-again"
        out.mkdir()
        llava.write_llava(folder, out, load_llava(folder, "pad", torch.float32, "cpu").model)
        assert same(files_of(out), files_of(folder)) and len(list(out.glob("*.safetensors"))) > 2
        assert (out / "config.json").read_bytes() == (folder / "config.json").read_bytes()
        LlavaVerifier.from_pretrained(out)


def test_a_tied_head_stays_tied(tmp_path, words):
    write_next(tmp_path / "tied", tiny_model(True, len(words)), words, True)
    out = tmp_path / "out"
    out.mkdir()
    llava.write_llava(
        tmp_path / "tied", out, load_llava(tmp_path / "tied", "pad", torch.float32, "cpu").model
    )
    assert same(files_of(out), files_of(tmp_path / "tied")) and "lm_head.weight" not in files_of(out)


@pytest.mark.parametrize("lora", (0, 4))
def test_a_killed_run_ends_in_the_same_weights(home, tmp_path, lora):
    fit = replace(SHORT, lora=lora)
    whole = tuned_llava(home, tmp_path / "whole", fit)
    with pytest.raises(Killed):
        tuned_llava(home, tmp_path / "killed", fit, watch=kill_at(4))
    assert (tmp_path / "killed" / loop.STATE).is_file() and not files_of(tmp_path / "killed")
    seen = []
    again = tuned_llava(home, tmp_path / "killed", fit, resume=True, watch=lambda u, c: seen.append(u))
    assert seen == [4, 5, 6, 7] and again == whole  # the state of four updates was kept
    assert same(files_of(tmp_path / "killed"), files_of(tmp_path / "whole"))
    assert not same(files_of(tmp_path / "whole"), files_of(home / "llava"))
    finished = tuned_llava(
        home, tmp_path / "killed", fit, resume=True, watch=kill_at(0)
    )  # nothing is left to do
    assert finished == whole


def test_a_run_out_of_time_is_written_and_goes_on(home, tmp_path):
    whole = tuned_llava(home, tmp_path / "whole", SHORT)
    first = tuned_llava(home, tmp_path / "out", SHORT, minutes=1e-9)
    assert first["updates"] == 0 and first["of"] == 8
    assert same(files_of(tmp_path / "out"), files_of(home / "llava"))
    assert tuned_llava(home, tmp_path / "out", SHORT, resume=True) == whole
    assert same(files_of(tmp_path / "out"), files_of(tmp_path / "whole"))


def test_states_of_other_runs_are_refused(home, tmp_path):
    tuned_llava(home, tmp_path, SHORT, minutes=1e-9)
    for change in ({"seed": 1}, {"fit": replace(SHORT, lr=2e-3)}):
        with pytest.raises(UserError, match="belongs to a run with other"):
            llava.run(tmp_path, start=home / "llava", data=home / "orm.json", images=home / "pictures", resume=True,
                      **({"fit": SHORT} | change))  # fmt: skip
    tuned_llava(
        home, tmp_path, replace(SHORT, micro=2, checkpointing=False), resume=True
    )  # no part of the result
    (tmp_path / loop.STATE).write_bytes(b"no state")
    with pytest.raises(UserError, match="cannot be read"):
        tuned_llava(home, tmp_path, replace(SHORT, lr=3e-3), resume=True)


def test_no_number_and_a_damaged_picture_stop_the_run_and_keep_what_was(home, tmp_path):
    with pytest.raises(UserError, match=r"the loss is nan .* at update 1"):
        tuned_llava(home, tmp_path / "nan", replace(SHORT, lr=1e30, clip=0, warmup=0))
    assert torch.load(tmp_path / "nan" / loop.STATE, weights_only=True)["update"] == 1
    for number in range(4):
        (tmp_path / f"{number}.png").write_bytes((home / "pictures" / f"{number}.png").read_bytes())
    last = int(loop.picks(1, 4, 2, 0)[0])  # first wanted in the second update
    (tmp_path / f"{last}.png").write_bytes(b"no picture")
    with pytest.raises(
        UserError, match=rf"entry {last + 1} \(id p{last}\): .*{last}.png cannot be read as a picture"
    ):
        llava.run(
            tmp_path / "out",
            start=home / "llava",
            data=home / "orm.json",
            images=tmp_path,
            fit=SHORT,
            **QUIET,
        )
    assert torch.load(tmp_path / "out" / loop.STATE, weights_only=True)["update"] == 1


def test_groups_follow_the_preset(home):
    student = student_of(home)
    rest, tower = llava.prepare(student.model, presets.STAGES["llava-orm"], 0)
    assert (rest["lr"], tower["lr"]) == (1e-5, 2e-6)
    assert {id(p) for p in tower["params"]} == {id(p) for p in student.model.model.vision_tower.parameters()}
    assert len(rest["params"]) + len(tower["params"]) == len(list(student.model.parameters()))
    assert all(p.requires_grad for p in student.model.parameters())


# ----- adapters ------------------------------------------------------------------------------------------------------


@torch.no_grad()
def test_merged_adapters_answer_as_the_adapters_did(home, tmp_path):
    dialogues = read_dialogues(home / "orm.json", home / "pictures")
    student = student_of(home)
    given, _ = student.answers(dialogues)
    llava.prepare(student.model, replace(SHORT, lora=4, alpha=8), seed=3)
    assert torch.equal(student.answers(dialogues)[0], given)  # B is zero
    chance = torch.Generator().manual_seed(0)
    for name, parameter in student.model.named_parameters():
        assert parameter.requires_grad == ("lora_" in name)
        if "lora_B" in name:
            parameter.copy_(torch.randn(parameter.shape, generator=chance) * 0.1)
    assert (
        len(adapters.layers(student.model)) == 2 * 7
    )  # both layers of the language model, nothing of the tower
    adapted, _ = student.answers(dialogues)
    assert (adapted - given).abs().max() > 0.1
    with adapters.switched_off(student.model):
        assert torch.equal(student.answers(dialogues)[0], given)
    assert torch.equal(student.answers(dialogues)[0], adapted)
    llava.write_llava(home / "llava", tmp_path, student.model)
    adapters.merge(student.model)
    assert not adapters.layers(student.model)
    assert (student.answers(dialogues)[0] - adapted).abs().max() <= 1e-4
    before, after = files_of(home / "llava"), files_of(tmp_path)
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert len(moved) == 14 and all(name.endswith("_proj.weight") and "vision" not in name for name in moved)
    loaded = load_llava(tmp_path, "pad", torch.float32, "cpu")
    again = llava.Student(LlavaVerifier(loaded, student.reader.words, read_questions()))
    assert (again.answers(dialogues)[0] - adapted).abs().max() <= 1e-4


def test_adapters_begin_alike_for_a_seed_and_leave_the_global_dice_alone(home):
    made = []
    for seed in (1, 1, 2):
        torch.manual_seed(5)
        student = student_of(home)
        before = torch.get_rng_state()
        llava.prepare(student.model, replace(SHORT, lora=2), seed)
        assert torch.equal(torch.get_rng_state(), before)
        made.append({n: p.clone() for n, p in student.model.named_parameters() if "lora_A" in n})
    assert same(made[0], made[1]) and not same(made[0], made[2])


def test_without_peft_one_sentence_says_what_to_install(home, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(UserError) as error:
        tuned_llava(home, tmp_path, replace(SHORT, lora=4))
    assert "pip install peft" in one_sentence(error)


# ----- Show-o: checkpoint and data -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def studio(tmp_path_factory):
    """Show-o with a grid of 4 x 4 codes, MAGVIT-v2 with 4 pixels a side each, and four pairs of pictures of 16 x 16."""
    root = tmp_path_factory.mktemp("showo")
    write_showo(root / "show-o")
    write_magvit(root / "magvitv2", bits=13)
    write_tokenizer(root / "phi-1_5")
    (root / "pictures").mkdir()
    shades = torch.rand(8, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    for number, picture in enumerate(to_pil(shades)):
        picture.save(root / "pictures" / f"{number}.png")
    prompts = ("a photo of a cat", "red", "a dog and a cat and a dog", "a photo of a dog")
    lines = [
        {"prompt": p, "chosen": f"{2 * i}.png", "rejected": f"{2 * i + 1}.png"} for i, p in enumerate(prompts)
    ]
    (root / "pairs.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")
    return root


@pytest.fixture(scope="module")
def showo_model(studio):
    return Showo.from_pretrained(studio / "show-o")


def tuned_showo(studio, model, out, fit, **options) -> dict:
    return showo.run(out, start=studio / "show-o", data=studio / "pairs.jsonl", images=studio / "pictures", fit=fit,
                     words=model.words, **(QUIET | options))  # fmt: skip


@pytest.fixture(scope="module")
def pairs(studio, showo_model, tmp_path_factory):
    found = read_pairs(studio / "pairs.jsonl", studio / "pictures")
    both = codes.pair_codes(
        found, showo_model.tokenizer, 16, False, tmp_path_factory.mktemp("codes"), "magvit"
    )
    return showo.Pairs([one.prompt for one in found], *both, {})


FAST = presets.ShowoFit(batch=2, micro=1, epochs=3, lr=1e-3, save_minutes=0)  # 6 updates


def by_hand(model, prompts, drawn, rows, over) -> torch.Tensor:
    """Log-probabilities in float64 from whole sequences of 129 + N + 2 tokens, through the network as transformers runs it."""
    ids = model.sequence(prompts, drawn.masked_fill(rows, model.mask_id))
    logits = model.full_logits(ids, model.full_mask(ids))[:, 129:]
    assert logits.dtype == torch.float64
    every, window = logits.log_softmax(-1), logits[..., 50305 : 50305 + 8192].log_softmax(-1)
    told = []
    for b in range(len(drawn)):
        total = 0.0
        for place, code in enumerate(drawn[b].tolist(), 1):  # 0 is soi, N + 1 is eoi
            if rows[b, place - 1]:
                total += window[b, place, code] if over == "codes" else every[b, place, 50305 + code]
        if over == "vocabulary":
            total += every[b, 0, 50296] + every[b, -1, 50297]
        told.append(total)
    return torch.stack(told)


@pytest.mark.parametrize("over", ("codes", "vocabulary"))
def test_log_probabilities_equal_whole_sequences_in_float64(showo_model, pairs, over):
    chance = torch.Generator().manual_seed(4)
    rows = torch.rand(pairs.chosen.shape, generator=chance) < 0.6
    exact = copy.deepcopy(showo_model).double()
    with torch.no_grad():
        expected = by_hand(exact, pairs.prompts, pairs.chosen, rows, over)
        found = showo.log_probability(showo_model, pairs.prompts, pairs.chosen, rows, over)
    assert found.dtype == torch.float32 and expected.std() > 1
    assert (found - expected).abs().max() <= 1e-3


@pytest.mark.parametrize(
    "settings",
    [{}, {"masks": "independent", "over": "vocabulary"}, {"scored": "differing", "micro": 3, "checkpointing": False},
     {"loss": "ipo", "micro": 4, "reference": "ahead"}, {"smoothing": 0.1, "dropped_text": 0.5}],
)  # fmt: skip
def test_loss_and_gradient_equal_a_computation_by_hand(showo_model, pairs, tmp_path, settings):
    """-log sigmoid(beta m), or (m - 1 / (2 beta))^2, of a policy that has moved away from its reference."""
    seed = 3
    fit = replace(FAST, batch=4, beta=0.05, **settings)
    policy = Showo(showo_model.config, copy.deepcopy(showo_model.phi), showo_model.words).eval()
    showo.prepare(policy, fit, seed)
    reference = showo.reference_of(policy, pairs, fit, seed, 2, tmp_path, "key")
    chance = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in policy.phi.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=chance))
    policy.phi.train()
    curves = showo.teacher(policy, reference, pairs, fit, seed)(1)
    drawn = showo.draw(pairs, 1, fit, seed)
    before, now = copy.deepcopy(showo_model).double(), copy.deepcopy(policy).double()
    now.zero_grad()
    chosen, rejected = by_hand(now, drawn.prompts, drawn.codes, drawn.rows, fit.over).chunk(2)
    with torch.no_grad():
        ref_chosen, ref_rejected = by_hand(before, drawn.prompts, drawn.codes, drawn.rows, fit.over).chunk(2)
    margin = chosen - rejected - ref_chosen + ref_rejected
    right, wrong = -torch.log(torch.sigmoid(0.05 * margin)), -torch.log(torch.sigmoid(-0.05 * margin))
    loss = (margin - 10) ** 2 if fit.loss == "ipo" else (1 - fit.smoothing) * right + fit.smoothing * wrong
    loss.mean().backward()
    assert margin.abs().min() > 0.05
    assert curves["loss"] == pytest.approx(loss.mean().item(), rel=2e-4)
    assert curves["margin"] == pytest.approx(margin.mean().item(), abs=2e-3)
    assert curves["accuracy"] == pytest.approx((margin > 0).double().mean().item())
    for (name, mine), (_, theirs) in zip(
        policy.phi.named_parameters(), now.phi.named_parameters(), strict=True
    ):
        assert (mine.grad - theirs.grad).abs().max() <= 2e-3 * theirs.grad.abs().max() + 1e-7, name


def test_pairs_share_mask_and_prompt_unless_told_otherwise(pairs):
    fit = replace(FAST, batch=4, dropped_text=0.5)
    for update in range(5):
        drawn = showo.draw(pairs, update, fit, 0)
        assert torch.equal(drawn.rows[:4], drawn.rows[4:]) and drawn.prompts[:4] == drawn.prompts[4:]
        assert (drawn.rows.sum(1) >= 1).all()
    drawn = [showo.draw(pairs, update, replace(fit, masks="independent"), 0) for update in range(30)]
    assert sum(torch.equal(d.rows[:4], d.rows[4:]) for d in drawn) == 0
    split = (
        sum(bool(a) != bool(b) for d in drawn for a, b in zip(d.prompts[:4], d.prompts[4:], strict=True))
        / 120
    )
    assert 0.3 < split < 0.7  # of a released pair one side alone may lose its prompt: 2 x 0.5 x 0.5 here
    order = [i for d in drawn for i in range(4) if torch.equal(d.codes[i], d.codes[i + 4])]
    assert not order


def test_pairs_are_learned_and_the_folder_is_a_generator(studio, showo_model, pairs, tmp_path):
    """All four margins above 0 on masks not seen in training; the folder needs nothing beside it."""
    out = tmp_path / "elsewhere" / "out"
    fit = replace(FAST, batch=4, micro=4, epochs=40, lr=1e-3, weight_decay=0.01)
    curves = []
    metrics = tuned_showo(studio, showo_model, out, fit, watch=lambda update, c: curves.append(c))
    assert curves[0]["margin"] == 0.0 and curves[0]["loss"] == pytest.approx(0.6931, abs=1e-4)
    assert metrics["updates"] == 40 and metrics["loss"] < 0.35 and metrics["accuracy"] >= 0.9
    tuned = load("generator", weights=str(out))
    rows = torch.rand(pairs.chosen.shape, generator=torch.Generator().manual_seed(9)) < 0.7
    with torch.no_grad():
        told = [showo.log_probability(m, pairs.prompts, c, rows) for m in (tuned, showo_model)
                for c in (pairs.chosen, pairs.rejected)]  # fmt: skip
    assert ((told[0] - told[1]) - (told[2] - told[3]) > 1).all()
    assert tuned.decode(pairs.chosen[:1]).shape == (1, 3, 16, 16)
    assert tuned.text_ids("a red dog") == showo_model.text_ids("a red dog")
    names = {path.name for path in out.iterdir()}
    assert names == {
        "config.json",
        "pytorch_model.safetensors",
        "magvitv2",
        "phi-1_5",
        loop.CARD,
        codes.CACHE,
    }
    config, begun = (json.loads((f / "config.json").read_text()) for f in (out, studio / "show-o"))
    assert {k: v for k, v in begun.items() if k != "_diffusers_version"} == config


def test_every_kind_of_reference_gives_the_same_weights(studio, showo_model, tmp_path):
    for kind in ("copy", "ahead"):
        tuned_showo(studio, showo_model, tmp_path / kind, replace(FAST, reference=kind))
    assert same(files_of(tmp_path / "copy"), files_of(tmp_path / "ahead"))
    assert not same(files_of(tmp_path / "copy"), files_of(studio / "show-o"))


@pytest.mark.parametrize("change", [{}, {"reference": "ahead"}, {"lora": 4}], ids=("copy", "ahead", "lora"))
def test_a_killed_tuning_ends_in_the_same_weights(studio, showo_model, tmp_path, monkeypatch, change):
    fit = replace(FAST, **change)
    whole = tuned_showo(studio, showo_model, tmp_path / "whole", fit)
    with pytest.raises(Killed):
        tuned_showo(studio, showo_model, tmp_path / "killed", fit, watch=kill_at(3))
    # neither pictures nor reference are computed again
    monkeypatch.setattr(codes, "_encode", lambda *_: pytest.fail("encoded again"))
    if "reference" in change:
        monkeypatch.setattr(torch, "stack", _no_new_table(torch.stack))
    seen = []
    again = tuned_showo(
        studio, showo_model, tmp_path / "killed", fit, resume=True, watch=lambda u, c: seen.append(u)
    )
    assert seen == [3, 4, 5] and again == whole
    assert same(files_of(tmp_path / "killed"), files_of(tmp_path / "whole"))
    assert not list((tmp_path / "killed").glob("*.pt"))


def _no_new_table(stack):
    """torch.stack, which must not be asked for the table of all updates."""

    def watched(tensors, *more, **options):
        made = stack(tensors, *more, **options)
        assert made.dtype != torch.float32 or made.shape != (6, 4), "the reference was computed again"
        return made

    return watched


def test_adapters_of_a_generator_change_their_layers_alone(studio, showo_model, tmp_path):
    fit = replace(FAST, lora=4, alpha=8, batch=4, epochs=20, lr=1e-2)
    metrics = tuned_showo(studio, showo_model, tmp_path, fit)
    assert metrics["margin"] > 1
    before, after = files_of(studio / "show-o"), files_of(tmp_path)
    assert before.keys() == after.keys()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    layers = ("q_proj", "k_proj", "v_proj", "dense", "fc1", "fc2")
    assert moved == {name for name in before if name.endswith(tuple(f"{layer}.weight" for layer in layers))}


def test_biases_do_not_decay(showo_model):
    policy = Showo(showo_model.config, copy.deepcopy(showo_model.phi), showo_model.words)
    decays, others = showo.prepare(policy, presets.STAGES["showo-dpo"], 0)
    names = {id(p): name for name, p in policy.phi.named_parameters()}
    assert (decays["weight_decay"], others["weight_decay"]) == (0.01, 0.0)
    assert all("bias" in names[id(p)] for p in others["params"]) and len(others["params"]) > 20
    assert not any("bias" in names[id(p)] for p in decays["params"])
    assert len(decays["params"]) + len(others["params"]) == len(names)


# ----- Show-o: pictures to codes -------------------------------------------------------------------------------------


def test_codes_are_those_of_the_tokenizer_and_are_kept(studio, showo_model, tmp_path, monkeypatch):
    found = read_pairs(studio / "pairs.jsonl", studio / "pictures")
    asked = []
    whole = codes._encode
    monkeypatch.setattr(codes, "_encode", lambda mine, *more: asked.append(len(mine)) or whole(mine, *more))

    def encoded(made_by="one"):
        return codes.pair_codes(found, showo_model.tokenizer, 16, False, tmp_path, made_by)

    chosen, rejected = encoded()
    own = [Image.open(one.rejected) for one in found]
    assert (
        torch.equal(rejected, showo_model.tokenizer.encode(prepare(own, 16))) and chosen.dtype == torch.long
    )
    assert int(chosen.max()) > 255  # 13 bits survive the file
    assert torch.equal(encoded()[0], chosen) and asked == [8]
    encoded("another tokenizer")
    assert asked == [8, 8]
    os.utime(found[0].chosen, ns=(1, 1))  # as if it had been written anew
    encoded("another tokenizer")
    assert asked == [8, 8, 1]
    (tmp_path / codes.CACHE).write_bytes(b"damaged")
    assert torch.equal(encoded()[1], rejected) and asked == [8, 8, 1, 8]


def test_pictures_of_another_size_are_refused_or_cut_as_show_o_does(studio, showo_model, tmp_path):
    odd = tmp_path / "odd.png"
    Image.effect_noise((40, 24), 90).convert("RGB").save(odd)
    line = {"prompt": "a cat", "chosen": str(odd), "rejected": "1.png"}
    (tmp_path / "pairs.jsonl").write_text(json.dumps(line))
    found = read_pairs(tmp_path / "pairs.jsonl", studio / "pictures")
    with pytest.raises(UserError) as error:
        codes.pair_codes(found, showo_model.tokenizer, 16, False, tmp_path, "")
    said = one_sentence(error)
    assert (
        "pairs.jsonl, line 1" in said and "40 x 24 pixels; expected 16 x 16" in said and "resize=true" in said
    )
    chosen, _ = codes.pair_codes(found, showo_model.tokenizer, 16, True, tmp_path, "")
    small = Image.open(odd).resize((26, 16), Image.Resampling.BICUBIC).crop((5, 0, 21, 16))
    assert torch.equal(chosen, showo_model.tokenizer.encode(prepare([small], 16)))


def test_a_pair_of_twins_is_refused(studio, showo_model, tmp_path):
    Image.open(studio / "pictures" / "1.png").save(tmp_path / "twin.png")
    line = {"prompt": "a cat", "chosen": str(tmp_path / "twin.png"), "rejected": "1.png"}
    (tmp_path / "pairs.jsonl").write_text(json.dumps(line))
    found = read_pairs(tmp_path / "pairs.jsonl", studio / "pictures")
    with pytest.raises(UserError, match="line 1 has two pictures that are the same to the tokenizer"):
        codes.pair_codes(found, showo_model.tokenizer, 16, False, tmp_path, "")


# ----- the loop ------------------------------------------------------------------------------------------------------


def test_examples_come_once_an_epoch_in_an_order_that_changes():
    drawn = torch.cat([loop.picks(update, 10, 4, 7) for update in range(10)])
    epochs = drawn.view(4, 10)
    assert all(torch.equal(epoch.sort().values, torch.arange(10)) for epoch in epochs)
    assert not torch.equal(epochs[0], epochs[1])
    assert torch.equal(loop.picks(3, 10, 4, 7), drawn[12:16]) and not torch.equal(
        loop.picks(3, 10, 4, 8), drawn[12:16]
    )
    assert sorted(loop.picks(0, 3, 7, 0).tolist())[:2] == [0, 0]  # a batch of more than an epoch


def test_the_learning_rate_rises_and_falls_as_half_a_cosine():
    rates = [loop.cosine(update, 100, 0.1) for update in range(100)]
    assert rates[:10] == pytest.approx([0.1 * n for n in range(1, 11)])
    assert rates[55] == pytest.approx(0.5) and rates[10] == 1.0 and rates[99] < 1e-3
    assert all(a > b for a, b in zip(rates[10:], rates[11:], strict=False))
    assert loop.cosine(0, 3, 0.0) == 1.0


SCRIPT = """
import sys; sys.path.insert(0, "tests")
from pathlib import Path
from test_train_published import *
from cotlib.several import wait
llava_home, studio, out = map(Path, sys.argv[1:])
model = Showo.from_pretrained(studio / "show-o")
tuned_llava(llava_home, out / "llava", SHORT)
tuned_showo(studio, model, out / "showo", replace(FAST, reference="ahead"), minutes=30)
wait()
"""


def test_two_processes_give_what_one_gives(home, studio, showo_model, tmp_path):
    script = tmp_path / "two.py"
    script.write_text(SCRIPT)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": "1",
              "GLOO_SOCKET_IFNAME": "lo", "PYTHONPATH": "."}  # fmt: skip
    command = [sys.executable, str(script), str(home), str(studio), str(tmp_path)]
    processes = [
        subprocess.Popen(command, env=os.environ | shared | {"RANK": n, "LOCAL_RANK": n}) for n in "01"
    ]
    try:
        alone = [tuned_llava(home, tmp_path / "alone" / "llava", SHORT),
                 tuned_showo(studio, showo_model, tmp_path / "alone" / "showo", FAST)]  # fmt: skip
        assert [process.wait(timeout=400) for process in processes] == [0, 0]
    finally:
        for process in processes:
            process.kill()
    for name, metrics in zip(("llava", "showo"), alone, strict=True):
        card = json.loads((tmp_path / name / loop.CARD).read_text())
        assert card["metrics"] == pytest.approx(metrics, rel=1e-3, abs=1e-4)
        one, two = files_of(tmp_path / "alone" / name), files_of(tmp_path / name)
        begun = files_of({"llava": home / "llava", "showo": studio / "show-o"}[name])
        # a bias of all keys cancels in the softmax: its gradient is rounding, which Adam blows up to full steps
        told = [k for k in one if not k.endswith(("k_layernorm.bias", "k_proj.bias"))]
        for k in told:
            far, moved = (float((one[k] - other[k]).norm()) for other in (two, begun))
            assert far <= 1e-3 * moved, (k, far, moved)
        assert len(told) > 30 and any(not torch.equal(one[k], begun[k]) for k in told)


def test_bfloat16_products_learn_as_well(home, studio, showo_model, tmp_path, monkeypatch):
    """What runs on a GPU, here on the CPU: bfloat16 inside the network, tuned weights in float32, frozen ones in bfloat16."""
    asked = []

    def half(device):
        asked.append(device)
        return torch.autocast("cpu", torch.bfloat16)

    monkeypatch.setattr(llava, "frozen_dtype", lambda device: torch.bfloat16)
    for module in (llava, showo):
        monkeypatch.setattr(module, "mixed", half)
    curves: list[dict] = []
    watch = {"watch": lambda update, told: curves.append(told)}
    for lora in (0, 16):
        metrics = tuned_llava(
            home, tmp_path / f"llava-{lora}", replace(quick(lora), checkpointing=False), **watch
        )
        assert metrics["loss"] < 0.1 * curves[0]["loss"] and metrics["accuracy"] == 1.0
        curves.clear()
    for lora, lr in ((0, 1e-3), (4, 1e-2)):
        fit = replace(FAST, batch=4, micro=4, epochs=10, lr=lr, lora=lora, alpha=2 * lora or 1)
        metrics = tuned_showo(studio, showo_model, tmp_path / f"showo-{lora}", fit, **watch)
        assert curves[0]["margin"] == 0 and metrics["margin"] > 0.5
        curves.clear()
    assert asked


# ----- presets -------------------------------------------------------------------------------------------------------


def test_presets_are_the_papers():
    orm, dpo = presets.preset("llava-orm"), presets.preset("showo-dpo")
    assert (orm.lr, orm.vision_lr, orm.batch, orm.epochs, orm.warmup, orm.look) == (
        1e-5,
        2e-6,
        64,
        1,
        0.03,
        "anyres",
    )
    assert presets.preset("llava-parm") == orm and orm.weight_decay == 0
    assert (dpo.beta, dpo.lr, dpo.batch, dpo.epochs, dpo.warmup) == (0.1, 1e-5, 10, 1, 0.1)
    assert (dpo.weight_decay, dpo.clip, dpo.dropped_text) == (0.01, 0, 0.1)
    assert orm.updates(144_000) == 2250 and dpo.updates(10_000) == 1000 and dpo.updates(7_000) == 700
    assert orm.updates(10) == 1  # fewer examples than a batch
    assert presets.preset("llava-orm", lora=True).lora == 128 and orm.lora == 0


def test_settings_change_a_preset():
    fit = presets.preset("showo-dpo", settings=["lr=2e-5", "micro=4", "masks=independent", "resize=True"])
    assert (fit.lr, fit.micro, fit.masks, fit.resize) == (2e-5, 4, "independent", True)
    for text, words in {"speed=3": 'no setting "speed"', "lr=fast": "a number", "micro=1.5": "a whole number", "lr=-1": "lr is -1",
                        "resize=2": "true or false", "masks=odd": '"shared" or "independent"', "beta=0": "beta is 0",
                        "warmup=1": "warmup is 1", "batch=0": "batch is 0", "clip=nan": "clip is nan", "lr=inf": "lr is inf",
                        "reference=none": '"copy" or "ahead"', "over=all": "vocabulary"}.items():  # fmt: skip
        with pytest.raises(UserError) as error:
            presets.preset("showo-dpo", settings=[text])
        assert words in one_sentence(error)
    with pytest.raises(UserError, match='"differing" and masks "independent"'):
        presets.preset("showo-dpo", settings=["scored=differing", "masks=independent"])
    with pytest.raises(UserError, match='"anyres" or "pad"'):
        presets.preset("llava-orm", settings=["look=square"])


def test_memory_is_asked_for_before_a_gpu_is_filled(home, monkeypatch):
    seven = 8_030_000_000
    gpu = torch.device("cuda")
    half, whole = torch.bfloat16, torch.float32
    assert loop.memory(seven, presets.preset("llava-orm"), whole) == 16 * seven
    assert loop.memory(seven, presets.preset("llava-orm", lora=True), half) == 2 * seven
    assert loop.memory(seven, presets.preset("showo-dpo"), whole, copies=1) == 20 * seven
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (0, 2**20))
    with pytest.raises(UserError) as error:
        loop.require_memory(home / "llava", presets.preset("llava-orm"), gpu, whole)
    assert "GiB" in one_sentence(error) and "--lora" in one_sentence(error)
    loop.require_memory(home / "llava", presets.preset("llava-orm"), torch.device("cpu"), whole)


# ----- the user's files ----------------------------------------------------------------------------------------------


def entry(question="<image> Is it?", answer="yes", **more) -> dict:
    said = [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]
    return {"id": 7, "image": "0.png", "conversations": said} | more


def turns(*who) -> list[dict]:
    return [{"from": name, "value": "yes" if name == "gpt" else "<image> x"} for name in who]


BAD_DIALOGUES = {
    "neither": (entry(answer="maybe"), 'answers "maybe"; expected yes or no'),
    "full stop": (entry(answer="Yes."), 'answers "Yes."'),
    "no picture": (entry(image="lost.png"), "lost.png, which is not there"),
    "two pictures": (entry(image=["0.png", "1.png"]), "the path of one picture"),
    "no mark": (entry("Is it?"), "0 times <image>"),
    "two marks": (entry("<image> <image> Is it?"), "2 times <image>"),
    "no question": (entry("<image>"), "expected a text in every turn"),
    "no text": (entry(answer=3), "says 3"),
    "chat mark": (entry("<image> a <|im_end|>"), "a mark of the chat"),
    "order": (entry(conversations=turns("gpt", "human")), "['gpt', 'human']"),
    "half": (entry(conversations=turns("human", "gpt", "human")), "a question and its answer each"),
    "empty": (entry(conversations=[]), "turns from []"),
    "no object": ("yes", "is a str; expected a JSON object"),
}


@pytest.mark.parametrize("kind", BAD_DIALOGUES)
def test_a_wrong_dialogue_is_named_with_its_place(home, tmp_path, kind):
    record, words = BAD_DIALOGUES[kind]
    for name, text, place in (("d.json", json.dumps([entry(), record]), "d.json, entry 2"),
                              ("d.jsonl", f"{json.dumps(entry())}\n\n{json.dumps(record)}\n", "d.jsonl, line 3")):  # fmt: skip
        (tmp_path / name).write_text(text)
        with pytest.raises(UserError) as error:
            read_dialogues(tmp_path / name, home / "pictures")
        assert place in one_sentence(error) and words in one_sentence(error)


BAD_FILES = {
    "broken.json": ('[{"id": 1,\n "image": }]', "broken.json, line 2, column 11"),
    "broken.jsonl": ('{"id": 1}\n{"id": \n', "broken.jsonl, line 2"),
    "object.json": ('{"id": 1}', "holds a dict; expected a JSON list"),
    "empty.json": ("", "empty.json is empty"),
    "blank.jsonl": ("\n \n", "blank.jsonl is empty"),
    "none.json": ("[]", "holds no example"),
    "table.csv": ("a,b", 'ends in ".csv"'),
    "broken.yaml": ("datasets:\n  - json_path: [", "broken.yaml, line 2 is no YAML"),
    "other.yaml": ("sets: 3", "names no datasets"),
    "odd.yaml": (
        "datasets: [{json_path: ok.json, sampling_strategy: 'most:3'}]",
        'sampling_strategy "most:3"',
    ),
    "zero.yaml": (
        "datasets: [{json_path: ok.json, sampling_strategy: 'first:0'}]",
        'sampling_strategy "first:0"',
    ),
    "kind.yaml": ("datasets: [{json_path: table.csv}]", "expected files that end in .json or .jsonl"),
    "lost.yaml": ("datasets: [{json_path: lost.json}]", "lost.json cannot be read"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_file_that_cannot_be_read_is_named_with_its_line(tmp_path, name):
    text, words = BAD_FILES[name]
    (tmp_path / "ok.json").write_text("[{}]")
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError) as error:
        read_records(tmp_path / name)
    assert words in one_sentence(error)


def test_missing_and_binary_files_are_one_sentence(tmp_path):
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe\x00")
    for name in ("lost.json", "binary.json"):
        with pytest.raises(UserError) as error:
            read_records(tmp_path / name)
        assert f"{name} cannot be read" in one_sentence(error)


def test_a_list_of_files_takes_a_share_of_each(tmp_path):
    (tmp_path / "parm.json").write_text(json.dumps([{"n": n} for n in range(10)]))
    (tmp_path / "orm.jsonl").write_text("".join(f'{{"n": {n}}}\n' for n in range(100, 200)))
    (tmp_path / "all.yaml").write_text(
        "datasets:\n  - {json_path: parm.json, sampling_strategy: all}\n"
        "  - {json_path: orm.jsonl, sampling_strategy: 'random:70%'}\n"
    )
    drawn = [[record["n"] for _, record in read_records(tmp_path / "all.yaml", seed)] for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert drawn[0][:10] == list(range(10)) and len(set(drawn[0])) == 80
    for strategy, kept in {"first:2": [0, 1], "end:3": [7, 8, 9], "first:25%": [0, 1, 2]}.items():
        (tmp_path / "some.yaml").write_text(
            f"datasets: [{{json_path: parm.json, sampling_strategy: '{strategy}'}}]"
        )
        assert [record["n"] for _, record in read_records(tmp_path / "some.yaml")] == kept


def test_a_dialogue_is_the_picture_then_the_text(home, tmp_path):
    second = [{"from": "human", "value": "And then?"}, {"from": "gpt", "value": " No\n"}]
    long = entry("Is it \n<image>\n")
    long["conversations"] += second
    (tmp_path / "d.json").write_text(json.dumps([entry("<image>\nIs it?", "Yes"), long]))
    one, two = read_dialogues(tmp_path / "d.json", home / "pictures")
    assert one.turns == (("Is it?", "Yes"),) and two.turns == (("Is it", "yes"), ("And then?", "No"))
    assert one.picture == home / "pictures" / "0.png" and one.where.endswith("entry 1 (id 7)")
    Image.new("RGB", (4, 4)).save(tmp_path / "0.png")
    assert read_dialogues(tmp_path / "d.json")[0].picture == tmp_path / "0.png"  # beside the file


@pytest.mark.parametrize(
    ("change", "words"),
    [({"prompt": " "}, "as prompt"), ({"chosen": None}, "None as chosen"), ({"rejected": "lost.png"}, "which is not there"),
     ({"rejected": "0.png"}, "the same picture as chosen and rejected")],
)  # fmt: skip
def test_a_wrong_pair_is_named_with_its_line(studio, tmp_path, change, words):
    good = {"prompt": "a cat", "chosen": "0.png", "rejected": "1.png"}
    (tmp_path / "p.jsonl").write_text(f"{json.dumps(good)}\n{json.dumps(good | change)}\n")
    with pytest.raises(UserError) as error:
        read_pairs(tmp_path / "p.jsonl", studio / "pictures")
    assert "p.jsonl, line 2" in one_sentence(error) and words in one_sentence(error)


def test_pictures_become_rgb_or_are_refused(tmp_path):
    grey = Image.new("L", (3, 2), 90)
    for mode in ("L", "RGBA", "LA", "P", "1", "RGB"):
        grey.convert(mode).save(tmp_path / f"{mode}.png")
        seen = open_rgb(tmp_path / f"{mode}.png", "here")
        assert seen.mode == "RGB" and seen.size == (3, 2)
        assert seen.tobytes() == to_pil([Image.open(tmp_path / f"{mode}.png")])[0].tobytes()  # as at use
    Image.new("I;16", (3, 2)).save(tmp_path / "deep.png")
    grey.convert("CMYK").save(tmp_path / "print.jpg")
    (tmp_path / "text.png").write_text("no picture")
    grey.save(tmp_path / "cut.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "cut.png").read_bytes()[:45])
    for name, words in (("deep.png", "of mode I;16"), ("print.jpg", "of mode CMYK"), ("text.png", "cannot be read"),
                        ("cut.png", "cannot be read"), ("lost.png", "cannot be read")):  # fmt: skip
        with pytest.raises(UserError) as error:
            open_rgb(tmp_path / name, "pairs.jsonl, line 3")
        assert words in one_sentence(error) and "pairs.jsonl, line 3: " in one_sentence(error)


# ----- the command line ----------------------------------------------------------------------------------------------


def test_recipes_refuse_what_is_missing_or_in_the_way(home, studio, tmp_path):
    (tmp_path / "file").write_text("")
    orm, dpo = (
        {"data": home / "orm.json", "images": home / "pictures"},
        {"data": studio / "pairs.jsonl", "images": studio / "pictures"},
    )
    for recipe, out, given, words in [
        (llava.run, tmp_path / "file" / "out", orm | {"start": home / "llava"}, "cannot be written"),
        (showo.run, tmp_path / "file" / "out", dpo | {"start": studio / "show-o"}, "cannot be written"),
        (llava.run, tmp_path, orm, "--init"), (showo.run, tmp_path, {"start": studio / "show-o"}, "--data"),
        (llava.run, home / "llava", orm | {"start": home / "llava"}, "the folder of the weights to begin from"),
        (showo.run, studio / "show-o", dpo | {"start": studio / "show-o"}, "the folder of the weights to begin from"),
        (llava.run, tmp_path, orm | {"start": studio / "show-o"}, "tokenizer"),
        (showo.run, tmp_path, dpo | {"start": home / "llava"}, "Showo"),
        (llava.run, tmp_path, orm | {"start": tmp_path / "lost"}, "is no folder"),
    ]:  # fmt: skip
        with pytest.raises(UserError) as error:
            recipe(out, **given)
        assert words in one_sentence(error)
    (tmp_path / "alone").mkdir()
    for file in (studio / "show-o").iterdir():
        (tmp_path / "alone" / file.name).write_bytes(file.read_bytes())
    with pytest.raises(UserError, match="no image tokenizer"):
        showo.run(tmp_path / "out", start=tmp_path / "alone", **dpo)


def test_the_command_line_runs_them(home, studio, tmp_path, capsys):
    assert all(stages.TAKES[name] == stages.OWN_FILES for name in presets.STAGES)
    common = ["--set", "batch=2", "--set", "epochs=1", "--set", "micro=2"]
    told = {}
    for stage, root, init, data in (
        ("llava-parm", home, "llava", "orm.json"),
        ("showo-dpo", studio, "show-o", "pairs.jsonl"),
    ):
        arguments = ["train", stage, "--init", str(root / init), "--data", str(root / data), "--images", str(root / "pictures"),
                     "--out", str(tmp_path / stage), "--lora", *common]  # fmt: skip
        assert main(arguments) == 0
        told[stage] = json.loads(capsys.readouterr().out.splitlines()[-1])
        card = json.loads((tmp_path / stage / loop.CARD).read_text())
        assert card["stage"] == stage and card["fit"]["lora"] == 128 and card["fit"]["lr"] == 2e-4
        assert main([*arguments, "--resume"]) == 0  # finished: the same metrics, nothing done
        assert json.loads(capsys.readouterr().out.splitlines()[-1]) == told[stage]
    (tmp_path / "empty.json").write_text("")
    assert main(["train", "llava-orm", "--init", str(home / "llava"), "--data", str(tmp_path / "empty.json"),
                 "--out", str(tmp_path / "x")]) == 2  # fmt: skip
    assert "empty.json is empty" in capsys.readouterr().err
