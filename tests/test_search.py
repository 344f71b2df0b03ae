"""The strategies over a model of tables and verifiers whose answers follow from the picture: every choice can be
checked by hand, every cost by a closed form and by the model's own count.

Two small tests at the end use the shipped generator.
"""

import json
from types import SimpleNamespace

import pytest
import torch

from cotlib import load
from cotlib.assets import data_dir
from cotlib.decoding import masked_rounds, run_steps
from cotlib.decoding.schedule import temperatures
from cotlib.errors import UserError
from cotlib.interfaces import CLARITY, FINAL, POTENTIAL, REFLECT, STEP, Path, Reflection, Verdict
from cotlib.search import (
    STRATEGIES,
    Ledger,
    correct_chosen,
    decode_all,
    halving,
    logprob,
    oracle,
    orm,
    parm,
    parm_plus_plus,
    prm,
    redraw,
    single,
    tree,
)
from cotlib.search.halving import halvings, upper_half
from cotlib.search.logprob import LOG_P
from cotlib.search.oracle import JUDGE
from cotlib.search.parm_plus_plus import FAULTY
from cotlib.search.prm import branch_rounds
from cotlib.search.released import NEVER_CLEAR, NO_WORD, stored_no

N, V, STEPS = 12, 7, 4
PROMPTS = ["x", "yy", "zzz"]
ALL = (FINAL, STEP, CLARITY, POTENTIAL, REFLECT)


class StubModel:
    """An `ImageTokenModel` of tables. Unless `blind`, a row's logits also depend on what is visible in it, so a row
    that got another one's codes would go on differently."""

    grid, codebook_size, mask_id, device = (3, 4), V, V, "cpu"

    def __init__(self, order: str = "masked", blind: bool = False):
        self.config = SimpleNamespace(order=order, steps=STEPS, guidance=1.0)
        self.blind, self.passes = blind, 0  # image tokens run, one branch

    def prefix(self, prompts, guidance=None):
        tables = [torch.randn(N, V, generator=torch.Generator().manual_seed(len(p))) for p in prompts]
        return Tables(torch.stack(tables))

    def logits(self, prefix, codes, rows):
        self.passes += codes.numel()
        tables = prefix.tables.expand(len(codes), -1, -1)
        return (tables if self.blind else tables + self.mood(codes)[:, None, :])[rows]

    def mood(self, codes):
        visible = codes.masked_fill(codes == self.mask_id, 0).float() @ torch.arange(1.0, N + 1)  # [B]
        return torch.sin(visible[:, None] * torch.arange(1.0, V + 1))

    def start_cache(self, prefix, rows):
        return prefix

    def next_logits(self, cache, before, place):
        self.passes += len(before)
        logits = cache.tables[:, place]
        return logits if self.blind else logits + torch.sin(before[:, None] * torch.arange(1.0, V + 1))

    def decode(self, codes):
        """The codes themselves, 0..1, in the first channel."""
        picture = (codes.float() / (V - 1)).view(-1, 1, *self.grid)
        return torch.cat([picture, torch.zeros(len(codes), 2, *self.grid)], dim=1)


class Tables:
    """A prefix (and a cache) that is just the logits of each row, [P, N, V]."""

    def __init__(self, tables):
        self.tables = tables

    def select(self, index):
        return Tables(self.tables[index])


class StubVerifier:
    """Answers by a fixed random projection of picture and prompt, one for each question, or by a given function."""

    def __init__(self, questions=ALL, ask_from=None, sharp=6.0, **answers):
        self.questions, self.sharp, self.answers, self.log = questions, sharp, answers, []
        if ask_from is not None:
            self.ask_from = ask_from

    def ask(self, question, prompts, images):
        assert len(prompts) == len(images)
        self.log.append((question, len(images)))
        if question in self.answers:
            return torch.as_tensor(
                [float(self.answers[question](p, i)) for p, i in zip(prompts, images, strict=True)]
            )
        weights = torch.randn(N, generator=torch.Generator().manual_seed(ALL.index(question)))
        extra = torch.tensor([float(len(p)) for p in prompts])
        return torch.sigmoid(self.sharp * torch.sin(3 * (images[:, 0].flatten(1) @ weights) + extra))

    def reflect(self, prompts, images):
        self.log.append((REFLECT, len(images)))
        return [self.answers["reflect"](p, i) for p, i in zip(prompts, images, strict=True)]


def constant(value):
    return lambda prompt, image: value


def same_first_code(image):
    """A rule for judges and detectors: whether the first token has an even code."""
    return round(float(image[0, 0, 0]) * (V - 1)) % 2 == 0


def stub_judge(metadatas, images):
    assert len(metadatas) == len(images)
    return [Verdict(same_first_code(image)) for image in images]


def best_of_n(prompts=PROMPTS, n=5, seed=0, order="masked"):
    """(codes [P, n, N], pictures [P, n, 3, 3, 4]) of every path, drawn by the loop alone."""
    model = StubModel(order)
    rows = [(p, k) for p in prompts for k in range(n)]
    for step in run_steps(model, [p for p, _ in rows], [k for _, k in rows], seed):
        codes = step.codes
    return codes.unflatten(0, (len(prompts), n)), model.decode(codes).unflatten(0, (len(prompts), n))


