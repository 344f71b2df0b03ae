"""What the commands of the command line do; `cotlib.cli` has their switches.

Each takes the switches as they were read, prints its result, and raises UserError for a mistake of the user, before any
work is lost. Everything heavy is imported where it is used, so that help comes at once.
"""

import argparse
import json
import os
import sys
from dataclasses import replace
from pathlib import Path

from cotlib.errors import UserError
from cotlib.files import writable_folder, write_whole, writing


def say(what: object) -> None:
    """Tells the user something beside the results; of several processes each says which it is."""
    several = os.environ.get("WORLD_SIZE", "1")
    who = "" if several == "1" else f", process {os.environ.get('RANK')} of {several}"
    print(f"cotlib{who}: {what}", file=sys.stderr)


def plan_of(options: argparse.Namespace, seeds: tuple[int, ...]):
    """The `Plan` that the switches ask for; says which of them are not used."""
    from cotlib.evaluation import PICTOGRAM, Plan
    from cotlib.loading import VERIFIERS
    from cotlib.search import STRATEGIES

    ours = options.model == PICTOGRAM
    plan = Plan(
        options.strategy, options.n, seeds, options.steps, options.guidance, options.model,
        weights=options.weights or "base" if ours else None, order=options.order or "masked" if ours else None,
        judge=options.judge or ("detector" if ours else None), verifier=options.verifier, questions=options.questions,
        paper_compatible=options.paper_compatible, four_bit=options.four_bit,
    )  # fmt: skip
    if plan.published and (options.weights or options.order):
        say("--weights and --order are of pictograms; they are not used")
    if plan.verifier and not STRATEGIES[plan.strategy].verifier:
        say(f"{plan.strategy} asks no verifier; --verifier is not used")
        plan = replace(plan, verifier=None, four_bit=False)
    if plan.questions and plan.verifier in (None, *VERIFIERS):
        say("there is no verifier that has a wording; --questions is not used")
        plan = replace(plan, questions=None)
    return plan


def prompt_of(text: str, plan) -> dict:
    """Metadata of a prompt given as text or as JSON in GenEval's form; just {"prompt": text} where nobody judges.

    UserError for a prompt that model or judge cannot take.
    """
    from cotlib.judging.geneval_files import check_metadata
    from cotlib.world import parse_prompt
    from cotlib.world import prompts as pictogram

    if text.lstrip().startswith("{"):
        try:
            entry = json.loads(text)
        except ValueError as error:
            raise UserError(f"the prompt begins like JSON but is none ({error}); expected text, or a line of GenEval's "
                            "metadata") from error  # fmt: skip
        return (check_metadata if plan.published else pictogram.check_metadata)(entry)
    if not plan.published:
        return parse_prompt(text)
    if not text.strip():
        raise UserError('the prompt is empty; expected something like "a photo of a red dog"')
    if plan.judge is not None:
        raise UserError("a judge has to know what must be in the picture; give the prompt as a line of GenEval's metadata, "
                        '{"tag": ..., "include": ..., "prompt": ...}, or leave --judge out')  # fmt: skip
    return {"prompt": text.strip()}


