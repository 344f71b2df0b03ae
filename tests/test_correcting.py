"""Corrections: the edit does what the words say and touches nothing else; the paper's form sees what it is given."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from cotlib import load
from cotlib.correcting import Anew, ExactReflections, LocalEdit, TunedRedraw, plan_edit
from cotlib.correcting.edits import cells_of, order_of
from cotlib.decoding import masked_rounds
from cotlib.errors import UserError
from cotlib.models.corrector import PictogramCorrector
from cotlib.models.generator import PictogramGenerator
from cotlib.search import Ledger, redraw
from cotlib.train.corrector import CorrectorRecipe, Failures, corrector_loss, run, spoiled
from cotlib.train.generator import CodeTable
from cotlib.train.verifier_paths import Paths, pack_things
from cotlib.verifying.faults import Fault, to_words
from cotlib.verifying.reflection import Reflection
from cotlib.verifying.repair import find_faults
from cotlib.world.prompts import parse_prompt, sample_metadata
from cotlib.world.render import render_batch
from cotlib.world.scenes import TASKS, Scene, Thing, holds, sample_scene

RED_DOG, BLUE_DOG, CUP = Thing("dog", "red", 0, 0), Thing("dog", "blue", 0, 0), Thing("cup", "green", 40, 40)
PROMPT = "a photo of a red dog and a green cup"


@pytest.fixture(scope="module")
def table():
    return CodeTable(load("tokenizer"))


@pytest.fixture(scope="module")
def corrector():
    """Random weights with a head that is not flat, on the shipped tokenizer."""
    torch.manual_seed(0)
    model = PictogramCorrector().eval()
    torch.nn.init.normal_(model.code_out)
    for block in model.blocks:
        torch.nn.init.normal_(block.out.weight, std=0.1)
    model.tokenizer = load("tokenizer")
    return model


def codes_of(table, *things):
    return torch.from_numpy(table.paste(Scene(tuple(things)))[0])[None]


def told(prompt, *things):
    faults = find_faults(parse_prompt(prompt), things)
    return Reflection(False, " ".join(to_words(faults)), faults, (), tuple(things))


def correct(way, codes, reflection, prompt=PROMPT, round=1, ledger=None, steps=8):
    return way(way_model(way), [prompt] * len(codes), codes, [reflection] * len(codes), 0, round,
               ledger=Ledger() if ledger is None else ledger, steps=steps, guidance=1.5)  # fmt: skip


def way_model(way):
    return getattr(way, "editor", None) or way.corrector


# ----- planning ----------------------------------------------------------------------------------------------------


def test_an_edit_makes_every_kind_of_prompt_hold():
    rng, kinds = np.random.default_rng(0), set()
    for _ in range(300):
        metadata = sample_metadata(rng, "train", str(rng.choice(TASKS)))
        seen = spoiled(rng, metadata)
        faults = find_faults(metadata, seen)
        if not faults:
            continue
        edit = plan_edit(rng, metadata, seen, faults)
        assert holds(Scene((*(t for t in seen if t not in edit.gone), *edit.drawn)), metadata)
        kinds |= {f.kind for f in faults}
    assert kinds == {"missing", "wrong", "extra", "move"}


def test_a_fault_about_a_thing_that_is_not_there_changes_nothing():
    edit = plan_edit(np.random.default_rng(0), parse_prompt(PROMPT), [RED_DOG], [Fault("extra", "pizza")])
    assert edit is None


def test_spoiling_misses_the_prompt_most_of_the_time():
    rng = np.random.default_rng(1)
    missed = 0
    for _ in range(200):
        metadata = sample_metadata(rng, "train", str(rng.choice(TASKS)))
        missed += not holds(Scene(spoiled(rng, metadata)), metadata)
    assert missed > 100


# ----- the local edit ----------------------------------------------------------------------------------------------


def test_only_the_cells_of_the_wrong_thing_change(table, corrector):
    codes, edit = codes_of(table, BLUE_DOG, CUP), LocalEdit(corrector)
    new = correct(edit, codes, told(PROMPT, BLUE_DOG, CUP))
    changed = (new != codes)[0].nonzero().flatten().tolist()
    assert changed and set(changed) <= set(cells_of(BLUE_DOG).tolist())
    assert (new < table.blocks.max() * 1000).all() and corrector.mask_id not in new


def test_what_is_too_much_is_erased_to_paper_without_drawing(table, corrector):
    prompt = "a photo of two dogs"
    dogs = [Thing("dog", "red", 0, 0), Thing("dog", "red", 40, 0), Thing("dog", "red", 0, 40)]
    ledger = Ledger()
    new = correct(LocalEdit(corrector), codes_of(table, *dogs), told(prompt, *dogs), prompt, ledger=ledger)
    kept = [d for d in dogs if (new[0, cells_of(d)] == codes_of(table, d)[0, cells_of(d)]).all()]
    assert len(kept) == 2 and ledger.generator_token_passes == 0
    assert (new[0] == table.paper).sum() >= 64 - 18


def test_things_to_draw_share_the_rounds_of_one_picture(table, corrector):
    reflection = told("a photo of four dogs")  # an empty picture: four are missing
    ledger, asked = Ledger(), []
    editor = LocalEdit(corrector)
    draw = editor.draw
    editor.draw = lambda codes, things, *rest: (
        asked.append(order_of(things[0])),
        draw(codes, things, *rest),
    )[1]
    correct(editor, codes_of(table), reflection, "a photo of four dogs", ledger=ledger)
    assert len(asked) == 4 and all(
        order.startswith("a photo of a") and order.endswith("dog") for order in asked
    )
    assert ledger.generator_token_passes == 2 * 64 * 8


def test_a_bare_no_is_answered_by_redrawing(table, corrector):
    codes = codes_of(table, BLUE_DOG, CUP)
    new = correct(LocalEdit(corrector), codes, Reflection(False, ""))
    again = redraw(corrector, [PROMPT], codes, [], 0, 1, ledger=Ledger(), steps=8, guidance=1.5)
    assert torch.equal(new, again)


def test_every_round_draws_other_random_numbers(table, corrector):
    codes, reflection = codes_of(table, BLUE_DOG, CUP), told(PROMPT, BLUE_DOG, CUP)
    first, second = (correct(LocalEdit(corrector), codes, reflection, round=r) for r in (1, 2))
    assert not torch.equal(first, second)
    assert torch.equal(first, correct(LocalEdit(corrector), codes, reflection, round=1))


# ----- the paper's form --------------------------------------------------------------------------------------------


def test_the_papers_form_sees_the_failed_picture_and_the_words(table, corrector):
    one, other = codes_of(table, BLUE_DOG, CUP), codes_of(table, RED_DOG)
    canvas = torch.full((1, 64), corrector.mask_id)
    rows = torch.ones(1, 64, dtype=torch.bool)

    def logits(prompt, codes, words):
        return corrector.logits(corrector.correction_prefix([prompt], codes, [words], 0.0), canvas, rows)

    base = logits(PROMPT, one, ("missing", "cup"))
    assert not torch.allclose(base, logits(PROMPT, other, ("missing", "cup")))
    assert not torch.allclose(base, logits(PROMPT, one, ("missing", "dog")))
    assert torch.allclose(
        logits("", one, ()), corrector.logits(corrector.prefix([""], 0.0), canvas, rows), atol=1e-4
    )
    assert torch.allclose(logits("", one, ()), logits("", other, ()), atol=1e-4)


def test_a_batch_of_corrections_is_as_each_alone(table, corrector):
    codes = torch.cat([codes_of(table, BLUE_DOG, CUP), codes_of(table, RED_DOG)])
    prompts, way = [PROMPT, "a photo of a cat"], Anew(corrector)
    said = [told(PROMPT, BLUE_DOG, CUP), told("a photo of a cat", RED_DOG)]
    together = way(corrector, prompts, codes, said, 0, 1, ledger=Ledger(), steps=4, guidance=1.5)
    for b in (0, 1):
        alone = way(corrector, prompts[b : b + 1], codes[b : b + 1], said[b : b + 1], 0, 1, ledger=Ledger(), steps=4,
                    guidance=1.5)  # fmt: skip
        assert (together[b] == alone[0]).float().mean() > 0.95  # rounding may tip a draw


def test_the_papers_form_pays_for_the_failed_picture_once(table, corrector):
    ledger = Ledger()
    correct(
        Anew(corrector), codes_of(table, BLUE_DOG, CUP), told(PROMPT, BLUE_DOG, CUP), ledger=ledger, steps=4
    )
    assert ledger.generator_token_passes == 64 + 2 * 64 * 4 and ledger.seconds > 0


def test_the_control_draws_with_the_tuned_weights_from_the_prompt_alone(table, corrector):
    codes, reflection = codes_of(table, BLUE_DOG, CUP), told(PROMPT, BLUE_DOG, CUP)
    base = load("generator")
    options = {"ledger": Ledger(), "steps": 2, "guidance": 1.5}
    mine = TunedRedraw(corrector)(base, [PROMPT], codes, [reflection], 0, 1, **options)
    assert torch.equal(mine, redraw(corrector, [PROMPT], codes, [], 0, 1, **options))
    assert not torch.equal(mine, redraw(base, [PROMPT], codes, [], 0, 1, **options))


def test_a_corrector_begins_as_the_generator_it_goes_on_from():
    base = PictogramGenerator.from_pretrained(_data("generator-base"))
    model = PictogramCorrector(base.config)
    model.load_state_dict(base.state_dict(), strict=False)
    canvas, rows = torch.full((1, 64), base.mask_id), torch.ones(1, 64, dtype=torch.bool)
    a, b = (m.logits(m.prefix([PROMPT]), canvas, rows) for m in (base, model.eval()))
    assert torch.equal(a, b)


def _data(name):
    from cotlib.assets import data_dir

    return data_dir() / name


# ----- drawing from a given canvas ---------------------------------------------------------------------------------


def test_rounds_from_a_canvas_draw_the_masked_cells_only(table, corrector):
    start = codes_of(table, BLUE_DOG, CUP)
    start[0, :5] = corrector.mask_id
    steps = list(masked_rounds(corrector, [PROMPT], [0], 0, 3, start=start))
    assert torch.equal(steps[-1].codes[0, 5:], start[0, 5:]) and corrector.mask_id not in steps[-1].codes
    assert [int(s.masked.sum()) for s in steps] == [4, 2, 0]


@pytest.mark.parametrize("masked", [(0, 0), (3, 4)])
def test_rows_with_nothing_to_draw_or_unequal_ones_are_refused(table, corrector, masked):
    start = codes_of(table, CUP).repeat(2, 1)
    for row, count in enumerate(masked):
        start[row, :count] = corrector.mask_id
    with pytest.raises(UserError, match="masked tokens"):
        next(masked_rounds(corrector, [PROMPT] * 2, [0, 1], 0, 2, start=start))


# ----- the judge as reflector --------------------------------------------------------------------------------------


def test_exact_reflections_say_what_the_judge_sees():
    images = render_batch([Scene((RED_DOG, CUP)), Scene((BLUE_DOG, CUP))])
    right, wrong = ExactReflections(load("judge")).reflect([PROMPT] * 2, images)
    assert right.accepted and not wrong.accepted
    assert wrong.words == "wrong blue dog should red" and set(wrong.seen) == {BLUE_DOG, CUP}


def test_exact_reflections_leave_all_other_answers_to_the_verifier():
    verifier = SimpleNamespace(
        questions=("FINAL", "REFLECT"), ask_from=3, thresholds=(0.2, 0.3), ask=lambda *a: a
    )
    speaker = ExactReflections(load("judge"), verifier)
    assert speaker.ask("FINAL", ["x"], None) == ("FINAL", ["x"], None)
    assert (speaker.ask_from, speaker.thresholds) == (3, (0.2, 0.3))


# ----- training ----------------------------------------------------------------------------------------------------


def own_paths(table, count=12):
    """Wrong pictures as the generator might have drawn them."""
    rng = np.random.default_rng(3)
    metadatas, scenes = [], []
    while len(scenes) < count:
        metadata = sample_metadata(rng, "train", str(rng.choice(TASKS)))
        things = spoiled(rng, metadata)
        if not holds(Scene(things), metadata):
            metadatas.append(metadata)
            scenes.append(Scene(things))
    codes = np.stack([table.paste(s)[0] for s in scenes])[:, None].astype(np.uint16)
    flags = np.zeros((count, 1), dtype=bool)
    return Paths(metadatas, np.arange(count), np.zeros(count, dtype=int), codes, flags[:, :, None], flags[:, 0],
                 np.stack([pack_things(s.things) for s in scenes]), ~flags, np.full((count, 1), -1))  # fmt: skip


@pytest.mark.parametrize("own", [0.0, 1.0])
def test_a_failures_repair_holds_and_leaves_right_cells_alone(table, own):
    failures, rng = Failures(table, own_paths(table)), np.random.default_rng(0)
    for _ in range(40):
        failure = failures.draw(rng, own)
        assert holds(Scene(failure.after), failure.metadata) and failure.faults
        touched = {c for t in failure.new for c in cells_of(t).tolist()}
        changed = set(np.flatnonzero(failure.failed != failure.right).tolist())
        assert all(failure.right[c] == table.paper for c in changed - touched)


def test_the_loss_teaches_all_three_kinds(table):
    torch.manual_seed(0)
    model = PictogramCorrector()
    model.load_state_dict(
        PictogramGenerator.from_pretrained(_data("generator-base")).state_dict(), strict=False
    )
    recipe = CorrectorRecipe(local=4, anew=3, plain=3)
    loss, parts = corrector_loss(model, Failures(table, own_paths(table)), recipe, np.random.default_rng(0),
                                 torch.Generator().manual_seed(0))  # fmt: skip
    loss.backward()
    assert len(parts) == 3 and all(0 < part < 12 for part in parts)
    assert model.said.weight.grad.abs().sum() > 0 and model.failed.grad.abs().sum() > 0


def test_training_needs_a_generator_and_its_failures(tmp_path):
    with pytest.raises(UserError, match="--init and of verifier-paths with --data"):
        run(tmp_path)


def test_there_are_three_corrections():
    with pytest.raises(UserError, match="local-edit, anew, tuned-redraw"):
        load("correction", weights="both")


def test_a_scene_that_already_holds_has_no_faults():
    rng = np.random.default_rng(5)
    metadata = sample_metadata(rng, "train", "position")
    assert find_faults(metadata, sample_scene(rng, metadata).things) == ()
