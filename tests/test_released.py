"""The released code's rules over the several pictures of a prompt, and where they are found by name."""

import pytest
import torch
from test_search import STEPS, StubModel, StubVerifier, constant

from cotlib.decoding import masked_rounds
from cotlib.errors import UserError
from cotlib.evaluation import Plan, search, staff
from cotlib.interfaces import CLARITY, FINAL, POTENTIAL
from cotlib.search import orm, parm
from cotlib.search.ledger import Ledger
from cotlib.search.released import RELEASED, released_orm, released_parm, released_single


def codes(outcome) -> torch.Tensor:
    return torch.stack([path.codes for path in outcome.paths[0]])


def drawn(paths, temperature):
    """Codes of single paths, drawn by the loop alone."""
    rows = []
    for path in paths:
        for step in masked_rounds(StubModel(), ["x"], [path], 0, temperature=temperature):
            row = step.codes
        rows.append(row)
    return torch.cat(rows)


def everything_kept():
    return StubVerifier(CLARITY=constant(1), POTENTIAL=constant(1))


@pytest.mark.parametrize("name", RELEASED)
def test_only_the_first_path_of_the_first_picture_has_noise(name):
    given = {"single": {}, "parm": {"verifier": everything_kept()}}.get(name, {"verifier": StubVerifier()})
    first = codes(RELEASED[name](StubModel(), ["x"], 4, 0, **given))
    later = codes(RELEASED[name](StubModel(), ["x"], 4, 0, fresh=False, **given))
    cold = drawn(range(4), 0.0)
    assert torch.equal(first[0], drawn([0], 1.0)[0]) and torch.equal(first[1:], cold[1:])
    assert torch.equal(later, cold) and not torch.equal(first[0], later[0])


def test_they_are_what_the_strategies_do_when_asked_to_be_compatible():
    def both(ours, theirs, verifier):
        one = ours(StubModel(), ["x", "yy"], 3, 5, verifier=verifier(), paper_compatible=True)
        two = theirs(StubModel(), ["x", "yy"], 3, 5, verifier=verifier())
        same = all(
            torch.equal(a.codes, b.codes)
            for r, s in zip(one.paths, two.paths, strict=True)
            for a, b in zip(r, s, strict=True)
        )
        return (
            same and (one.chosen, one.ties) == (two.chosen, two.ties) and torch.equal(one.images, two.images)
        )

    assert both(orm, released_orm, StubVerifier) and both(parm, released_parm, everything_kept)


def test_the_baseline_decodes_one_picture_and_asks_nobody():
    ledger = Ledger()
    outcome = released_single(StubModel(), ["x", "yy"], 3, 0, ledger)
    assert outcome.chosen == [0, 0] and ledger.decodes == 2 and not ledger.verifier_calls
    one_path_of_each = codes(released_single(StubModel(), ["x"], 3, 0))
    assert torch.equal(codes(outcome), one_path_of_each)


def test_a_verifier_that_lacks_a_question_is_refused_before_anything_is_drawn():
    ledger = Ledger()
    lacking = StubVerifier()
    lacking.questions = (CLARITY, POTENTIAL)
    for run in (released_orm, released_parm):
        with pytest.raises(UserError, match=f"expected also {FINAL}"):
            run(StubModel(), ["x"], 2, 0, ledger, verifier=lacking)
    assert ledger.generator_token_passes == 0


def test_a_plan_by_the_released_rules(monkeypatch):
    """The second seed is the second picture of the prompt; verifiers of pictograms are read through the filters."""
    plan = Plan("orm", 3, (7, 8), paper_compatible=True)
    asked = []
    monkeypatch.setitem(
        RELEASED, "orm", lambda *a, **k: asked.append((a[3], k["fresh"])) or released_orm(*a, **k)
    )
    who = type("Who", (), {"verifier": StubVerifier()})
    for seed in plan.seeds:
        search(StubModel(), None, {"prompt": "x"}, plan, seed, who)
    assert asked == [(7, True), (8, False)]
    with pytest.raises(
        UserError, match="prm is not in the paper's released code; .* single, orm-zs, orm, parm"
    ):
        Plan("prm", 3, paper_compatible=True)


def test_verifiers_of_pictograms_saturate_then():
    exact, filtered = (staff("orm", paper_compatible=released).verifier for released in (False, True))
    images = torch.rand(12, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    prompts = ["a photo of a red dog"] * 12
    p, q = (verifier.ask(FINAL, prompts, images) for verifier in (exact, filtered))
    between = (p > 0.2) & (p < 0.8)
    assert torch.equal(q[p >= 0.8], torch.ones_like(q[p >= 0.8]))
    assert torch.equal(q[p <= 0.2], torch.zeros_like(q[p <= 0.2]))
    assert torch.allclose(q[between], p[between], atol=1e-6) and bool((p <= 0.2).any())


def test_steps_are_passed_on():
    assert STEPS != 2
    ledger = Ledger()
    released_single(StubModel(), ["x"], 1, 0, ledger, 2)
    assert ledger.generator_token_passes == 2 * 2 * StubModel().grid[0] * StubModel().grid[1]