def all_codes(outcome):
    return torch.stack([torch.stack([path.codes for path in own]) for own in outcome.paths])


# ----- what all have in common -------------------------------------------------------------------------------------


def needs(name):
    """The keyword arguments a strategy of the registry needs."""
    entry, options = STRATEGIES[name], {}
    if entry.verifier:
        options["verifier"] = StubVerifier(reflect=lambda p, i: Reflection(same_first_code(i), "bad"))
    if entry.judge:
        options |= {"judge": stub_judge, "metadatas": [{"prompt": p} for p in PROMPTS]}
    return options


def test_the_registry_names_the_command_lines_strategies_and_what_they_need():
    assert list(STRATEGIES) == [
        "single",
        "logprob",
        "orm-zs",
        "orm",
        "prm-zs",
        "prm",
        "parm",
        "halving",
        "parm++",
        "oracle",
    ]
    asking = {name: entry.verifier for name, entry in STRATEGIES.items() if entry.verifier}
    assert asking == {"orm-zs": "zero-shot", "orm": "orm", "prm-zs": "zero-shot", "prm": "prm", "parm": "parm",
                      "halving": "parm", "parm++": "parm++"}  # fmt: skip
    assert [name for name, entry in STRATEGIES.items() if entry.judge] == ["oracle"]


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_strategy_hands_over_one_picture_a_prompt_and_counts_what_the_model_counts(name):
    model, ledger = StubModel(), Ledger()
    outcome = STRATEGIES[name](model, PROMPTS, 4, 1, ledger, steps=None, guidance=None, **needs(name))
    assert outcome.images.shape == (3, 3, 3, 4) and outcome.ledger is ledger
    assert [len(own) for own in outcome.paths] == [4, 4, 4] and all(0 <= k < 4 for k in outcome.chosen)
    assert ledger.generator_token_passes == 2 * model.passes > 0
    assert ledger.seconds == pytest.approx(sum(ledger.seconds_by.values())) and ledger.seconds > 0
    codes = torch.stack([own[k].codes for own, k in zip(outcome.paths, outcome.chosen, strict=True)])
    if name != "parm++":
        assert torch.equal(outcome.images, model.decode(codes))
    json.dumps([tree(outcome, i) for i in range(3)], allow_nan=False)


@pytest.mark.parametrize("name", STRATEGIES)
def test_prompts_together_are_as_each_alone(name):
    together = STRATEGIES[name](StubModel(), PROMPTS, 4, 2, **needs(name))
    for i, prompt in enumerate(PROMPTS):
        options = needs(name) | ({"metadatas": [{"prompt": prompt}]} if STRATEGIES[name].judge else {})
        alone = STRATEGIES[name](StubModel(), [prompt], 4, 2, **options)
        assert torch.equal(alone.images[0], together.images[i])
        assert alone.chosen[0] == together.chosen[i] and tree(alone, 0) == tree(together, i)


@pytest.mark.parametrize("name", STRATEGIES)
@pytest.mark.parametrize("n", [0, -2, 1.5])
def test_a_number_of_candidates_that_is_none_is_refused(name, n):
    model = StubModel()
    with pytest.raises(UserError, match=f"n is {n}; expected a whole number of at least 1"):
        STRATEGIES[name](model, PROMPTS, n, **needs(name))
    assert model.passes == 0


@pytest.mark.parametrize("name, lacking", [
    ("orm", FINAL), ("orm-zs", FINAL), ("prm", STEP), ("prm-zs", FINAL), ("parm", CLARITY), ("parm", POTENTIAL),
    ("parm", FINAL), ("halving", POTENTIAL), ("halving", FINAL), ("parm++", REFLECT), ("parm++", CLARITY),
])  # fmt: skip
def test_a_verifier_that_lacks_a_question_is_refused_before_anything_is_drawn(name, lacking):
    model, verifier = StubModel(), StubVerifier(tuple(q for q in ALL if q != lacking))
    with pytest.raises(UserError, match=f"expected also {lacking}; take weights"):
        STRATEGIES[name](model, PROMPTS, 4, verifier=verifier)
    with pytest.raises(UserError, match="there is no verifier"):
        STRATEGIES[name](model, PROMPTS, 4)
    assert model.passes == 0 and verifier.log == []


@pytest.mark.parametrize("answer", [float("nan"), 1.2, -0.1])
def test_an_answer_that_is_no_probability_is_refused(answer):
    with pytest.raises(UserError, match='to "FINAL"; expected a probability'):
        orm(StubModel(), ["x"], 3, verifier=StubVerifier(FINAL=constant(answer)))


@pytest.mark.parametrize("strategy", ["prm", "parm", "halving", "parm++", "prm-zs"])
def test_strategies_that_look_at_unfinished_pictures_refuse_raster_order(strategy):
    model = StubModel("raster")
    with pytest.raises(UserError, match="raster order does not have; use masked order"):
        STRATEGIES[strategy](model, PROMPTS, 2, **needs(strategy))
    with pytest.raises(UserError, match="raster order does not have"):
        orm(model, PROMPTS, 2, verifier=StubVerifier(), paper_compatible=True)
    assert model.passes == 0


# ----- ledger ------------------------------------------------------------------------------------------------------