def run_generate(options: argparse.Namespace) -> None:
    """Draws, judges and writes `path_00.png ...` and `result.json`."""
    import torch

    from cotlib.devices import pick_device
    from cotlib.evaluation import crew, search, versions
    from cotlib.judging.geneval_files import judged_by, keep, room_for, write_results
    from cotlib.search import decode_all, tree
    from cotlib.several import only_alone

    only_alone("generate")
    plan = plan_of(options, (options.seed,))
    metadata = prompt_of(options.prompt, plan)
    if options.geneval_out and "include" not in metadata:
        raise UserError("GenEval's layout holds a prompt's metadata; give the prompt as a line of it, "
                        '{"tag": ..., "include": ..., "prompt": ...}, or leave --geneval-out out')  # fmt: skip
    model, judge, who = crew(plan, str(pick_device(options.device)))
    out = writable_folder(options.out)
    if options.geneval_out:
        room_for(writable_folder(options.geneval_out), {0: metadata})
    outcome, shown = search(model, judge, metadata, plan, options.seed, who)
    images = (shown if plan.strategy == "single" else decode_all(model, outcome)[0]).cpu()
    names = [f"path_{k:02d}.png" for k in range(len(images))]
    if outcome.rounds:  # PARM++ hands over a picture that need not be one of the paths
        images, names = torch.cat([images, outcome.images.cpu()]), [*names, "corrected.png"]
    chosen = len(names) - 1 if outcome.rounds else outcome.chosen[0]
    entries, judged = [{"file": name} for name in names], []
    if judge is not None:
        judged = judged_by(judge, metadata, images)
        entries = [e | {"correct": j.verdict.correct, "reasons": list(j.verdict.reasons)}
                   for e, j in zip(entries, judged, strict=True)]  # fmt: skip
    with writing(out):
        for name, image in zip(names, images, strict=True):
            save_picture(image, out / name)
    if options.geneval_out:
        part = slice(None) if plan.strategy == "single" else slice(chosen, chosen + 1)
        write_results(options.geneval_out, keep(options.geneval_out, 0, metadata, images[part], judged[part]))
    result = {
        "prompt": metadata["prompt"], "metadata": metadata, "strategy": plan.strategy, "n": plan.n,
        "seed": options.seed, "model": plan.model, "judge": plan.judge, "chosen": names[chosen], "pictures": entries,
        "paths": tree(outcome, 0), "ledger": outcome.ledger.as_dict(), "versions": versions(),
    }  # fmt: skip
    write_whole(out / "result.json", json.dumps(result, indent=1) + "\n")
    right = (
        "no judge" if judge is None else f"{sum(j.verdict.correct for j in judged)} of {len(images)} right"
    )
    print(f'"{metadata["prompt"]}": {right}; chosen {out / result["chosen"]}')


def save_picture(image, path: Path) -> None:
    """Writes a picture [3, H, W] in 0..1 as PNG, with the levels that a published judge would see."""
    from cotlib.models.published.pictures import to_pil

    to_pil(image[None])[0].save(path)


def run_evaluate(options: argparse.Namespace) -> None:
    """Measures and writes the JSON object of `cotlib.evaluation.summarise`."""
    from tqdm import tqdm

    from cotlib.devices import pick_device
    from cotlib.evaluation import crew, evaluate
    from cotlib.judging.geneval_files import read_metadata
    from cotlib.several import rank, start, workers
    from cotlib.world import benchmark, load_prompts

    start()
    plan = plan_of(options, parse_seeds(options.seeds))
    if plan.published and options.prompts is None:
        raise UserError(
            "published models draw GenEval's prompts; give its evaluation_metadata.jsonl with --prompts"
        )
    if plan.judge is None and options.geneval_out is None:
        raise UserError("there is no judge; give the folder of GenEval's judge with --judge, or draw now with --geneval-out and "
                        "judge later with `python -m cotlib judge`")  # fmt: skip
    read = read_metadata if plan.published else load_prompts
    every = list(enumerate(read(options.prompts) if options.prompts else benchmark("test")))
    numbers, prompts = map(list, zip(*thinned(every, options.limit), strict=True))
    for folder in (options.json.parent, options.geneval_out):
        if folder is not None:
            writable_folder(folder)
    model, judge, who = crew(plan, str(pick_device(options.device)))

    def watch(rows, done, of):
        mine = f"process 0 of {workers()}" if workers() > 1 else None
        return tqdm(rows, mine, initial=done, total=of, unit="prompt", file=sys.stderr)

    result = evaluate(model, judge, prompts, plan, options.json, watch if rank() == 0 else None, who,
                      geneval_out=options.geneval_out, numbers=numbers)  # fmt: skip
    if rank():
        return
    if judge is None:
        print(
            f"{result['prompts']} prompts drawn into {options.geneval_out}; no judge: see `python -m cotlib judge`"
        )
        return
    low, high = result["ci95"]
    print(
        f"overall {result['overall']:.3f}  95 % interval {low:.3f} to {high:.3f}  ({result['prompts']} prompts)"
    )
    for task, entry in result["tasks"].items():
        print(f"  {task:14s} {entry['score']:.3f}  ({entry['count']} prompts)")


