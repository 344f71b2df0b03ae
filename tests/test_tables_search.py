"""The table of all strategies, and the choice of PARM's thresholds: small, with stand-ins for what is learned."""

import json
from collections import Counter

import numpy as np
import pytest
import torch

from cotlib import load
from cotlib.cli import main
from cotlib.correcting import LocalEdit
from cotlib.errors import UserError
from cotlib.interfaces import CLARITY, FINAL, POTENTIAL
from cotlib.models.verifier import QUESTIONS, VerifierConfig
from cotlib.search import Ledger, parm, redraw
from cotlib.tables import paper, timing
from cotlib.tables import search as table
from cotlib.train import verifier_thresholds as thresholds
from cotlib.verifying import LearnedVerifier
from cotlib.world.prompts import benchmark


@pytest.fixture(scope="module")
def who():
    """The shipped generator and judges with verifiers that were never trained."""
    torch.manual_seed(0)
    verifier = LearnedVerifier(VerifierConfig(questions=QUESTIONS, ask_from=3)).eval()
    with torch.no_grad():
        for layer in verifier.layers:
            layer.out.weight.normal_(std=0.1)
    model = load("generator")
    corrections = {"local-edit": LocalEdit(model), "anew": redraw, "tuned-redraw": redraw, "redraw": redraw}
    return table.Cast(model, load("judge"), load("judge", kind="template"), dict.fromkeys(table.VERIFIERS, verifier),
                      corrections)  # fmt: skip


PROMPTS = benchmark("test")[::100]  # of three tasks
PLAN = table.TablePlan(n=2, seeds=(0,))


@pytest.fixture(scope="module")
def result(who, tmp_path_factory):
    return table.run(PROMPTS, PLAN, tmp_path_factory.mktemp("table") / "search.json", who)


def test_every_strategy_has_a_row_with_interval_tasks_and_cost(result):
    assert set(result["strategies"]) == {
        "single", "logprob", "orm-zs", "orm", "oracle", "prm-zs", "prm", "parm", "halving", "parm by parm++", "one", *table.REFLECTING,
        *table.CORRECTED,
    } == set(table.NAMES)  # fmt: skip
    for name, entry in result["strategies"].items():
        low, high = entry["ci95"]
        assert low <= entry["overall"] <= high and entry["ledger"]["seconds"] > 0, name
        assert entry["ledger"]["generator_token_passes"] > 0 and len(entry["tasks"]) == 3


def test_nobody_beats_the_oracle_on_the_same_paths(result):
    rows = result["strategies"]
    assert rows["oracle"]["overall"] >= max(
        rows[name]["overall"] for name in ("single", "logprob", "orm-zs", "orm")
    )


def test_shared_drawing_costs_each_what_it_would_cost_alone(who, result):
    alone = Ledger()
    for metadata in PROMPTS:
        for seed in PLAN.seeds:
            outcome = parm(who.model, [metadata["prompt"]], PLAN.n, seed, verifier=who.verifiers["parm"])
            alone.add(outcome.ledger)
    assert result["strategies"]["parm"]["ledger"]["generator_token_passes"] == alone.generator_token_passes
    per_path = 2 * 64
    drawn = len(PROMPTS) * len(PLAN.seeds) * per_path * (1 + 7 * PLAN.n)
    for name in ("single", "logprob", "orm-zs", "orm", "oracle"):
        assert result["strategies"][name]["ledger"]["generator_token_passes"] == drawn


def test_the_upper_bounds_corrections_never_break_a_right_picture(result):
    for name in ("parm++ upper bound", "one + upper bound"):
        assert all(step["broken"] == 0 for step in result["rounds"][name])


def test_curves_end_at_the_strategys_own_score(result):
    for name in ("logprob", "orm-zs", "orm"):
        assert list(result["by_n"][name]) == ["1", "2"]
    assert result["by_n"]["orm"]["1"][0] == result["by_n"]["logprob"]["1"][0]  # one path leaves no choice


