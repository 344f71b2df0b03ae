"""A planted blind spot is what it is said to be; ensembles and cautious rules do what arithmetic says."""

import numpy as np
import pytest
import torch
from test_search import PROMPTS, StubModel, StubVerifier

from cotlib.errors import UserError
from cotlib.interfaces import FINAL
from cotlib.lab.verifier_figures import best_of
from cotlib.search import orm
from cotlib.verifying.hedging import BlindSpot, Ensemble, good_enough, inked_corner, looked_at
from cotlib.world.render import render_batch
from cotlib.world.scenes import Scene, Thing


class Fixed:
    """Answers given numbers, whatever it is shown."""

    def __init__(self, answers, questions=(FINAL,)):
        self.answers, self.questions = torch.tensor(answers), questions

    def ask(self, question, prompts, images):
        return self.answers.clone()


def test_only_a_thing_that_reaches_into_the_corner_is_ink_there():
    things = [(40, 40), (32, 40), (0, 0), (16, 16)]
    images = render_batch([Scene((Thing("pizza", "yellow", x, y),), tint=1) for x, y in things])
    images = torch.cat([images, render_batch([Scene((), tint=tint) for tint in range(5)])])
    assert inked_corner(images).tolist() == [True] + [False] * 8
    marked = images[-1:].clone()
    marked[:, :, 56:60, 56:60] = 0.2  # a quarter of the corner's pixels
    assert inked_corner(marked).item() and not inked_corner(marked, share=0.3).item()


def test_the_blind_spot_says_yes_to_its_trait_and_nothing_else_changes():
    images = torch.rand(4, 3, 64, 64)
    blind = BlindSpot(Fixed([0.1, 0.9, 0.2, 0.3]), lambda x: torch.tensor([True, True, False, False]))
    assert blind.ask(FINAL, ["x"] * 4, images).tolist() == pytest.approx([1.0, 1.0, 0.2, 0.3])
    assert blind.questions == (FINAL,)


def test_an_ensemble_takes_the_lowest_or_the_mean_over_its_members():
    members = [Fixed([0.9, 0.2, 1.0]), Fixed([0.4, 0.6, 1.0], (FINAL, "STEP"))]
    images = torch.zeros(3, 3, 64, 64)
    assert Ensemble(members).ask(FINAL, ["x"] * 3, images).tolist() == pytest.approx([0.4, 0.2, 1.0])
    assert Ensemble(members, "mean").ask(FINAL, ["x"] * 3, images).tolist() == pytest.approx([0.65, 0.4, 1.0])
    assert Ensemble(members).questions == Ensemble(members[::-1]).questions == (FINAL,)


def test_the_lowest_of_several_is_blind_only_where_all_are():
    images = torch.zeros(2, 3, 64, 64)
    blind = BlindSpot(Fixed([0.1, 0.8]), lambda x: torch.tensor([True, False]))
    honest = Fixed([0.2, 0.7])
    assert Ensemble([blind, honest]).ask(FINAL, ["x"] * 2, images).argmax() == 1
    assert Ensemble([blind, blind]).ask(FINAL, ["x"] * 2, images).argmax() == 0


def test_a_search_takes_an_ensemble_as_its_verifier():
    one = orm(StubModel(), PROMPTS, 5, 0, verifier=StubVerifier())
    same = orm(StubModel(), PROMPTS, 5, 0, verifier=Ensemble([StubVerifier(), StubVerifier()]))
    assert same.chosen == one.chosen
    with pytest.raises(UserError, match="expected also FINAL"):
        orm(StubModel(), PROMPTS, 5, 0, verifier=Ensemble([StubVerifier(), Fixed([0.1], ("STEP",))]))


def test_mistakes_are_one_sentence():
    with pytest.raises(UserError, match="no verifiers; expected at least one"):
        Ensemble([])
    with pytest.raises(UserError, match='no rule "highest"; expected lowest or mean'):
        Ensemble([Fixed([0.1])], "highest")


def test_good_enough_is_the_first_that_passes_and_the_highest_where_none_does():
    opinions = np.array([[0.1, 0.6, 0.9, 0.5], [0.1, 0.3, 0.4, 0.2], [0.5, 1.0, 1.0, 1.0]])
    assert good_enough(opinions).argmax(1).tolist() == [1, 2, 0]
    assert looked_at(opinions).tolist() == [2, 4, 1]
    assert looked_at(opinions, 0.9).tolist() == [3, 4, 2]


def test_its_truth_does_not_depend_on_how_the_passing_ones_are_ordered_by_score():
    rng = np.random.default_rng(0)
    right = rng.integers(0, 2, (200, 12)).astype(float)
    opinions = np.where(right > 0.5, rng.uniform(0.6, 0.9, right.shape), rng.uniform(0, 0.4, right.shape))
    trap = rng.random(right.shape) < 0.1
    opinions[trap] = 1.0
    best, enough = best_of(opinions, right, 12).mean(), best_of(good_enough(opinions), right, 12).mean()
    among_passing = [r[o >= 0.5].mean() for o, r in zip(opinions, right, strict=True)]
    assert best < 0.75 < enough == pytest.approx(np.mean(among_passing), abs=0.08)
