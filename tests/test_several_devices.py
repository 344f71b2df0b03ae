"""Several processes on one list of prompts: the same result as one, whatever their number, however often they are killed."""

import importlib.util
import json
import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from published_showo_tools import write_magvit, write_showo, write_tokenizer
from published_tools import write_llava

from cotlib import evaluation
from cotlib.assets import data_dir
from cotlib.cli import main
from cotlib.devices import cores, pick_device
from cotlib.errors import UserError
from cotlib.resumable import finished, measure_all, part
from cotlib.several import only_alone
from cotlib.world import benchmark

pytestmark = pytest.mark.skipif(
    not (data_dir() / "generator-base").is_dir(), reason="needs the shipped generator"
)
ROOT = Path(__file__).parents[1]

# A process that writes down which prompt it begins, and takes its time over it.
WATCHED = """
import os, sys, time
from cotlib import evaluation
from cotlib.cli import main
whole = evaluation.measure_prompt
def watched(model, judge, metadata, *more):
    with open(os.environ["BEGUN"], "a") as log:
        log.write(metadata["prompt"] + "\\n")
    time.sleep(float(os.environ["PAUSE"]))
    return whole(model, judge, metadata, *more)
evaluation.measure_prompt = watched
sys.exit(main())
"""


def start(arguments, processes: int, code: str | None = None, **more) -> list[subprocess.Popen]:
    """What torchrun starts: the same command several times, each told its number."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo",
              "PYTHONPATH": str(ROOT), "WORLD_SIZE": str(processes), **more}  # fmt: skip
    command = [sys.executable, *(["-c", code] if code else ["-m", "cotlib"]), *map(str, arguments)]
    return [
        subprocess.Popen(command, env=os.environ | shared | {"RANK": str(number), "LOCAL_RANK": str(number)},
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for number in range(processes)
    ]  # fmt: skip


def ended(running: list[subprocess.Popen]) -> list[tuple[int, str, str]]:
    """(exit code, output, messages) of each."""
    try:
        said = [process.communicate(timeout=300) for process in running]
    finally:
        for process in running:
            process.kill()
    gloo = re.compile(r"^\[Gloo\].*\n", re.MULTILINE)  # torch 2.9 prints such lines
    return [(process.returncode, gloo.sub("", printed), messages)
            for process, (printed, messages) in zip(running, said, strict=True)]  # fmt: skip


def prompts_file(folder: Path, count: int) -> Path:
    path = folder / "prompts.jsonl"
    chosen = benchmark("test")[:: 300 // count][:count]
    path.write_text("".join(json.dumps(metadata) + "\n" for metadata in chosen))
    return path


def timeless(path: Path) -> str:
    """The text of a result without the seconds of its ledger."""
    result = json.loads(path.read_text())
    result["ledger"] = {k: v for k, v in result["ledger"].items() if not k.startswith("seconds")}
    return json.dumps(result)


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


# ----- the same as one process --------------------------------------------------------------------------------------


def test_two_processes_give_the_result_of_one(tmp_path):
    """PARM with pictures: JSON but for the seconds, every picture and every verdict, to the last bit."""
    prompts = prompts_file(tmp_path, 7)  # an odd number: one process has more to do
    texts, kept = [], []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        arguments = ["evaluate", "--prompts", prompts, "--strategy", "parm", "-n", "4", "--seeds", "0,1", "--device", "cpu",
                     "--json", tmp_path / name / "result.json", "--geneval-out", tmp_path / name / "kept"]  # fmt: skip
        if name == "one":
            assert main([str(word) for word in arguments]) == 0
        else:
            (first, printed, _), (second, silent, _) = ended(start(arguments, 2))
            assert (first, second, silent) == (0, 0, "") and "overall" in printed
        texts.append(timeless(tmp_path / name / "result.json"))
        kept.append(files(tmp_path / name / "kept"))
        assert sorted(p.name for p in (tmp_path / name).iterdir()) == ["kept", "result.json"]
    assert texts[0] == texts[1]
    results = [pictures.pop("results.jsonl").decode().replace(str(tmp_path / name), "")
               for name, pictures in zip(("one", "two"), kept, strict=True)]  # fmt: skip
    assert results[0] == results[1] and results[0].count("\n") == 14
    assert kept[0] == kept[1] and len(kept[0]) == 7 * 3


def test_published_models_are_shared_too(tmp_path):
    write_showo(tmp_path / "show-o")
    write_magvit(tmp_path / "magvitv2", bits=13)
    write_tokenizer(tmp_path / "phi-1_5")
    write_llava(tmp_path / "llava")
    kept, threads = [], torch.get_num_threads()
    for name in ("one", "two"):
        arguments = ["evaluate", "--prompts", prompts_file(tmp_path, 3), "--model", tmp_path / "show-o", "--steps", "3",
                     "--strategy", "halving", "--verifier", tmp_path / "llava", "-n", "4", "--device", "cpu",
                     "--json", tmp_path / f"{name}.json", "--geneval-out", tmp_path / name]  # fmt: skip
        if name == "one":
            torch.set_num_threads(max(1, cores() // 2))  # as many as each of two processes has
            assert main([str(word) for word in arguments]) == 0
            torch.set_num_threads(threads)
        else:
            assert {code for code, *_ in ended(start(arguments, 2))} == {0}
        kept.append(files(tmp_path / name))
    assert timeless(tmp_path / "one.json") == timeless(tmp_path / "two.json")
    assert kept[0] == kept[1] and len(kept[0]) == 6


@pytest.mark.skipif(importlib.util.find_spec("accelerate") is None, reason="accelerate is optional")
def test_accelerate_launches_it(tmp_path):
    prompts = prompts_file(tmp_path, 4)
    arguments = ["evaluate", "--prompts", prompts, "--device", "cpu", "-n", "2", "--json"]
    assert main([str(word) for word in (*arguments, tmp_path / "one.json")]) == 0
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2",
              "--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0",
              "-m", "cotlib"]  # fmt: skip
    environment = os.environ | {"PYTHONPATH": str(ROOT), "GLOO_SOCKET_IFNAME": "lo"}
    done = subprocess.run([*launch, *map(str, arguments), str(tmp_path / "two.json")], env=environment, cwd=tmp_path,
                          capture_output=True, text=True, timeout=300)  # fmt: skip
    assert done.returncode == 0 and done.stdout.count("overall") == 1, done.stderr
    assert "process 0 of 2" in done.stderr and timeless(tmp_path / "one.json") == timeless(
        tmp_path / "two.json"
    )


# ----- killed and resumed -------------------------------------------------------------------------------------------


def recorded(out: Path) -> list[str]:
    """Prompts of the finished lines in all files of a stopped run; its first line is the header."""
    found = []
    for file in out.parent.glob("result.partial*.jsonl"):
        for text in file.read_text().splitlines()[1:]:
            found += [json.loads(text)[1]["prompt"]] if text.endswith("]") else []
    return found


def test_killed_processes_lose_a_prompt_each_and_any_number_goes_on(tmp_path, monkeypatch):
    prompts, out, log = prompts_file(tmp_path, 12), tmp_path / "result.json", tmp_path / "begun"
    every = [json.loads(line)["prompt"] for line in prompts.read_text().splitlines()]
    arguments = [
        str(word) for word in ("evaluate", "--prompts", prompts, "-n", "2", "--device", "cpu", "--json")
    ]
    assert main([*arguments, str(tmp_path / "whole.json")]) == 0

    running = start([*arguments, out], 2, WATCHED, BEGUN=str(log), PAUSE="0.3")
    try:
        end = time.monotonic() + 300
        while len(recorded(out)) < 4:
            assert time.monotonic() < end and all(process.poll() is None for process in running)
            time.sleep(0.02)
    finally:
        for process in running:
            process.kill()
        ended(running)
    done, tried = recorded(out), log.read_text().splitlines()
    assert not out.exists() and len(set(done)) == len(done) < len(every)
    assert set(done) <= set(tried) and len(tried) - len(done) <= 2  # lost: at most what each was working on
    assert len({file.name for file in tmp_path.glob("result.partial*")}) == 2

    whole, again = evaluation.measure_prompt, []
    monkeypatch.setattr(
        evaluation, "measure_prompt", lambda *given: again.append(given[2]["prompt"]) or whole(*given)
    )
    assert main([*arguments, str(out)]) == 0  # one process goes on where two were killed
    assert sorted(again) == sorted(set(every) - set(done))
    assert timeless(out) == timeless(tmp_path / "whole.json")
    assert not list(tmp_path.glob("*.partial*"))


def test_another_measurement_takes_nothing_over(tmp_path):
    """Files of other processes with another header go; those with the same header count, with any number of processes."""
    out, items = tmp_path / "r.json", [10, 11, 12, 13]
    asked = []

    def measure(header):
        def work(rest):
            asked.append(rest)
            return ({"value": item * 2} for item in rest)

        return measure_all(
            items, work, lambda lines: {"values": [line["value"] for line in lines]}, header, out
        )

    def leave(number, header, *lines, half=""):
        text = [header, *(json.dumps([index, {"value": value}]) for index, value in lines)]
        part(out, number).write_text("\n".join(text) + "\n" + half)

    leave(0, "same", (0, 20), half='[2, {"val')
    leave(5, "same", (3, -1))
    leave(1, "another", (1, -5))
    assert measure("same") == {"values": [20, 22, 24, -1]} and asked == [[11, 12]]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["r.json"]
    leave(0, "another", (0, -5))
    leave(1, "another", (1, -5))
    assert measure("same")["values"] == [20, 22, 24, 26] and asked[1] == items
    assert finished(part(out, 0), "same") == {}


# ----- what goes wrong ----------------------------------------------------------------------------------------------


def test_the_others_end_with_a_sentence_when_one_fails(tmp_path):
    prompts, kept = prompts_file(tmp_path, 4), tmp_path / "kept"
    kept.mkdir()
    (kept / "00001.partial").write_text("in the way of process 1")
    arguments = [
        "evaluate",
        "--prompts",
        prompts,
        "--device",
        "cpu",
        "--json",
        tmp_path / "r.json",
        "--geneval-out",
        kept,
    ]
    results = ended(start(arguments, 2))
    assert [code for code, *_ in results] == [2, 2]
    said = [[line for line in text.splitlines() if "cotlib, " in line] for *_, text in results]
    assert len(said[0]) == len(said[1]) == 1
    assert "cotlib, process 0 of 2: another process has ended early" in said[0][0]
    assert "cotlib, process 1 of 2: " in said[1][0] and "00001 cannot be written" in said[1][0]
    assert not (tmp_path / "r.json").exists()
    (kept / "00001.partial").unlink()
    assert main([str(word) for word in arguments]) == 0  # what the others had finished counts


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["generate", "a photo of a dog", "--out", "x"], "generate"),
        (["judge", "x", "--judge", "y"], "judge"),
        (["table"], "table"),
        (["train", "tokenizer", "--out", "x"], "the recipe tokenizer"),
        (["train", "detector", "--out", "x"], "the recipe detector"),
        (["train", "verifier-thresholds", "--out", "x"], "the recipe verifier-thresholds"),
    ],
)
def test_what_is_made_for_one_process_says_so(tmp_path, monkeypatch, capsys, arguments, what):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    assert main(arguments) == 2
    assert capsys.readouterr().err == (
        f"cotlib, process 1 of 2: {what} runs in one process, and 2 were started; start it without accelerate launch\n"
    )
    assert not list(tmp_path.iterdir())
    monkeypatch.setenv("WORLD_SIZE", "1")
    only_alone(what)


def test_each_process_gets_a_gpu_of_its_own(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    assert pick_device("auto") == torch.device("cuda") == pick_device("cuda")
    monkeypatch.setenv("LOCAL_RANK", "6")  # more processes than GPUs share them
    assert pick_device("auto") == torch.device("cuda", 2) == pick_device("cuda")
    assert pick_device("cuda:0") == torch.device("cuda", 0) and pick_device("cpu") == torch.device("cpu")
    with pytest.raises(UserError, match="abacus"):
        pick_device("abacus")