def test_the_ledger_adds_up_and_splits_its_seconds_only_where_somebody_was_asked():
    a, b = Ledger(10, seconds=1.0, seconds_by={"generator": 1.0}), Ledger()
    b.add(a)
    assert b.as_dict() == {"generator_token_passes": 10, "verifier_calls": {}, "decodes": 0, "seconds": 1.0}
    b.add(Ledger(1, {FINAL: 3}, 2, 0.5, {"verifier": 0.25, "generator": 0.25}))
    assert b.as_dict() == {"generator_token_passes": 11, "verifier_calls": {FINAL: 3}, "decodes": 2, "seconds": 1.5,
                           "seconds_by": {"generator": 1.25, "verifier": 0.25}}  # fmt: skip
    again = Ledger()
    again.add(
        Ledger(**json.loads(json.dumps(b.as_dict())))
    )  # as `cotlib.evaluation` does with a resumed result
    assert again.as_dict() == b.as_dict()


# ----- log-probability ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["masked", "raster"])
def test_logprob_takes_the_likeliest_picture(order):
    """Where logits depend on the place alone, a code's log-probability is the same whenever it is drawn."""
    model = StubModel(order, blind=True)
    outcome = logprob(model, PROMPTS, 6, seed=3)
    tables = torch.log_softmax(model.prefix(PROMPTS).tables, -1)  # [P, N, V]
    exact = torch.stack([tables[i].gather(1, codes.T).mean(0) for i, codes in enumerate(all_codes(outcome))])
    found = torch.tensor([[path.scores[LOG_P][0] for path in own] for own in outcome.paths])
    assert torch.allclose(found, exact)
    assert outcome.chosen == exact.argmax(1).tolist() and outcome.ties == [1, 1, 1]
    assert outcome.ledger.decodes == 3 and not outcome.ledger.verifier_calls


@pytest.mark.parametrize("order", ["masked", "raster"])
def test_a_steps_log_probability_is_its_confidence_without_the_noise(order):
    unknown = torch.ones(2, N, dtype=torch.bool)
    for step in run_steps(
        StubModel(order), ["x", "yy"], [0, 1], 0, temperature=1.0 if order == "raster" else 0.0
    ):
        drawn = unknown if order == "masked" else unknown & ~step.masked
        assert torch.equal(step.log_p[drawn], step.confidence[drawn]) and (step.log_p[drawn] < 0).all()
        assert (step.log_p[~drawn] == 0).all()
        unknown = step.masked


# ----- ORM ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["masked", "raster"])
def test_orm_takes_the_surest_yes(order):
    codes, pictures = best_of_n(order=order)
    outcome = orm(StubModel(order), PROMPTS, 5, verifier=StubVerifier())
    texts = [p for p in PROMPTS for _ in range(5)]
    odds = StubVerifier().ask(FINAL, texts, pictures.flatten(0, 1)).view(3, 5)
    assert torch.equal(all_codes(outcome), codes)
    assert outcome.chosen == odds.argmax(1).tolist() and len(set(outcome.chosen)) > 1
    assert torch.equal(outcome.images, pictures[torch.arange(3), odds.argmax(1)])
    passes = 3 * 5 * N if order == "raster" else 3 * N + (STEPS - 1) * 3 * 5 * N
    assert outcome.ledger.as_dict() | {"seconds": 0, "seconds_by": 0} == {
        "generator_token_passes": 2 * passes, "verifier_calls": {FINAL: 15}, "decodes": 15, "seconds": 0,
        "seconds_by": 0}  # fmt: skip


def test_orm_settles_ties_by_path_number_and_reports_them():
    odds = iter([0.2, 0.9, 0.1, 0.9, 0.9, 0.3, 0.3, 0.3, 0.3, 0.3])
    outcome = orm(StubModel(), ["x", "yy"], 5, verifier=StubVerifier(FINAL=lambda p, i: next(odds)))
    assert outcome.chosen == [1, 0] and outcome.ties == [3, 5]


def test_pictures_are_shown_in_batches_over_paths_and_prompts():
    verifier = StubVerifier()
    orm(StubModel(), PROMPTS, 30, verifier=verifier)
    assert verifier.log == [(FINAL, 64), (FINAL, 26)]


# ----- the oracle --------------------------------------------------------------------------------------------------


def test_the_oracle_solves_what_any_path_solves():
    prompts = ["p" * k for k in range(1, 12)]
    _, pictures = best_of_n(prompts, 2)
    outcome = oracle(StubModel(), prompts, 2, judge=stub_judge, metadatas=[{}] * len(prompts))
    right = [[same_first_code(image) for image in own] for own in pictures]
    assert [same_first_code(image) for image in outcome.images] == [any(own) for own in right]
    assert outcome.chosen == [own.index(True) if any(own) else 0 for own in right]
    assert {any(own) for own in right} == {True, False} and outcome.ledger.verifier_calls == {JUDGE: 22}


def test_the_oracle_needs_a_judge_and_the_prompts_metadata():
    for options in ({}, {"judge": stub_judge}, {"judge": stub_judge, "metadatas": [{}]}):
        with pytest.raises(UserError, match="expected a judge and one metadata for each"):
            oracle(StubModel(), PROMPTS, 2, **options)


# ----- PRM ---------------------------------------------------------------------------------------------------------


