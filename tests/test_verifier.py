"""The verifier's network, and the recipes that train it."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from cotlib.decoding import masked_rounds
from cotlib.decoding.noise import path_uniforms
from cotlib.errors import UserError
from cotlib.interfaces import Verdict
from cotlib.models.generator import GeneratorConfig, PictogramGenerator
from cotlib.models.verifier import MAX_WORDS, QUESTIONS, WORDS, PictogramVerifier, VerifierConfig, text_batch
from cotlib.train import verifier as verifier_recipe
from cotlib.train import verifier_report
from cotlib.train.stages import STAGES, TAKES
from cotlib.train.verifier import Painter, eye_loss, fact_loss, word_loss
from cotlib.train.verifier_captions import LESSONS, Curriculum, draw_captions, word_facts, wrong_words
from cotlib.train.verifier_paths import (
    PathsPlan,
    files_of,
    load_paths,
    pack_things,
    require_training,
    run,
    training_jobs,
    unpack_things,
)
from cotlib.train.verifier_rollouts import continue_rounds, roll_out
from cotlib.train.verifier_tuned import OwnPictures, TunedRecipe, adopt, encode_words, tuned_loss
from cotlib.verifying import LearnedVerifier
from cotlib.world.prompts import benchmark, encode, parse_prompt, split_of
from cotlib.world.render import render_batch
from cotlib.world.scenes import Scene, Thing, holds, sample_scene

PROMPTS = [
    "a photo of a dog",
    "a photo of three birds",
    "a photo of a red dog and a blue cat",
    "a photo of a cup above a car",
]


@pytest.fixture(scope="module")
def verifier():
    torch.manual_seed(0)
    made = LearnedVerifier(VerifierConfig(questions=QUESTIONS)).eval()
    with torch.no_grad():  # layers begin as zero maps; an untrained network would not look at anything
        for layer in made.layers:
            layer.out.weight.normal_(std=0.1)
            layer.down.weight.normal_(std=0.1)
    return made


@pytest.fixture(scope="module")
def painter():
    return Painter()


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(0)
    return render_batch([sample_scene(rng) for _ in PROMPTS])


# ----- the network -------------------------------------------------------------------------------------------------


def test_shapes_and_size(verifier, images):
    classes, colors = verifier.grid(images)
    assert classes.shape == (4, 64, 21) and colors.shape == (4, 64, 9)
    for question in QUESTIONS[:4]:
        p = verifier.ask(question, PROMPTS, images)
        assert p.shape == (4,) and ((p > 0) & (p < 1)).all()
        assert torch.allclose(p, verifier.margin(question, PROMPTS, images).sigmoid())
    spoken = verifier.say(PROMPTS, images)
    assert len(spoken) == 4 and all(len(line) <= MAX_WORDS and set(line) <= set(WORDS) for line in spoken)
    parameters = sum(p.numel() for p in PictogramVerifier().parameters())
    assert parameters <= 2_000_000 and 2 * parameters <= 4e6  # fp16 bytes


def test_answers_repeat_and_do_not_depend_on_the_batch(verifier, images):
    together = verifier.margin("FINAL", PROMPTS, images)
    assert torch.equal(together, verifier.margin("FINAL", PROMPTS, images))
    alone = [verifier.margin("FINAL", [p], image[None])[0] for p, image in zip(PROMPTS, images, strict=True)]
    assert torch.allclose(together, torch.stack(alone), atol=1e-4)
    many = verifier.margin("FINAL", PROMPTS * 20, images.repeat(20, 1, 1, 1))  # more than one batch
    assert torch.allclose(many, together.repeat(20), atol=1e-4)
    assert together.std() > 0.01  # it does look
    assert verifier.say(PROMPTS, images) == [
        verifier.say([p], i[None])[0] for p, i in zip(PROMPTS, images, strict=True)
    ]


def test_a_view_serves_every_question(verifier, images):
    view = verifier.views(images)
    for question in QUESTIONS[:4]:
        assert torch.allclose(
            verifier.margin(question, PROMPTS, view), verifier.margin(question, PROMPTS, images), atol=1e-5
        )


def test_padding_is_harmless(verifier, images):
    """The shortest prompt beside the longest one: whatever ids stand in the padding, the answer is the same."""
    ids, valid = text_batch([PROMPTS[0], PROMPTS[2]])
    asked, view = torch.zeros(2, dtype=torch.long), verifier.views(images[:2])
    answers = []
    for filling in (0, 5, 40):
        padded = ids.masked_fill(~valid, filling)
        with torch.no_grad():
            answers.append(verifier.answer(verifier.read(asked, padded, valid, view), asked, valid)[0])
    assert torch.equal(answers[0], answers[1]) and torch.equal(answers[0], answers[2])
    assert torch.allclose(answers[0][:1], verifier.margin("FINAL", PROMPTS[:1], images[:1]), atol=1e-5)


def test_said_words_see_only_what_was_said_before(verifier, images):
    ids, valid = text_batch(PROMPTS[2:3])
    asked, view = torch.tensor([4]), verifier.views(images[:1])
    said = torch.tensor([[0, 5, 9, 11]])
    with torch.no_grad():
        whole = verifier.read(asked, ids, valid, view, said)
        other = verifier.read(asked, ids, valid, view, torch.tensor([[0, 5, 30, 31]]))
        silent = verifier.read(asked, ids, valid, view)
    begin = 1 + ids.shape[1]
    assert torch.allclose(whole[:, : begin + 2], other[:, : begin + 2], atol=1e-6)
    assert not torch.allclose(whole[:, begin + 2 :], other[:, begin + 2 :], atol=1e-3)
    assert torch.allclose(whole[:, :begin], silent, atol=1e-5)  # the prompt never sees the answer


def test_plurals_share_the_vector_of_their_singular():
    vectors = PictogramVerifier().vectors().detach()
    dog, dogs, cat = (vectors[WORDS.index(w)] for w in ("dog", "dogs", "cat"))
    assert torch.cosine_similarity(dog, dogs, dim=0) > 0.8 > torch.cosine_similarity(cat, dogs, dim=0)


def test_questions_it_was_not_trained_for_are_refused(images):
    orm = LearnedVerifier(VerifierConfig(questions=("FINAL",))).eval()
    with pytest.raises(UserError, match='not trained for the question "STEP" but for: FINAL'):
        orm.ask("STEP", PROMPTS, images)
    with pytest.raises(UserError, match="REFLECT"):
        orm.reflect(PROMPTS, images)
    with pytest.raises(UserError, match="zebra"):
        orm.ask("FINAL", ["a photo of a zebra"], images[:1])
    with pytest.raises(ValueError, match="2 prompts for 4 pictures"):
        orm.ask("FINAL", PROMPTS[:2], images)
    with pytest.raises(ValueError, match="expected"):
        orm.grid(torch.zeros(1, 3, 32, 32))


def test_checkpoints_and_other_worlds(verifier, images, tmp_path):
    verifier.save_pretrained(tmp_path, {"model": "verifier", "metrics": {}})
    again = LearnedVerifier.from_pretrained(tmp_path)
    assert again.config == verifier.config and again.questions == QUESTIONS
    assert torch.allclose(
        again.margin("FINAL", PROMPTS, images), verifier.margin("FINAL", PROMPTS, images), atol=0.05
    )
    config = json.loads((tmp_path / "config.json").read_text())
    for change, said in (
        ({"world": "pictograms-00000000"}, "another|trained in the world"),
        ({"questions": ["WHY"]}, "WHY"),
    ):
        (tmp_path / "config.json").write_text(json.dumps(config | change))
        with pytest.raises(UserError, match=said):
            LearnedVerifier.from_pretrained(tmp_path)


# ----- captions ----------------------------------------------------------------------------------------------------


def test_captions_are_true_and_false_training_prompts():
    captions = draw_captions(np.random.default_rng(0), 120)
    for row, metadata in enumerate(captions.metadatas):
        assert holds(captions.scenes[row // 2], metadata) == (row % 2 == 0) == bool(captions.right[row])
        assert split_of(metadata) == "train"
        assert captions.ids[row, : int(captions.valid[row].sum())].tolist() == encode(metadata["prompt"])
    assert (captions.wrong.sum(1) > 0).tolist() == (captions.right == 0).tolist()
    assert not captions.wrong[~captions.valid].any()


def test_counts_are_no_hint():
    """Over many counting captions every number is as often true as false."""
    only = np.array([float(lesson == ("counting", "count")) for lesson in LESSONS])
    captions = draw_captions(np.random.default_rng(1), 300, only)
    counts = np.array([m["include"][0]["count"] for m in captions.metadatas]).reshape(-1, 2)
    for number in (2, 3, 4):
        true, false = (counts == number).mean(0)
        assert abs(true - false) < 0.1


def test_wrong_words_by_hand():
    things = (Thing("dog", "blue", 0, 0), Thing("cat", "red", 40, 0), Thing("bird", "red", 0, 40))
    for text, wrong in {
        "a photo of a red dog and a red cat": ["red"],
        "a photo of a dog right of a cat": ["right"],
        "a photo of a dog left of a cup": ["cup"],
        "a photo of two birds": ["two"],
        "a photo of two cups": ["cups"],
        "a photo of a dog and a cat": [],
    }.items():
        words = ["<begin>", *text.split()]
        assert [words[i] for i in wrong_words(parse_prompt(text), things)] == wrong
    assert wrong_words(parse_prompt("a photo of a red dog and a red cat"), things) == [5]


def test_facts_of_words_by_hand():
    captions = draw_captions(np.random.default_rng(0), 1)
    captions.scenes = [
        Scene((Thing("dog", "blue", 0, 0), Thing("cat", "red", 40, 8), Thing("dog", "red", 0, 24)))
    ]
    captions.metadatas = [
        parse_prompt(t) for t in ("a photo of a dog left of a cat", "a photo of a cup and a dog")
    ]
    captions.ids, captions.valid = text_batch([m["prompt"] for m in captions.metadatas])
    facts, known = word_facts(captions)
    dog, cat = (-0.625, -0.25), (0.625, -0.375)  # middles at (12, 24) and (52, 20) of 64
    assert facts[0, 5].tolist() == pytest.approx([*dog, 2]) and known[0, 5].tolist() == [1, 1, 1]
    assert facts[0, 9].tolist() == pytest.approx([*cat, 1])
    assert facts[0, 6, :2].tolist() == pytest.approx([dog[0] - cat[0], dog[1] - cat[1]])
    assert known[1, 5].tolist() == [0, 0, 1] and facts[1, 5, 2] == 0  # no cup: only the number is known
    assert known.sum() == 3 + 3 + 2 + 1 + 3


def test_the_curriculum_turns_to_what_is_wrong():
    lessons = Curriculum()
    for _ in range(200):
        lessons.update(LESSONS, [lesson != ("position", "relation") for lesson in LESSONS])
    weights = dict(zip(LESSONS, lessons.weights(), strict=True))
    assert sum(weights.values()) == pytest.approx(1)
    assert weights["position", "relation"] > 0.5 and min(weights.values()) > 0.02


# ----- training ----------------------------------------------------------------------------------------------------


def test_labels_of_the_eye(painter):
    scenes = [Scene((Thing("cat", "red", 8, 16), Thing("umbrella", "black", 40, 40)))]
    classes, colors, centres = (part.unflatten(1, (8, 8)) for part in painter.labels(scenes))
    assert (classes == 1).sum() == 9 and (classes == 20).sum() == 9 and (classes[0, 2:5, 1:4] == 1).all()
    assert (colors == 1).sum() == 9 and (colors == 8).sum() == 9
    assert centres.nonzero().tolist() == [[0, 3, 2], [0, 6, 6]]
    drawn, pasted = painter.paint(scenes, 0.0), painter.paint(scenes, 1.0)
    assert drawn.shape == pasted.shape and (drawn - pasted).abs().mean() < 0.02


def test_twenty_steps_teach_the_eye(painter):
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    scenes = [sample_scene(rng) for _ in range(8)]
    images, labels = painter.paint(scenes, 0.5), painter.labels(scenes)
    eye = PictogramVerifier().eye
    optimizer = torch.optim.AdamW(eye.parameters(), 3e-3)
    losses = []
    for _ in range(20):
        loss = eye_loss(eye(images), labels, paper=0.3)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.6 * losses[0]


def test_losses_are_finite_and_reach_every_part(verifier, painter):
    captions = draw_captions(np.random.default_rng(0), 4)
    probes = torch.nn.ModuleList(torch.nn.Linear(128, 3) for _ in range(2))
    view = verifier.view(verifier.tokens(verifier.eye(painter.paint(captions.scenes, 0.0)))).select(
        captions.owner
    )
    asked, layers = torch.zeros(8, dtype=torch.long), []
    states = verifier.read(asked, captions.ids, captions.valid, view, layers=layers)
    margin, wrong = verifier.answer(states, asked, captions.valid)
    loss = margin.sum() + word_loss(wrong, captions) + fact_loss(probes, layers, captions)
    loss.backward()
    silent = [n for n, p in verifier.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    verifier.zero_grad()
    assert silent == ["said_places", "speech.weight", "speech.bias"]


# ----- own paths ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def generator_folder(tmp_path_factory):
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("generator")
    model = PictogramGenerator(GeneratorConfig(width=32, layers=2, heads=2, hidden=64, steps=3))
    model.save_pretrained(folder, {"model": "generator", "metrics": {}})
    return folder


PLAN = PathsPlan(jobs=7, dev=False, each=2, rolled_every=2, rolled_paths=1, chunk=3)


@pytest.fixture(scope="module")
def paths_folder(generator_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("paths")
    run(folder, start=generator_folder, plan=PLAN)
    return folder


def test_jobs_never_repeat_a_path_and_share_the_tasks_evenly():
    jobs = training_jobs(PathsPlan(jobs=360))
    assert len({(m["prompt"], first) for m, first in jobs}) == 360
    assert all(sum(m["tag"] == task for m, _ in jobs) == 60 for task in ("single_object", "position"))
    singles = [(m["prompt"], first) for m, first in jobs if m["tag"] == "single_object"]
    assert {first for _, first in singles} == {0, 8, 16}  # 20 prompts, three rounds of 8 paths


def test_evaluation_prompts_are_refused():
    require_training([m["prompt"] for m, _ in training_jobs(PathsPlan(jobs=120))])
    for split in ("dev", "test"):
        held = [m["prompt"] for m in benchmark(split) if m["tag"] not in ("single_object", "counting")]
        for prompt in held[::10]:
            with pytest.raises(UserError, match=f'"{prompt}" holds a pair that is kept for the {split}'):
                require_training(["a photo of a dog", prompt])


def test_a_stopped_run_goes_on_without_doubles(generator_folder, paths_folder, tmp_path):
    """Stopped before its second file, with a half-written third one beside: in the end the same as in one go."""
    run(tmp_path, start=generator_folder, plan=PLAN, minutes=0)
    assert not json.loads((tmp_path / "card.json").read_text())["complete"]
    (tmp_path / "train_0001.123.tmp").write_bytes(b"half")
    with pytest.raises(UserError, match="--resume"):
        run(tmp_path, start=generator_folder, plan=PLAN)
    counts = run(tmp_path, start=generator_folder, plan=PLAN, resume=True)
    assert counts["files"] == counts["of"] == 3 and counts["train"]["paths"] == 14
    once, twice = load_paths(paths_folder), load_paths(tmp_path)
    for name in ("codes", "masked", "correct", "things", "clear", "rolled", "path", "prompt"):
        assert np.array_equal(getattr(once, name), getattr(twice, name))
    with pytest.raises(UserError, match="another generator"):
        run(tmp_path, start=generator_folder, plan=replace(PLAN, each=3), resume=True)


def test_paths_hold_what_was_drawn(generator_folder, paths_folder):
    paths = load_paths(paths_folder)
    model = PictogramGenerator.from_pretrained(generator_folder)
    prompts = [paths.metadata(r)["prompt"] for r in range(14)]
    steps = list(masked_rounds(model, prompts, paths.path.tolist(), PLAN.seed))
    assert np.array_equal(paths.codes, torch.stack([s.codes for s in steps], 1).numpy())
    assert np.array_equal(paths.masked, torch.stack([s.masked for s in steps], 1).numpy())
    assert (
        paths.clear[:, -1].all() and (paths.rolled >= 0).all(1).sum() == 5
    )  # jobs 0, 2 of 3, twice, and job 6
    with pytest.raises(UserError, match="no paths of the dev"):
        load_paths(paths_folder, "dev")


def test_a_file_with_an_evaluation_prompt_is_refused(paths_folder, tmp_path):
    with np.load(paths_folder / "train_0000.npz") as arrays:
        spoilt = dict(arrays)
    spoilt["prompts"] = np.array([m["prompt"] for m in benchmark("test") if m["tag"] == "colors"][:3])
    np.savez(tmp_path / "train_0000.npz", **spoilt)
    with pytest.raises(UserError, match="kept for the test"):
        load_paths(tmp_path)


def test_things_survive_packing():
    things = (Thing("cat", "red", 8, 16), Thing("umbrella", "black", 40, 40))
    assert unpack_things(pack_things(things)) == things


def test_continuing_with_the_same_dice_is_the_same_path():
    torch.manual_seed(0)
    model = PictogramGenerator(GeneratorConfig(width=32, layers=2, heads=2, hidden=64, steps=5)).eval()
    numbers = [0, 1, 2, 3]
    steps = list(masked_rounds(model, PROMPTS, numbers, seed=3))
    uniforms = path_uniforms(3, PROMPTS, numbers, (5, 2, 64))
    for done in (1, 3, 4):
        state = steps[done - 1]
        assert torch.equal(
            continue_rounds(model, PROMPTS, state.codes, state.masked, done, uniforms), steps[-1].codes
        )
    other = continue_rounds(
        model, PROMPTS, steps[2].codes, steps[2].masked, 3, path_uniforms(4, PROMPTS, numbers, (5, 2, 64))
    )
    fixed = ~steps[2].masked
    assert torch.equal(other[fixed], steps[2].codes[fixed]) and not torch.equal(other, steps[-1].codes)


def test_rollouts_count_right_ends():
    model = PictogramGenerator(GeneratorConfig(width=32, layers=2, heads=2, hidden=64, steps=3)).eval()
    model.decode = lambda codes: codes
    asked = []

    def judge(metadatas, finals):
        asked.append(len(finals))
        return [Verdict(k % 4 < 3) for k in range(len(finals))]

    steps = list(masked_rounds(model, PROMPTS[:2], [0, 5], seed=0))
    codes, masked = (torch.stack([getattr(s, name) for s in steps], 1) for name in ("codes", "masked"))
    rows = [(parse_prompt(p), k) for p, k in zip(PROMPTS[:2], (0, 5), strict=True)]
    counts = roll_out(model, judge, rows, codes, masked, np.array([True, False]), seed=0)
    assert counts.tolist() == [[3, 3, 4], [3, 3, 0]] and asked == [8, 8]


# ----- tuning ------------------------------------------------------------------------------------------------------


def test_own_pictures_are_drawn_as_asked(paths_folder):
    paths = load_paths(paths_folder)
    paths.correct[::2] = True
    paths.clear[:, 0], paths.clear[:, 1] = False, paths.path == 0
    own = OwnPictures(paths, TunedRecipe(1, {"REFLECT": 4}, ask_when=0.4, clear=1.0))
    assert own.ask_from == 1
    rng = np.random.default_rng(0)
    rows, rounds, labels = own.draw(rng, "FINAL", 40)
    assert (rounds == 2).all() and np.array_equal(labels, paths.correct[rows])
    rows, rounds, labels = own.draw(rng, "STEP", 40)
    assert (paths.rolled[rows] >= 0).all() and np.array_equal(labels, paths.rolled[rows, rounds] > 0)
    rows, rounds, labels = own.draw(rng, "CLARITY", 40)
    assert rounds.min() == 1 and np.array_equal(labels, paths.clear[rows, rounds])
    rows, rounds, labels = own.draw(rng, "POTENTIAL", 40)
    assert (
        paths.clear[rows, rounds].all() and rounds.min() >= 1 and np.array_equal(labels, paths.correct[rows])
    )
    rows, _, labels = own.draw(rng, "REFLECT", 400)
    assert 0.1 < labels.mean() < 0.3
    assert all((own.faults[r] == ("yes",)) == bool(paths.correct[r]) for r in rows)


def test_a_tuning_step_reaches_every_part(verifier, painter, paths_folder):
    recipe = TunedRecipe(1, {"FINAL": 3, "STEP": 2, "CLARITY": 2, "POTENTIAL": 2, "REFLECT": 3}, drawn=2)
    paths = load_paths(paths_folder)
    paths.correct[::2] = True
    loss, parts = tuned_loss(verifier, painter, OwnPictures(paths, recipe), recipe, np.random.default_rng(0))
    loss.backward()
    silent = [n for n, p in verifier.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    verifier.zero_grad()
    assert not silent and len(parts) == 3 and loss.isfinite()


def test_new_questions_begin_as_the_final_one(verifier, images):
    torch.manual_seed(1)
    tuned = LearnedVerifier(VerifierConfig(questions=("FINAL",))).eval()
    adopt(tuned, ("FINAL", "POTENTIAL"), ask_from=2)
    assert tuned.questions == ("FINAL", "POTENTIAL") and tuned.ask_from == 2
    assert torch.equal(tuned.margin("POTENTIAL", PROMPTS, images), tuned.margin("FINAL", PROMPTS, images))


def test_words_as_targets():
    said, targets = encode_words([("missing", "cat"), ("yes",)])
    assert [WORDS[i] for i in said[0, :3]] == ["<begin>", "missing", "cat"]
    assert [WORDS[i] for i in targets[0, :3]] == ["missing", "cat", "<end>"]
    assert said.shape == (2, 15) and (targets[1, 2:] == -1).all()


def test_every_stage_says_what_it_needs():
    assert set(STAGES) == set(TAKES)
    for name in ("verifier-orm", "verifier-parm-plus"):
        with pytest.raises(UserError, match="--init and of verifier-paths with --data"):
            STAGES[name]("nowhere")


def test_the_plan_of_files():
    files = files_of(PathsPlan(jobs=40, chunk=16))
    assert [name for name in files if name.startswith("train")] == [f"train_000{k}.npz" for k in range(3)]
    assert sum(len(jobs) for name, jobs in files.items() if name.startswith("dev")) == 120


def test_recipes_from_end_to_end(paths_folder, tmp_path, monkeypatch):
    """One or two steps each: zero-shot, resumed after its first part, then tuned; cards and checkpoints in place."""
    monkeypatch.setattr(verifier_report, "DRAWINGS", len(LESSONS))
    zero_shot = tmp_path / "zs"
    STAGES["verifier-zs"](zero_shot, minutes=0.005)
    card = json.loads((zero_shot / "card.json").read_text())
    assert card["metrics"]["steps"] >= 1 and set(card["metrics"]["drawings"]) == {
        "balanced_accuracy",
        "by_lesson",
    }
    assert sorted(f.name for f in zero_shot.iterdir()) == ["card.json", "config.json", "model.safetensors"]
    first = LearnedVerifier.from_pretrained(zero_shot)
    assert first.questions == ("FINAL",)
    first.save_pretrained(
        zero_shot / "eye", {"metrics": {}}
    )  # as a run leaves it that was stopped in its second part
    monkeypatch.setattr(
        verifier_recipe, "train_eye", lambda *_: pytest.fail("the first part is not repeated")
    )
    STAGES["verifier-zs"](zero_shot, minutes=0.005, resume=True)
    STAGES["verifier-prm"](tmp_path / "prm", minutes=0.005, start=zero_shot, data=paths_folder)
    assert LearnedVerifier.from_pretrained(tmp_path / "prm").questions == ("STEP",)
    card = json.loads((tmp_path / "prm" / "card.json").read_text())
    assert card["paths"]["generator"] == json.loads((paths_folder / "paths.json").read_text())["generator"]
    STAGES["verifier-parm"](tmp_path / "parm", minutes=0.005, start=zero_shot, data=paths_folder)
    tuned = LearnedVerifier.from_pretrained(tmp_path / "parm")
    assert tuned.questions == ("FINAL", "CLARITY", "POTENTIAL")


def test_the_report_covers_every_question(verifier, painter, paths_folder):
    made = verifier_report.measure_paths(verifier, painter.tokenizer, paths_folder, split="train")
    assert set(made) == set(QUESTIONS)
    assert (
        made["STEP"]["answers"] == 5 * 3
        and made["FINAL"]["answers"] == 14
        and made["CLARITY"]["answers"] == 28
    )
    assert made["REFLECT"]["pictures"] == 14