def test_a_stopped_table_goes_on_where_it_was(who, result, tmp_path):
    out = tmp_path / "search.json"

    def stop_after_two(lines, done, of):
        for count, line in enumerate(lines):
            yield line
            if count == 1:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        table.run(PROMPTS, PLAN, out, who, watch=stop_after_two)
    partial = out.with_suffix(".partial.jsonl")
    with partial.open("a") as stream:
        stream.write('{"prompt": "half')
    seen = []
    again = table.run(PROMPTS, PLAN, out, who, watch=lambda lines, done, of: seen.append((done, of)) or lines)
    assert seen == [(2, len(PROMPTS))] and not partial.exists()
    for name, entry in result["strategies"].items():
        assert again["strategies"][name]["overall"] == entry["overall"]


def test_some_strategies_alone_are_measured_as_among_all(who, result, tmp_path):
    plan = table.TablePlan(2, (0,), ("orm", "halving", "one + redraw"))
    some = table.run(PROMPTS, plan, tmp_path / "some.json", who)
    assert list(some["strategies"]) == ["orm", "halving", "one + redraw"] and not some["by_n"]
    assert list(some["differences"]) == ["halving - orm"]
    for name, entry in some["strategies"].items():
        assert entry["overall"] == result["strategies"][name]["overall"]
        assert (
            entry["ledger"]["generator_token_passes"]
            == result["strategies"][name]["ledger"]["generator_token_passes"]
        )
    with pytest.raises(UserError, match='no "beam" in the table; expected single, logprob'):
        table.TablePlan(only=("beam",))


def test_rows_measured_alone_join_those_of_the_same_prompts_and_seeds(who, result, tmp_path):
    out, plan = tmp_path / "search.json", table.TablePlan(2, (0,), ("orm", "halving"))
    old = json.loads(json.dumps(result))
    del (
        old["strategies"]["halving"],
        old["differences"]["halving - orm"],
        old["differences"]["halving - parm"],
    )
    out.write_text(json.dumps(old))
    again = table.run(PROMPTS, plan, out, who)
    assert list(again["strategies"]) == list(result["strategies"])
    assert list(again["differences"]) == [name for name in result["differences"] if name != "halving - parm"]
    assert again["strategies"]["halving"]["overall"] == result["strategies"]["halving"]["overall"]
    assert (
        again["strategies"]["parm"] == old["strategies"]["parm"]
        and again["by_n"].keys() == result["by_n"].keys()
    )
    with pytest.raises(
        UserError, match="holds rows of 3 prompts, N = 2, seeds .0.; the new rows would have 2"
    ):
        table.run(PROMPTS[:2], plan, out, who)


def test_the_tasks_are_mixed_evenly():
    order = table.by_turns(benchmark("test"))
    assert sorted(m["prompt"] for m in order) == sorted(m["prompt"] for m in benchmark("test"))
    whole, half = Counter(m["tag"] for m in order), Counter(m["tag"] for m in order[:150])
    assert all(abs(2 * half[tag] - count) <= 2 for tag, count in whole.items())


def test_the_text_names_every_row_and_difference(result):
    text = table.text(result)
    assert all(name in text for name in (*result["strategies"], *result["differences"]))


def test_a_table_that_does_not_ship_is_named_with_the_command_that_makes_it():
    with pytest.raises(UserError, match="python -m cotlib table"):
        table.stored("nothing")


def test_mistakes_on_the_command_line_are_one_sentence(capsys, tmp_path):
    assert main(["table", "search", "--split", "train", "--json", str(tmp_path / "x.json")]) == 2
    assert 'no split "train"; expected test or dev' in capsys.readouterr().err
    assert main(["table", "search", "-n", "0", "--json", str(tmp_path / "x.json")]) == 2


# ----- thresholds --------------------------------------------------------------------------------------------------


def test_the_cheapest_settings_stop_everything_early_and_the_dearest_nothing():
    rng = np.random.default_rng(0)
    clarity, potential = rng.random((2, 6, 5))
    record = thresholds.Record("colors", clarity, potential, rng.random(6), rng.random(6) < 0.5)
    assert thresholds.play(record, 0.0, 0.0, 0)[1] == 1.0
    assert thresholds.play(record, 0.0, 1.1, 0)[1] < 0.3


def test_the_rule_takes_the_truest_of_the_cheap_ones():
    rows = [
        {"clear": 0.5, "promising": 0.5, "truth": 0.9, "passes": 0.7},
        {"clear": 0.5, "promising": 0.6, "truth": 0.8, "passes": 0.6},
        {"clear": 0.5, "promising": 0.7, "truth": 0.8, "passes": 0.5},
    ]
    assert thresholds.best(rows)["promising"] == 0.7
    assert thresholds.best(rows[:1])["truth"] == 0.9