def test_prm_keeps_the_surest_branch_of_every_step():
    outcome = prm(StubModel(), PROMPTS, 5, seed=1, verifier=StubVerifier())
    for i, own in enumerate(outcome.paths):
        scores = torch.tensor([path.scores[STEP] for path in own])  # [K, S]
        kept = [[path.number for path in own if s in path.kept] for s in range(STEPS)]
        assert kept == [[k] for k in scores.argmax(0).tolist()] and outcome.chosen[i] == kept[-1][0]
        assert all(path.asked[STEP] == list(range(STEPS)) for path in own)
    assert len({path.number for own in outcome.paths for path in own if path.kept}) > 2
    ledger = outcome.ledger
    assert (
        ledger.generator_token_passes == 2 * STEPS * 3 * N
    )  # one row a prompt, whatever the number of branches
    assert ledger.verifier_calls == {STEP: STEPS * 3 * 5} and ledger.decodes == STEPS * 3 * 5


def test_branches_go_out_from_the_one_kept_state():
    loop = branch_rounds(StubModel(), ["x", "yy"], 4, 0, None, None)
    step, picks = next(loop), iter(([3, 1], [0, 2], [2, 2]))
    for choice in picks:
        rows = [choice[0], 4 + choice[1]]
        state, fixed = step.codes[rows].repeat_interleave(4, 0), ~step.masked[rows].repeat_interleave(4, 0)
        step = loop.send(choice)
        assert torch.equal(step.codes[fixed], state[fixed])
        assert len({tuple(codes) for codes in step.codes.tolist()}) > 2  # and they differ elsewhere
    assert not step.masked.any()


def test_prm_that_always_keeps_branch_0_draws_path_0():
    codes, _ = best_of_n(n=1)
    outcome = prm(StubModel(), PROMPTS, 5, verifier=StubVerifier(STEP=constant(0.5)))  # all equal: the first
    assert (
        torch.equal(all_codes(outcome)[:, 0], codes[:, 0])
        and outcome.chosen == [0] * 3
        and outcome.ties == [5] * 3
    )
    alone = prm(StubModel(), PROMPTS, 1, verifier=StubVerifier())
    assert torch.equal(all_codes(alone), codes)


def test_zero_shot_prm_asks_of_unfinished_pictures_what_orm_asks_of_finished_ones():
    verifier = StubVerifier((FINAL,))
    STRATEGIES["prm-zs"](StubModel(), ["x"], 3, verifier=verifier)
    assert verifier.log == [(FINAL, 3)] * STEPS


# ----- PARM --------------------------------------------------------------------------------------------------------


def expected_parm(prompts, n, seed, ask_from=0, clear=0.5, promising=0.5):
    """PARM written out over finished best-of-N runs: {(prompt, path): record} of what was asked and when it stopped."""
    verifier, model, records = StubVerifier(), StubModel(), {}
    for prompt in prompts:
        for k in range(n):
            record = records[prompt, k] = {"clarity": {}, "potential": {}, "stopped": None}
            for step in masked_rounds(StubModel(), [prompt], [k], seed):
                if step.index < ask_from or record["potential"]:
                    continue
                image = model.decode(step.codes)
                record["clarity"][step.index] = sure = float(verifier.ask(CLARITY, [prompt], image))
                if sure >= clear:
                    record["potential"][step.index] = odds = float(verifier.ask(POTENTIAL, [prompt], image))
                    record["stopped"] = step.index if odds < promising else None
            record["codes"] = step.codes[0]
    return records


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("ask_from", [0, 2])
def test_parm_asks_stops_and_chooses_as_written_out_by_hand(seed, ask_from):
    n, model = 6, StubModel()
    outcome = parm(model, PROMPTS, n, seed, verifier=StubVerifier(), ask_from=ask_from)
    records = expected_parm(PROMPTS, n, seed, ask_from)
    again = finals = 0
    for i, prompt in enumerate(PROMPTS):
        mine = [records[prompt, k] for k in range(n)]
        left = [k for k, r in enumerate(mine) if r["potential"] and r["stopped"] is None]
        for entry, record in zip(tree(outcome, i), mine, strict=True):
            for key in ("clarity", "potential"):
                assert entry[key] == pytest.approx(record[key], abs=1e-6)
            assert entry["stopped"] == record["stopped"]
            assert (entry["final"] is not None) == (entry["path"] in left)
        for k in left:  # bit-identical to the same paths in best-of-N
            assert torch.equal(outcome.paths[i][k].codes, mine[k]["codes"])
        if left:
            odds = {k: outcome.paths[i][k].scores[FINAL][0] for k in left}
        else:  # the most promising of the stopped ones, drawn again unless it was finished
            odds = {k: max(r["potential"].values()) for k, r in enumerate(mine) if r["potential"]}
            again += mine[max(odds, key=odds.get)]["stopped"] < STEPS - 1
        finals += len(left)
        assert outcome.chosen[i] == max(odds, key=odds.get)
        assert torch.equal(outcome.images[i], model.decode(mine[outcome.chosen[i]]["codes"][None])[0])
    # closed form of the cost: first round once per prompt, then every path to the step it stopped at
    alive = [sum(r["stopped"] is None or r["stopped"] >= s for r in records.values()) for s in range(STEPS)]
    assert (
        outcome.ledger.generator_token_passes
        == 2 * N * (3 + sum(alive[1:]) + STEPS * again)
        == 2 * model.passes
    )
    assert sum(alive) < STEPS * 3 * n  # something was saved
    calls = {
        question: sum(len(r[question.lower()]) for r in records.values()) for question in (CLARITY, POTENTIAL)
    }
    assert outcome.ledger.verifier_calls == calls | {FINAL: finals}
    assert outcome.ledger.decodes >= calls[CLARITY] + finals


