"""Judged pairs: what is refused, what is counted, files that survive a kill."""

import numpy as np
import pytest
import torch

from cotlib.align import pairs as module
from cotlib.align.pairs import (
    Pictures,
    PicturesPlan,
    draw_pictures,
    final_pictures,
    hold_out,
    load_pictures,
    match,
    pair_up,
    require_training,
)
from cotlib.errors import UserError
from cotlib.interfaces import Verdict
from cotlib.models.generator import GeneratorConfig, PictogramGenerator
from cotlib.train.verifier_paths import Paths
from cotlib.world.prompts import benchmark, compositions, parse_prompt, prompt_pool

DOG, CAT = prompt_pool("train", "colors")[:2]


def pictures(prompts: list[str], correct: list[int]) -> Pictures:
    codes = torch.arange(len(prompts))[:, None].repeat(1, 4)
    return Pictures(prompts, torch.arange(len(prompts)), codes, torch.tensor(correct, dtype=torch.bool))


def test_pairs_hold_one_prompt_each_and_every_picture_once():
    pairs = pair_up(pictures([DOG] * 5 + [CAT] * 3, [1, 0, 1, 1, 0, 1, 1, 1]))
    assert pairs.prompts == [DOG, DOG]
    assert pairs.chosen[:, 0].tolist() == [0, 2] and pairs.rejected[:, 0].tolist() == [1, 4]
    assert pairs.counts == {"prompts": 2, "pictures": 8, "right": 6, "all_right": 1, "all_wrong": 0, "pairs": 2,
                            "mixed_prompts": 1}  # fmt: skip
    assert len(pair_up(pictures([DOG] * 4, [1, 1, 0, 0]), most=1).prompts) == 1


@pytest.mark.parametrize(
    "rows, correct, says",
    [
        (([0], [2]), [1, 0, 0], "has the prompts"),
        (([0], [1]), [1, 1, 0], "right and right"),
        (([0], [1]), [0, 0, 0], "wrong and wrong"),
        (([0], [1]), [0, 1, 0], "wrong and right"),
        (([], []), [1, 1, 0], "no pair is left of 3 pictures"),
    ],
)
def test_what_is_no_pair_is_refused(rows, correct, says):
    with pytest.raises(UserError, match=says):
        match(pictures([DOG, DOG, CAT], correct), *rows)


def test_pictures_of_one_verdict_leave_no_pair():
    with pytest.raises(UserError, match="no pair is left"):
        pair_up(pictures([DOG, DOG, CAT], [1, 1, 0]))
    with pytest.raises(UserError, match="at least one pair"):
        pair_up(pictures([DOG, DOG], [1, 0]), most=0)


@pytest.mark.parametrize("split", ["test", "dev"])
def test_evaluation_prompts_are_refused(split):
    held = next(m["prompt"] for m in benchmark(split) if m["tag"] == "two_object")
    with pytest.raises(UserError, match=f"kept for the {split} prompts"):
        pair_up(pictures([held, held], [1, 0]))


def test_validation_prompts_are_training_prompts_without_pairs():
    prompts = [p for task in ("colors", "counting", "position") for p in prompt_pool("train", task)[:40]]
    pairs = pair_up(pictures([p for p in prompts for _ in range(2)], [1, 0] * len(prompts)))
    left, held = hold_out(pairs, each_task=12, seed=1)
    texts = [m["prompt"] for m in held]
    require_training(texts)
    assert not set(left.prompts) & set(texts) and 0 < len(left.prompts) < len(prompts)
    assert [sum(m["tag"] == t for m in held) for t in ("single_object", "counting", "position")] == [
        5,
        12,
        12,
    ]
    with pytest.raises(UserError, match="set aside for validation"):
        only = [p for p in texts if parse_prompt(p)["tag"] == "colors"][:1]
        hold_out(pair_up(pictures(only * 2, [1, 0])), each_task=12, seed=1)


class EvenIsRight:
    """Even path numbers are right; decoding is left out."""

    def __call__(self, metadatas, images):
        return [Verdict(k % 2 == 0) for k in range(len(images))]


def tiny() -> PictogramGenerator:
    torch.manual_seed(0)
    model = PictogramGenerator(
        GeneratorConfig(width=16, layers=1, heads=2, hidden=16, grid=2, codes=16, steps=2)
    )
    model.decode = lambda codes: codes
    return model.eval()


PLAN = PicturesPlan(jobs=7, each=4, chunk=2)


def test_a_killed_run_goes_on_without_doubles(tmp_path, monkeypatch):
    model, written = tiny(), []
    draw_pictures(model, EvenIsRight(), PLAN, tmp_path / "whole")
    whole = load_pictures(tmp_path / "whole")

    def killed(path, arrays):
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(path)
        write(path, arrays)

    write = module.write_arrays
    monkeypatch.setattr(module, "write_arrays", killed)
    with pytest.raises(KeyboardInterrupt):
        draw_pictures(model, EvenIsRight(), PLAN, tmp_path / "killed")
    monkeypatch.undo()
    with pytest.raises(UserError, match="holds pictures already"):
        draw_pictures(model, EvenIsRight(), PLAN, tmp_path / "killed")
    counts = draw_pictures(model, EvenIsRight(), PLAN, tmp_path / "killed", resume=True)
    again = load_pictures(tmp_path / "killed")
    assert counts["pictures"] == 28 and counts["right"] == 14
    assert again.prompts == whole.prompts and torch.equal(again.codes, whole.codes)
    assert not list((tmp_path / "killed").glob("*.tmp"))
    assert len(pair_up(again).prompts) == 14


def test_files_of_another_plan_or_damaged_ones_are_refused(tmp_path):
    with pytest.raises(UserError, match="no judged pictures"):
        load_pictures(tmp_path)
    draw_pictures(tiny(), EvenIsRight(), PLAN, tmp_path)
    with pytest.raises(UserError, match="another generator, judge, seed or plan"):
        draw_pictures(tiny(), EvenIsRight(), PicturesPlan(jobs=8, each=4, chunk=2), tmp_path, resume=True)
    first = tmp_path / "pictures_0000.npz"
    (tmp_path / "pictures_0009.npz").write_bytes(first.read_bytes())
    with pytest.raises(UserError, match="twice"):
        load_pictures(tmp_path)
    first.write_bytes(b"no archive")
    with pytest.raises(UserError, match="cannot be read"):
        load_pictures(tmp_path)
    with pytest.raises(UserError, match="at least one job of two pictures"):
        PicturesPlan(each=1)


def test_drawn_prompts_hold_training_combinations_only(tmp_path):
    draw_pictures(tiny(), EvenIsRight(), PLAN, tmp_path)
    for prompt in load_pictures(tmp_path).prompts:
        assert set(compositions(parse_prompt(prompt))) <= {"train"}


def test_verifier_paths_end_in_judged_pictures():
    codes = np.arange(2 * 3 * 4, dtype=np.uint16).reshape(2, 3, 4)
    rest = [np.zeros((2, 3)) for _ in range(4)]
    paths = Paths([parse_prompt(DOG)], np.zeros(2, int), np.array([0, 1]), codes, rest[0], np.array([True, False]),
                  *rest[1:])  # fmt: skip
    pairs = pair_up(final_pictures(paths))
    assert pairs.chosen.tolist() == [[8, 9, 10, 11]] and pairs.rejected.tolist() == [[20, 21, 22, 23]]
