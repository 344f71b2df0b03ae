"""The paper's tables in miniature: small, with verifiers that were never trained."""

import csv
import json

import pytest
import torch

from cotlib import load
from cotlib.cli import main
from cotlib.correcting import LocalEdit
from cotlib.errors import UserError
from cotlib.models.verifier import QUESTIONS, VerifierConfig
from cotlib.search import redraw
from cotlib.tables import paper
from cotlib.tables.search import VERIFIERS, Cast
from cotlib.verifying import LearnedVerifier
from cotlib.world.prompts import benchmark

PROMPTS = benchmark("test")[::100]  # of three tasks
PLAN = paper.PaperPlan(n=2, seeds=(0,), generators=("base", paper.CORRECTOR))


def casts(generator: str) -> Cast:
    torch.manual_seed(0)
    verifier = LearnedVerifier(VerifierConfig(questions=QUESTIONS, ask_from=3)).eval()
    model = load("generator")
    corrections = {"local-edit": LocalEdit(model), "anew": redraw, "redraw": redraw}
    return Cast(
        model, load("judge"), load("judge", kind="template"), dict.fromkeys(VERIFIERS, verifier), corrections
    )


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    return tmp_path_factory.mktemp("paper") / "table.json"


@pytest.fixture(scope="module")
def result(out):
    return paper.run(PROMPTS, PLAN, out, casts=casts)


def test_every_system_has_a_row_with_interval_and_cost(result):
    found = [(row["generator"], row["search"]) for row in result["rows"]]
    assert found == [system for system in paper.SYSTEMS if system[0] in PLAN.generators]
    for row in result["rows"]:
        low, high = row["ci95"]
        assert low <= row["overall"] <= high and row["cost"]["token_passes"] > 0
    single = result["rows"][0]
    assert single["cost"]["token_passes"] == 2 * 64 * (1 + 7 * 2) // 2  # the share of one of two pictures
    assert single["coverage"]["2"] >= single["overall"] and single["second_judge"] is not None


def test_every_published_system_has_its_row_and_no_other():
    wanted = {}
    for row in (*paper.published("show-o"), *paper.published("parm++")):
        if "disagrees with Table 2" not in row["note"]:
            wanted[row["group"], paper.system_name(row)] = row["overall"]
    found = [paper.published_row(system) for system in paper.SYSTEMS]
    named = {(row["group"], paper.system_name(row)): row["overall"] for row in found if row}
    assert named == wanted
    assert paper.published_row(("dpo-iter", "parm"))["overall"] == 0.74
    assert (
        paper.published_row(("dpo-guided-orm", "single"))["overall"] == 0.67
    )  # what the text says, not Table 3's slip
    assert paper.published_row((paper.CORRECTOR, "single"))["overall"] == 0.51
    assert paper.published_row(("dpo", "parm")) is None


def test_names_are_unambiguous():
    names = [paper.name_of(system) for system in paper.SYSTEMS]
    assert len(set(names)) == len(names)


def test_csv_and_markdown_hold_the_same_rows(result, out):
    with out.with_suffix(".csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [float(row["overall"]) for row in rows] == [row["overall"] for row in result["rows"]]
    text = out.with_suffix(".md").read_text(encoding="utf-8")
    assert all(f"| {row['name']} |" in text for row in result["rows"])
    assert all(row["name"] in paper.text(result) for row in result["rows"])


def test_a_finished_generator_is_not_measured_again(result, out):
    called = []

    def counting(generator):
        called.append(generator)
        return casts(generator)

    assert paper.run(PROMPTS, PLAN, out, casts=counting)["rows"] == result["rows"] and not called
    part = out.with_suffix("") / "base-seed0.json"
    stored = json.loads(part.read_text())
    part.write_text(json.dumps(stored | {"header": "of other weights"}))
    again = paper.run(PROMPTS, PLAN, out, casts=counting)
    assert called == ["base"]
    assert [row["overall"] for row in again["rows"]] == [row["overall"] for row in result["rows"]]


def test_a_further_seed_is_added_to_those_measured(result, out):
    called = []

    def counting(generator):
        called.append(generator)
        return casts(generator)

    plan = paper.PaperPlan(n=2, seeds=(0, 1), generators=("base",))
    both = paper.run(PROMPTS, plan, out.with_name("two.json"), casts=counting)
    first = paper.run(
        PROMPTS,
        paper.PaperPlan(n=2, seeds=(0,), generators=("base",)),
        out.with_name("two.json"),
        casts=counting,
    )
    second = paper.run(
        PROMPTS,
        paper.PaperPlan(n=2, seeds=(1,), generators=("base",)),
        out.with_name("two.json"),
        casts=counting,
    )
    assert called == ["base", "base"]  # once a seed
    for row, one, other in zip(both["rows"], first["rows"], second["rows"], strict=True):
        assert row["overall"] == pytest.approx((one["overall"] + other["overall"]) / 2, abs=1e-4)
        passes = [r["ledger"]["generator_token_passes"] for r in (row, one, other)]
        assert passes[0] == passes[1] + passes[2] and row["seeds"] == [0, 1]


def test_mistakes_are_one_sentence(capsys, tmp_path):
    with pytest.raises(UserError, match='no generator "dpo2" in the table; expected base, dpo,'):
        paper.PaperPlan(generators=("dpo2",))
    assert main(["table", "everything", "--json", str(tmp_path / "x.json")]) == 2
    assert 'no table "everything"; expected paper, search, retrained' in capsys.readouterr().err