def run_judge(options: argparse.Namespace) -> None:
    """Judges pictures that are there already, writes results.jsonl beside them, and prints GenEval's figures."""
    from tqdm import tqdm

    from cotlib.devices import pick_device
    from cotlib.judging.geneval import GenEvalJudge
    from cotlib.judging.geneval_files import judge_folder, summary
    from cotlib.several import only_alone

    only_alone("judge")
    judge = GenEvalJudge.from_pretrained(options.judge, pick_device(options.device))
    figures = summary(list(tqdm(judge_folder(judge, options.folder), unit="picture", file=sys.stderr)))
    if options.json:
        writable_folder(options.json.parent)
        write_whole(options.json, json.dumps(figures, indent=1) + "\n")
    print(f"overall {figures['overall']:.3f}  pictures right {figures['images']:.3f}  prompts with a right one "
          f"{figures['prompts']:.3f}")  # fmt: skip
    for task, score in figures["tasks"].items():
        print(f"  {task:14s} {score:.3f}")


def thinned(prompts: list, limit: int | None) -> list:
    """Every K-th prompt, so that about `limit` remain; all of them without a limit."""
    if limit is None:
        return prompts
    if limit < 1:
        raise UserError(f"--limit is {limit}; expected at least 1")
    return prompts[:: max(1, round(len(prompts) / limit))]


def run_table(options: argparse.Namespace) -> None:
    """Measures the paper's systems or all search strategies, and prints the table that it writes."""
    from tqdm import tqdm

    from cotlib.assets import data_dir
    from cotlib.several import only_alone
    from cotlib.tables import paper, retrained, search
    from cotlib.world import benchmark

    only_alone("table")
    for name, count in (("n", options.n), ("retime", options.retime)):
        if count is not None and count < 1:
            raise UserError(f"{name} is {count}; expected a whole number of at least 1")
    if options.split not in ("test", "dev"):
        raise UserError(f'there is no split "{options.split}"; expected test or dev')
    files = {"paper": "table.json", "search": "search.json", "retrained": "retrained.json"}
    if options.which not in files:
        raise UserError(f'there is no table "{options.which}"; expected {", ".join(files)}')
    prompts = search.by_turns(thinned(benchmark(options.split), options.limit))
    out = options.json or data_dir() / "results" / files[options.which]
    writable_folder(out.parent)

    def watch(lines, done, of):
        return tqdm(lines, initial=done, total=of, unit="prompt", file=sys.stderr)

    if options.retime is not None:
        return run_retime(options.which, out, prompts[: options.retime], watch)
    given: dict = {} if options.seeds is None else {"seeds": parse_seeds(options.seeds)}
    if options.which == "search":
        given |= {} if options.only is None else {"only": tuple(options.only.split(","))}
        print(search.text(search.run(prompts, search.TablePlan(options.n, **given), out, watch=watch)))
        return
    generators = () if options.generators is None else tuple(options.generators.split(","))
    if options.which == "retrained":
        if len(generators) != 1:
            raise UserError(
                "retrained needs one tuned generator; give its name, for example --generators dpo"
            )
        folders = dict(pair.split("=", 1) for pair in (options.verifiers or "").split(",") if "=" in pair)
        pair = retrained.Retrained(generators[0], folders)
        plan = search.TablePlan(options.n, **({"seeds": (0,)} | given))
        print(retrained.text(retrained.run(prompts, pair, plan, out, watch)))
        return
    given |= {"generators": generators} if generators else {}
    show_paper(paper.run(prompts, paper.PaperPlan(options.n, **given), out, watch), out)