def test_a_stopped_path_keeps_the_guess_it_stopped_at():
    outcome = parm(StubModel(), ["x"], 6, verifier=StubVerifier())
    whole = list(masked_rounds(StubModel(), ["x"] * 6, list(range(6)), 0))
    stopped = [path for path in outcome.paths[0] if path.stopped is not None]
    assert stopped
    for path in stopped:
        assert torch.equal(path.codes, whole[path.stopped].codes[path.number])
    assert decode_all(StubModel(), outcome).shape == (1, 6, 3, 3, 4)


def test_clarity_is_asked_from_the_step_the_verifier_or_the_caller_says():
    def clarity_steps(**options):
        outcome = parm(StubModel(), ["x"], 2, verifier=StubVerifier(CLARITY=constant(0.0), **options))
        return outcome.paths[0][0].asked.get(CLARITY, []), outcome.ledger.verifier_calls[CLARITY]

    assert clarity_steps() == ([0, 1, 2, 3], 8)
    assert clarity_steps(ask_from=2) == ([2, 3], 4)
    assert clarity_steps(ask_from=99) == ([3], 2)  # at the latest at the last step
    own = parm(StubModel(), ["x"], 2, verifier=StubVerifier(CLARITY=constant(0.0), ask_from=2), ask_from=0)
    assert own.ledger.verifier_calls[CLARITY] == 8
    for wrong in (-1, STEPS):
        with pytest.raises(UserError, match=f"ask_from is {wrong}; expected a step from 0 to 3"):
            parm(StubModel(), ["x"], 2, verifier=StubVerifier(), ask_from=wrong)


def test_if_no_path_is_ever_clear_final_picks_among_all():
    verifier = StubVerifier()
    outcome, plain = parm(StubModel(), PROMPTS, 5, verifier=verifier, clear=1.1), orm(
        StubModel(), PROMPTS, 5, verifier=StubVerifier()
    )  # fmt: skip
    assert outcome.chosen == plain.chosen and torch.equal(outcome.images, plain.images)
    assert POTENTIAL not in outcome.ledger.verifier_calls
    assert outcome.ledger.generator_token_passes == plain.ledger.generator_token_passes


def test_if_all_paths_stopped_the_most_promising_is_drawn_to_its_end_and_paid_for():
    codes, pictures = best_of_n()
    model = StubModel()
    outcome = parm(model, PROMPTS, 5, verifier=StubVerifier(CLARITY=constant(1)), promising=1.1)
    for i, own in enumerate(outcome.paths):
        potential = [path.scores[POTENTIAL][0] for path in own]
        assert all(path.stopped == 0 and path.asked[POTENTIAL] == [0] for path in own)
        k = outcome.chosen[i] = potential.index(max(potential))
        assert torch.equal(own[k].codes, codes[i, k]) and torch.equal(outcome.images[i], pictures[i, k])
    again = N * (3 + (STEPS - 1) * 3)  # one path a prompt, from its start
    assert outcome.ledger.generator_token_passes == 2 * (N * 3 + again) == 2 * model.passes
    assert FINAL not in outcome.ledger.verifier_calls and outcome.ledger.decodes == 15 + 3


def test_a_path_stopped_at_the_last_step_is_finished_and_not_drawn_again():
    codes, _ = best_of_n()
    outcome = parm(
        StubModel(), PROMPTS, 5, verifier=StubVerifier(CLARITY=constant(1), ask_from=3), promising=1.1
    )
    assert torch.equal(all_codes(outcome), codes) and all(
        p.stopped == 3 for own in outcome.paths for p in own
    )
    assert outcome.ledger.generator_token_passes == 2 * N * (3 + (STEPS - 1) * 15)


def test_one_prompt_may_have_nothing_left_while_others_do():
    verifier = StubVerifier(CLARITY=constant(1), POTENTIAL=lambda prompt, image: prompt != "yy")
    outcome = parm(StubModel(), PROMPTS, 4, verifier=verifier)
    assert [[p.stopped for p in own] for own in outcome.paths] == [[None] * 4, [0] * 4, [None] * 4]
    codes, pictures = best_of_n(n=4)
    assert outcome.chosen[1] == 0 and torch.equal(outcome.images[1], pictures[1, 0])
    assert outcome.ledger.verifier_calls[FINAL] == 8


# ----- PARM++ ------------------------------------------------------------------------------------------------------


def script(*verdicts):
    """A reflecting verifier that accepts or refuses in the given order, over all pictures it is shown."""
    answers = iter(verdicts)
    return StubVerifier(reflect=lambda p, i: Reflection(next(answers), f"wrong {p}", faults=(p,)))


class Correction:
    """A correction that adds 1 to every code and remembers how it was called."""

    def __init__(self):
        self.calls = []

    def __call__(self, model, prompts, codes, reflections, seed, round, *, ledger, steps, guidance):
        self.calls.append(
            (round, list(prompts), [r.words for r in reflections], [r.faults for r in reflections])
        )
        return (codes + 1) % V


