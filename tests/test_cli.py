"""The command line: results as promised, and one clear sentence for every mistake."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from cotlib.assets import data_dir
from cotlib.cli import main
from cotlib.loading import load
from cotlib.world import benchmark

pytestmark = pytest.mark.skipif(
    not (data_dir() / "generator-base").is_dir(), reason="needs the shipped generator"
)


def test_generate_writes_pictures_and_result(tmp_path):
    assert main(["generate", "a photo of a red dog", "-n", "3", "--out", str(tmp_path)]) == 0
    result = json.loads((tmp_path / "result.json").read_text())
    assert [p["file"] for p in result["pictures"]] == ["path_00.png", "path_01.png", "path_02.png"]
    assert all((tmp_path / p["file"]).stat().st_size > 100 for p in result["pictures"])
    assert result["chosen"] == "path_00.png" and result["metadata"]["tag"] == "colors"
    assert result["ledger"]["generator_token_passes"] == 2 * 64 * (
        1 + 7 * 3
    )  # first round once, then three rows


def test_same_seed_same_pictures_alone_or_among_others(tmp_path):
    for name, n in (("one", "1"), ("many", "4")):
        main(
            [
                "generate",
                "a photo of a cup and a clock",
                "-n",
                n,
                "--seed",
                "5",
                "--out",
                str(tmp_path / name),
            ]
        )
    one, many = (
        np.asarray(Image.open(tmp_path / name / "path_00.png"), dtype=int) for name in ("one", "many")
    )
    assert abs(one - many).max() <= 1  # same codes; decoding in another batch may round a pixel differently


def evaluate(tmp_path, *more, prompts=6):
    path = tmp_path / "prompts.jsonl"
    path.write_text("\n".join(json.dumps(m) for m in benchmark("test")[:: 300 // prompts]), encoding="utf-8")
    out = tmp_path / "result.json"
    return main(["evaluate", "--prompts", str(path), "--json", str(out), *more]), out


def test_evaluate_writes_the_promised_object(tmp_path):
    code, out = evaluate(tmp_path, "-n", "2", "--seeds", "0,1")
    result = json.loads(out.read_text())
    assert code == 0
    keys = {"overall", "ci95", "tasks", "strategy", "n", "prompts", "seeds", "model", "weights", "judge", "ledger",
            "versions"}  # fmt: skip
    assert keys <= set(result)
    low, high = result["ci95"]
    assert 0 <= low <= result["overall"] <= high <= 1
    assert result["prompts"] == 6 and result["seeds"] == [0, 1]
    assert {"generator_token_passes", "verifier_calls", "decodes", "seconds"} == set(result["ledger"])
    assert result["ledger"]["decodes"] == 6 * 2 * (1 + 2)  # the chosen one, then all, per prompt and seed
    mean = sum(t["score"] for t in result["tasks"].values()) / len(result["tasks"])
    assert result["overall"] == pytest.approx(mean, abs=1e-4)


def test_evaluate_goes_on_where_it_stopped(tmp_path, monkeypatch):
    import cotlib.evaluation as evaluation

    code, out = evaluate(tmp_path)
    whole = json.loads(out.read_text())
    out.unlink()
    real, calls = evaluation.measure_prompt, []

    def stop_after_three(*arguments):
        calls.append(arguments)
        if len(calls) > 3:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr("cotlib.devices.cores", lambda: 1)
    monkeypatch.setattr(evaluation, "measure_prompt", stop_after_three)
    assert evaluate(tmp_path)[0] == 130
    assert not out.exists() and out.with_suffix(".partial.jsonl").is_file()
    monkeypatch.setattr(evaluation, "measure_prompt", real)
    assert evaluate(tmp_path)[0] == 0
    again = json.loads(out.read_text())
    assert again["tasks"] == whole["tasks"] and not out.with_suffix(".partial.jsonl").exists()


def test_pictures_are_kept_in_genevals_layout(tmp_path):
    """With pictograms too: the pictures that were judged, and one line for each of them."""
    kept = tmp_path / "kept"
    code, out = evaluate(tmp_path, "-n", "3", "--geneval-out", str(kept))
    prompts = [json.loads(line) for line in (tmp_path / "prompts.jsonl").read_text().splitlines()]
    assert code == 0 and sorted(p.name for p in kept.iterdir()) == [
        *(f"{i:05d}" for i in range(6)),
        "results.jsonl",
    ]
    lines = [json.loads(line) for line in (kept / "results.jsonl").read_text().splitlines()]
    judge = load("judge")
    for number, metadata in enumerate(prompts):
        folder = kept / f"{number:05d}"
        assert json.loads((folder / "metadata.jsonl").read_text()) == metadata
        pictures = [Image.open(folder / "samples" / f"000{k}.png") for k in range(3)]
        images = torch.stack([torch.from_numpy(np.array(p)).permute(2, 0, 1) / 255 for p in pictures])
        own = lines[3 * number : 3 * number + 3]
        assert [v.correct for v in judge([metadata] * 3, images)] == [line["correct"] for line in own]
        assert {line["prompt"] for line in own} == {metadata["prompt"]}
    assert {line["correct"] for line in lines} == {True, False}
    assert json.loads(out.read_text())["prompts"] == 6


def test_the_released_rules_and_other_verifiers_on_pictograms(tmp_path, capsys):
    prompt = "a photo of a red dog and a blue cat"
    results = {}
    for name, more in {
        "ours": [],
        "released": ["--paper-compatible"],
        "parm's": ["--verifier", "parm"],
    }.items():
        out = tmp_path / name
        assert main(["generate", prompt, "-n", "8", "--strategy", "orm", "--out", str(out), *more]) == 0
        results[name] = [path["final"] for path in json.loads((out / "result.json").read_text())["paths"]]
    assert all(0 < p < 1 for p in results["ours"] + results["parm's"])
    assert {p for p in results["released"] if not 0.2 < p < 0.8} <= {0.0, 1.0} and 0.0 in results["released"]
    assert results["ours"] != results["parm's"]
    capsys.readouterr()
    assert main(["generate", prompt, "--verifier", "orm", "--out", str(tmp_path)]) == 0
    assert capsys.readouterr().err == "cotlib: single asks no verifier; --verifier is not used\n"
    assert main(["generate", prompt, "--strategy", "orm", "--verifier", "mine", "--out", str(tmp_path)]) == 2
    assert 'no verifier weights "mine"' in capsys.readouterr().err
    assert main(["generate", prompt, "--strategy", "prm", "--paper-compatible", "--out", str(tmp_path)]) == 2
    assert "prm is not in the paper's released code" in capsys.readouterr().err


def test_info_names_versions_and_cards(capsys):
    assert main(["info"]) == 0
    printed = capsys.readouterr().out
    assert "torch" in printed and "tokenizer" in printed and "generator-base" in printed


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["a photo of a unicorn"], "unicorn"),
        ([""], "empty"),
        (["a photo of a red dog and a blue cat and a cup"], "at most"),
        (["a photo of a dog", "--steps", "0"], "steps is 0"),
        (["a photo of a dog", "--guidance", "nan"], "finite"),
        (["a photo of a dog", "--guidance", "inf"], "finite"),
        (["a photo of a dog", "-n", "0"], "n is 0"),
        (["a photo of a dog", "--strategy", "luck"], "luck"),
        (["a photo of a dog", "--weights", "nowhere"], "nowhere"),
        (["a photo of a dog", "--order", "spiral"], "spiral"),
        (["a photo of a dog", "--device", "abacus"], "abacus"),
    ],
)
def test_mistakes_end_in_one_sentence(tmp_path, capsys, arguments, part):
    assert main(["generate", *arguments, "--out", str(tmp_path)]) == 2
    message = capsys.readouterr().err
    assert part in message and message.count("\n") == 1 and message.startswith("cotlib: ")
    assert not list(tmp_path.glob("*.png"))


def test_unwritable_folder(tmp_path, capsys):
    (tmp_path / "file").write_text("kept")
    assert main(["generate", "a photo of a dog", "--out", str(tmp_path / "file" / "sub")]) == 2
    assert "cannot be written" in capsys.readouterr().err
    assert (tmp_path / "file").read_text() == "kept"


def test_damaged_weights(tmp_path, capsys):
    folder = tmp_path / "weights"
    shutil.copytree(data_dir() / "generator-base", folder)
    weights = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(weights[:-1000])
    command = ["generate", "a photo of a dog", "--weights", str(folder), "--out", str(tmp_path)]
    assert main(command) == 2 and "truncated" in capsys.readouterr().err
    shutil.copy(data_dir() / "tokenizer" / "model.safetensors", folder)
    assert main(command) == 2 and "hash" in capsys.readouterr().err
    shutil.copy(data_dir() / "tokenizer" / "card.json", folder)
    assert main(command) == 2 and "does not hold a PictogramGenerator" in capsys.readouterr().err
    (folder / "model.safetensors").unlink()
    assert main(command) == 2 and "has no model.safetensors" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "more", "part"),
    [
        ("{broken", [], "line 1"),
        ('{"prompt": "a photo of a yak"}', [], "yak"),
        ('{"prompt": "a photo of a dog"}', ["--seeds", "one"], "seeds"),
        ('{"prompt": "a photo of a dog"}', ["--judge", "grandma"], "grandma"),
        ('{"prompt": "a photo of a dog"}', ["--limit", "0"], "limit"),
    ],
)
def test_evaluate_mistakes(tmp_path, capsys, line, more, part):
    (tmp_path / "prompts.jsonl").write_text(line)
    arguments = ["--prompts", str(tmp_path / "prompts.jsonl"), "--json", str(tmp_path / "out.json"), *more]
    assert main(["evaluate", *arguments]) == 2
    assert part in capsys.readouterr().err


def test_unknown_recipe(tmp_path, capsys):
    assert main(["train", "perpetuum", "--out", str(tmp_path)]) == 2
    assert "perpetuum" in capsys.readouterr().err
    assert main(["train", "tokenizer", "--minutes", "0", "--out", str(tmp_path)]) == 2