def test_thresholds_are_written_into_the_verifier_and_used_by_parm(tmp_path):
    torch.manual_seed(0)
    LearnedVerifier(VerifierConfig(questions=(FINAL, CLARITY, POTENTIAL), ask_from=6)).save_pretrained(
        tmp_path, {"model": "verifier", "metrics": {}}
    )
    chosen = thresholds.run(tmp_path, n=2, prompts=benchmark("dev")[::60])
    verifier = LearnedVerifier.from_pretrained(tmp_path)
    assert verifier.thresholds == (chosen["clear"], chosen["promising"])
    card = json.loads((tmp_path / "card.json").read_text())["metrics"]["thresholds"]
    assert len(card["table"]) == len(thresholds.CLEAR) * len(thresholds.PROMISING)


def test_thresholds_need_parms_questions(tmp_path):
    LearnedVerifier(VerifierConfig(questions=(FINAL,))).save_pretrained(tmp_path, {"model": "verifier"})
    with pytest.raises(UserError, match="does not answer CLARITY, POTENTIAL"):
        thresholds.run(tmp_path)


def test_a_record_holds_all_answers(who):
    r = thresholds.record(who.model, who.judge, who.verifiers["parm"], PROMPTS[0], 2, 0)
    assert r.clarity.shape == r.potential.shape == (2, who.model.config.steps) and r.final.shape == (2,)
    assert r.right.dtype == bool and len(r.right) == 2


# ----- seconds, taken again ------------------------------------------------------------------------------------------


def test_seconds_of_all_rows_are_taken_again_and_nothing_else_changes(who, result, tmp_path, monkeypatch):
    out = tmp_path / "search.json"
    out.write_text(json.dumps(result), "utf-8")
    asked = []
    measure = paper.measure_prompt
    monkeypatch.setattr(
        paper, "measure_prompt", lambda *a, **k: asked.append(a[1]["prompt"]) or measure(*a, **k)
    )
    timed = timing.retime(out, PROMPTS[:2], casts=lambda generator: who)
    assert asked == [PROMPTS[i]["prompt"] for i in (0, 0, 1)]  # the first once more, before
    assert json.loads(out.read_text("utf-8")) == timed and timed["timed"]["prompts"] == 2
    assert table.about_seconds(timed["strategies"].values()).endswith("side by side on 2 of the prompts")
    assert (
        table.about_seconds([*timed["strategies"].values(), result["strategies"]["orm"]])
        == "seconds of one core"
    )
    for name, entry in timed["strategies"].items():
        spent = entry.pop("timed")
        assert spent["prompts"] == 2 and spent["seconds"] > 0
        assert entry == json.loads(json.dumps(result["strategies"][name]))
        handed_over = PLAN.n if name == "single" else 1
        new, old = table.cost_of(entry | {"timed": spent}, name), table.cost_of(entry, name)
        assert new == old | {"seconds": spent["seconds"] / 2 / handed_over}


def test_the_judge_takes_no_part_in_the_seconds(who):
    spent = timing.seconds_of(who, PROMPTS[0], ("oracle", "single"), 2)
    line = paper.measure_prompt(who, PROMPTS[0], ("oracle",), 2, 0)["strategies"]["oracle"]["ledger"]
    assert line["seconds_by"]["judge"] > 0 and set(spent) == {"oracle", "single"}
    assert spent["oracle"] < spent["single"] + line["seconds"] - line["seconds_by"]["judge"]


def test_rows_of_the_papers_table_stand_by_generator():
    table_of = {
        "rows": [{"generator": g, "search": s} for g, s in (("base", "orm"), ("dpo", "orm"), ("dpo", "parm"))]
    }
    rows = timing.rows_of(table_of)
    assert {g: list(names) for g, names in rows.items()} == {"base": ["orm"], "dpo": ["orm", "parm"]}
    assert rows["dpo"]["parm"] is table_of["rows"][2]


def test_no_table_no_seconds(tmp_path):
    with pytest.raises(UserError, match="measure the table first"):
        timing.retime(tmp_path / "search.json", PROMPTS)