# ----- halving -----------------------------------------------------------------------------------------------------


def test_halving_keeps_the_upper_half_as_written_out_by_hand():
    n, model, verifier = 6, StubModel(), StubVerifier()
    outcome = halving(model, PROMPTS, n, 3, verifier=verifier)
    assert halvings(STEPS) == [1, 2]
    for i, prompt in enumerate(PROMPTS):
        whole = list(masked_rounds(StubModel(), [prompt] * n, list(range(n)), 3))
        left = list(range(n))
        for step in halvings(STEPS):
            odds = verifier.ask(POTENTIAL, [prompt] * n, model.decode(whole[step].codes)).tolist()
            stays = sorted(left, key=lambda k, odds=odds: -odds[k])[: (len(left) + 1) // 2]
            assert {k for k in left if outcome.paths[i][k].stopped == step} == set(left) - set(stays)
            left = sorted(stays)
        final = verifier.ask(FINAL, [prompt] * n, model.decode(whole[-1].codes)).tolist()
        assert len(left) == 2 and outcome.chosen[i] == max(left, key=lambda k, final=final: final[k])
        assert torch.equal(outcome.paths[i][outcome.chosen[i]].codes, whole[-1].codes[outcome.chosen[i]])
    alive = [1, n, 3, 2]  # rows a prompt by step: the first is shared, 6 -> 3 -> 2
    assert outcome.ledger.generator_token_passes == 2 * N * 3 * sum(alive) == 2 * model.passes
    assert outcome.ledger.verifier_calls == {POTENTIAL: 3 * (n + 3), FINAL: 3 * 2}


def test_halving_halves_at_half_and_three_quarters_and_never_at_the_end():
    assert [halvings(steps) for steps in (1, 2, 3, 4, 8, 18)] == [[], [0], [0, 1], [1, 2], [3, 5], [8, 12]]
    assert upper_half([0.1, 0.5, 0.5, 0.2, 0.5]) == [1, 2, 4] and upper_half([0.5, 0.5]) == [0]
    verifier = StubVerifier()
    assert halving(StubModel(), PROMPTS, 1, verifier=verifier).chosen == [0, 0, 0]
    assert [question for question, _ in verifier.log] == [
        FINAL
    ]  # one path a prompt is not asked whether it may stay


def test_reflection_stops_at_the_first_accepted_picture():
    first, correction = parm(StubModel(), ["x"], 4, verifier=StubVerifier()), Correction()
    accepted = parm_plus_plus(StubModel(), ["x"], 4, verifier=script(True), correct=correction)
    assert torch.equal(accepted.images, first.images) and correction.calls == []
    assert [r.reflection.accepted for r in accepted.rounds[0]] == [True]
    late = parm_plus_plus(StubModel(), ["x"], 4, verifier=script(False, False, True), correct=correction)
    assert [call[0] for call in correction.calls] == [1, 2] and late.ledger.verifier_calls[REFLECT] == 3
    codes = first.paths[0][first.chosen[0]].codes
    assert [r.codes.tolist() for r in late.rounds[0]] == [((codes + k) % V).tolist() for k in range(3)]
    assert torch.equal(late.images, StubModel().decode(late.rounds[0][-1].codes[None]))
    assert late.chosen == first.chosen and late.ledger.decodes == first.ledger.decodes + 2


def test_reflection_ends_after_three_rounds_and_hands_over_the_last_picture():
    correction = Correction()
    outcome = parm_plus_plus(StubModel(), ["x"], 4, verifier=script(*[False] * 9), correct=correction)
    assert [call[0] for call in correction.calls] == [1, 2, 3] and outcome.ledger.verifier_calls[REFLECT] == 3
    assert len(outcome.rounds[0]) == 4 and outcome.rounds[0][-1].reflection is None
    assert torch.equal(outcome.images, StubModel().decode(outcome.rounds[0][-1].codes[None]))


def test_each_prompt_has_its_own_number_of_rounds():
    correction = Correction()
    verdicts = (True, False, False, False, True, True)  # of x, yy, zzz; then of yy, zzz; then of yy
    outcome = parm_plus_plus(StubModel(), PROMPTS, 3, verifier=script(*verdicts), correct=correction)
    assert [call[1] for call in correction.calls] == [["yy", "zzz"], ["yy"]]
    assert [len(rounds) for rounds in outcome.rounds] == [1, 3, 2]
    assert [call[2] for call in correction.calls] == [["wrong yy", "wrong zzz"], ["wrong yy"]]


def test_a_correction_may_be_denied_the_words():
    correction = Correction()
    parm_plus_plus(StubModel(), ["x"], 2, verifier=script(False, True), correct=correction, words=False)
    assert correction.calls == [(1, ["x"], [""], [()])]


def test_redrawing_draws_fresh_paths_at_the_price_of_one_picture_a_round():
    model = StubModel()
    plain = parm(StubModel(), ["x"], 4, verifier=StubVerifier()).ledger.generator_token_passes
    outcome = parm_plus_plus(model, ["x"], 4, verifier=script(False, False, False))
    assert outcome.ledger.generator_token_passes == plain + 3 * 2 * STEPS * N == 2 * model.passes
    drawn = [tuple(r.codes.tolist()) for r in outcome.rounds[0][1:]]
    candidates = {tuple(codes) for codes in best_of_n(["x"], 4)[0][0].tolist()}
    assert len(set(drawn)) == 3 and not candidates & set(drawn)
    for number, codes in enumerate(drawn, start=1):
        for step in masked_rounds(StubModel(), ["x"], [-number], 0):
            last = step
        assert tuple(last.codes[0].tolist()) == codes
    told = redraw(model, ["x"], last.codes, [Reflection(False, "other words")], 0, 3, ledger=Ledger())
    assert torch.equal(told, last.codes)  # blind to what was said


def test_the_second_opinion_spares_refused_pictures_without_a_fault():
    asked, correction = [], Correction()

    def detector(prompts, images):
        asked.append(list(prompts))
        return [p == "zzz" for p in prompts]

    outcome = parm_plus_plus(StubModel(), PROMPTS, 3, verifier=script(True, False, False, True), correct=correction,
                             also_faulty=detector)  # fmt: skip
    assert asked == [["yy", "zzz"]] and [call[1] for call in correction.calls] == [["zzz"]]
    assert [[r.spared for r in rounds] for rounds in outcome.rounds] == [[False], [True], [False, False]]
    assert outcome.ledger.verifier_calls[FAULTY] == 2


def test_any_outcome_can_be_reflected_on():
    outcome = single(StubModel(), PROMPTS)
    better = correct_chosen(StubModel(), PROMPTS, outcome, verifier=script(False, True, True, True))
    assert not torch.equal(better.images[0], outcome.images[0])
    assert torch.equal(better.images[1:], outcome.images[1:]) and outcome.rounds == []
    untouched = correct_chosen(StubModel(), PROMPTS, outcome, verifier=script(), rounds=0)
    assert torch.equal(untouched.images, outcome.images)
    with pytest.raises(UserError, match="rounds is -1"):
        correct_chosen(StubModel(), PROMPTS, outcome, verifier=script(), rounds=-1)


# ----- the released code's rules, flaw by flaw ---------------------------------------------------------------------


def finished(paths, **options):
    for step in masked_rounds(StubModel(), ["x"] * len(paths), paths, 0, **options):
        codes = step.codes
    return codes


def test_flaw_1_the_temperature_leaks_into_all_paths_but_the_first():
    assert temperatures(STEPS)[-1] == 0.0  # what is carried over
    leaky = all_codes(orm(StubModel(), ["x"], 5, verifier=StubVerifier(), paper_compatible=True))[0]
    fresh, cold = finished(range(5)), finished(range(5), temperature=0.0)
    assert torch.equal(leaky[0], fresh[0]) and torch.equal(leaky[1:], cold[1:])
    assert not torch.equal(fresh[0], cold[0]) and not torch.equal(fresh[1:], cold[1:])
    assert torch.equal(all_codes(orm(StubModel(), ["x"], 5, verifier=StubVerifier()))[0], fresh)


def top_p(probability, p=0.8):
    """P(yes) read after a filter that keeps the likeliest words up to a total of p, of yes and no."""
    if probability >= p:
        return 1.0
    return 0.0 if 1 - probability >= p else probability


def test_flaw_2_scores_read_after_the_sampling_filters_saturate_and_the_first_wins():
    odds = [0.3, 0.82, 0.99, 0.9]
    ours, theirs = iter(odds), iter(map(top_p, odds))
    exact = orm(StubModel(), ["x"], 4, verifier=StubVerifier(FINAL=lambda p, i: next(ours)))
    released = orm(
        StubModel(), ["x"], 4, verifier=StubVerifier(FINAL=lambda p, i: next(theirs)), paper_compatible=True
    )
    assert (exact.chosen, exact.ties) == ([2], [1])
    assert (released.chosen, released.ties) == ([1], [3])


def test_flaw_3_refused_paths_are_drawn_to_their_ends():
    def verifier():
        return StubVerifier(CLARITY=constant(1), POTENTIAL=lambda p, i: same_first_code(i))

    ours = parm(StubModel(), PROMPTS, 6, verifier=verifier())
    theirs = parm(StubModel(), PROMPTS, 6, verifier=verifier(), paper_compatible=True)
    drawn = (
        3 + (STEPS - 1) * 3 * 6
    )  # rows of best-of-N; the released code cannot share the first round of path 0
    assert theirs.ledger.generator_token_passes == 2 * N * (drawn + 3)
    refused = [path for own in theirs.paths for path in own if path.scores[POTENTIAL] == [0.0]]
    assert refused and all(path.stopped is None and FINAL not in path.scores for path in refused)
    assert ours.ledger.generator_token_passes < theirs.ledger.generator_token_passes / 1.5


@pytest.mark.parametrize("scores, value", [
    ({}, NEVER_CLEAR), ({CLARITY: [0.1]}, NEVER_CLEAR), ({POTENTIAL: [0.25]}, 0.75), ({POTENTIAL: [float("nan")]}, NO_WORD),
])  # fmt: skip
def test_the_released_parm_stores_a_probability_of_no_for_every_path(scores, value):
    assert stored_no(Path(0, scores=scores)) == value


def test_with_none_kept_the_released_parm_takes_the_smallest_stored_no_unasked():
    nan = float("nan")

    def run(clarity, potential):
        clear, odds = iter(clarity), iter(potential)
        verifier = StubVerifier(CLARITY=lambda p, i: next(clear), POTENTIAL=lambda p, i: next(odds))
        outcome = parm(StubModel(), ["x"], 3, verifier=verifier, steps=1, paper_compatible=True)
        assert FINAL not in outcome.ledger.verifier_calls
        return outcome.chosen, outcome.ties

    assert run([1, 1, 1], [0.1, 0.4, 0.2]) == ([1], [1])
    assert run([1, 1, 1], [0.0, 0.0, 0.0]) == ([0], [3])  # saturated: simply the first
    assert run([nan, 0, 1], [nan, 0.0]) == (
        [1],
        [2],
    )  # 50, 1 for never clear, 1: a word missing counts as clear


def test_the_released_parm_picks_by_final_among_the_kept():
    odds = iter([0.3, 0.9, 0.9])
    verifier = StubVerifier(CLARITY=constant(1), POTENTIAL=constant(0.6), FINAL=lambda p, i: next(odds))
    outcome = parm(StubModel(), ["x"], 3, verifier=verifier, paper_compatible=True)
    assert outcome.chosen == [1] and outcome.ties == [2]
    assert outcome.ledger.verifier_calls == {CLARITY: 3, POTENTIAL: 3, FINAL: 3}
    silent = StubVerifier(FINAL=constant(float("nan")))
    assert orm(StubModel(), ["x"], 3, verifier=silent, paper_compatible=True).ties == [3]  # no word scores 0


def test_flaw_8_one_seed_for_every_process_makes_results_depend_on_their_number():
    def released(processes):
        drawn = {}
        for rank in range(processes):
            rng = torch.Generator().manual_seed(1234)  # the same on every rank, whatever its prompts
            for prompt in PROMPTS[rank::processes]:
                drawn[prompt] = float(torch.rand(1, generator=rng))
        return drawn

    def ours(processes):
        parts = [PROMPTS[rank::processes] for rank in range(processes)]
        outcomes = [orm(StubModel(), part, 3, 1234, verifier=StubVerifier()) for part in parts]
        return {p: image.tolist() for part, o in zip(parts, outcomes, strict=True) for p, image in zip(part, o.images, strict=True)}  # fmt: skip

    assert (
        released(1) != released(2) and released(2)["x"] == released(2)["yy"]
    )  # two prompts share their chance
    assert ours(1) == ours(2) == ours(3)


# ----- the tree ----------------------------------------------------------------------------------------------------


def test_the_tree_tells_each_paths_story():
    clear, odds = (
        iter([0.1, 0.9, 0.2, 0.8]),
        iter([0.3, 0.7]),
    )  # path 1 clear in step 0 and refused, path 0 in step 2
    verifier = StubVerifier(
        CLARITY=lambda p, i: next(clear), POTENTIAL=lambda p, i: next(odds), FINAL=constant(0.5)
    )
    outcome = parm(StubModel(), ["x"], 2, verifier=verifier)
    first, second = tree(outcome, 0)
    assert first == {"path": 0, "clarity": pytest.approx({0: 0.1, 1: 0.2, 2: 0.8}), "potential": pytest.approx({2: 0.7}),
                     "step": {}, "kept": [], "stopped": None, "final": 0.5, "chosen": True}  # fmt: skip
    assert second == {"path": 1, "clarity": pytest.approx({0: 0.9}), "potential": pytest.approx({0: 0.3}), "step": {},
                      "kept": [], "stopped": 0, "final": None, "chosen": False}  # fmt: skip


# ----- the shipped generator ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def generator():
    if not (data_dir() / "generator-base" / "card.json").is_file():
        pytest.skip("no shipped weights here")
    return load("generator")


class Brightness(StubVerifier):
    """Real pictures, answers by their brightness: half of the paths are promising."""

    def ask(self, question, prompts, images):
        light = images.mean((1, 2, 3))
        return torch.ones(len(images)) if question == CLARITY else (light >= light.median()).float()


def test_survivors_on_the_shipped_generator_are_the_paths_of_best_of_n(generator):
    prompts = ["a photo of a red dog", "a photo of two cats"]
    whole = single(generator, prompts, 4, steps=4)
    outcome = parm(generator, prompts, 4, steps=4, verifier=Brightness(), ask_from=1)
    left = [(i, path) for i, own in enumerate(outcome.paths) for path in own if path.stopped is None]
    assert 0 < len(left) < 8
    for i, path in left:
        assert torch.equal(path.codes, whole.paths[i][path.number].codes)
    assert outcome.ledger.generator_token_passes == 2 * 64 * (2 + 8 + 2 * len(left))


def test_prm_and_redrawing_run_on_the_shipped_generator(generator):
    outcome = prm(generator, ["a photo of a red dog"], 2, steps=3, verifier=StubVerifier(STEP=constant(0.5)))
    assert torch.equal(
        outcome.paths[0][0].codes, single(generator, ["a photo of a red dog"], steps=3).paths[0][0].codes
    )
    better = correct_chosen(
        generator, ["a photo of a red dog"], outcome, steps=3, verifier=script(False, True)
    )
    assert better.images.shape == (1, 3, 64, 64) and len(better.rounds[0]) == 2