def run_retime(which: str, out: Path, prompts: list[dict], watch) -> None:
    """Takes the seconds of a table's rows anew, side by side, and prints the table."""
    from cotlib.tables import paper, search, timing

    if which == "retrained":
        raise UserError("this table shows no seconds; --retime is for paper and search")
    result = timing.retime(out, prompts, watch=watch)
    if which == "search":
        print(search.text(result))
        return
    paper.write_forms(result, out)
    show_paper(result, out)


def show_paper(result: dict, out: Path) -> None:
    """Draws the paper's table beside the file `out` and prints it."""
    from cotlib.lab.together_figures import paper_table_figure
    from cotlib.tables import paper

    paper_table_figure(result).savefig(out.with_suffix(".png"), dpi=110)
    print(paper.text(result))


def parse_seeds(text: str) -> tuple[int, ...]:
    """ "0,1,2" to numbers; UserError for anything else."""
    try:
        seeds = tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise UserError(f'seeds are "{text}"; expected whole numbers with commas, such as 0,1,2') from error
    return seeds


def run_train(options: argparse.Namespace) -> None:
    """Runs one recipe into the folder `--out`."""
    from cotlib.several import only_alone, rank
    from cotlib.train import detector, generator, stages, tokenizer

    if options.stage in ("tokenizer", "detector", "verifier-thresholds"):
        only_alone(f"the recipe {options.stage}")
    if options.minutes is not None and not options.minutes > 0:
        raise UserError(f"--minutes is {options.minutes}; expected more than 0")
    common = {"seed": options.seed, "minutes": options.minutes, "resume": options.resume}
    recipes = {"tokenizer": tokenizer.run, "detector": detector.run}
    out = writable_folder(options.out)
    if options.stage in recipes:
        metrics = recipes[options.stage](out, **common)
    elif options.stage.removeprefix("generator-") in generator.STAGES:
        stage = options.stage.removeprefix("generator-")
        if stage in generator.START and options.init is None:
            raise UserError(
                f"{options.stage} goes on from generator-{generator.START[stage]}; give its folder with --init"
            )
        metrics = generator.run(out, stage, start=options.init, **common)
    elif options.stage in stages.STAGES:
        given = {"start": options.init, "data": options.data, "images": options.images, "lora": options.lora,
                 "settings": options.set}  # fmt: skip
        more = {name: given[name] for name in stages.TAKES[options.stage]}
        metrics = stages.STAGES[options.stage](out, **common, **more)
    else:
        names = [*recipes, *(f"generator-{s}" for s in generator.STAGES), *stages.STAGES]
        raise UserError(f'there is no recipe "{options.stage}"; expected one of {", ".join(names)}')
    if rank() == 0:
        print(json.dumps(metrics))


def run_info(options: argparse.Namespace) -> None:
    """Prints versions, device, dtype and the cards of the shipped checkpoints."""
    from cotlib.assets import data_dir
    from cotlib.devices import pick_device, pick_dtype
    from cotlib.evaluation import versions
    from cotlib.models.checkpoint import read_card

    print("  ".join(f"{name} {version}" for name, version in versions().items()))
    device = pick_device()
    print(f"device {device}  dtype {str(pick_dtype(device)).removeprefix('torch.')}  data {data_dir()}")
    for path in sorted(data_dir().glob("*/card.json")):
        card = read_card(path.parent)
        size = (path.parent / "model.safetensors").stat().st_size / 1e6
        metrics = "  ".join(f"{k} {v}" for k, v in card["metrics"].items() if not isinstance(v, dict | list))
        print(
            f"{path.parent.name:18s} {card['parameters'] / 1e6:.2f} M parameters  {size:.2f} MB  {card['date']}  {metrics}"
        )
