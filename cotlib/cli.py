"""The command line: `python -m cotlib generate|evaluate|train|info` (also installed as `cotlib`).

A mistake of the user ends in one sentence and exit code 2, before any work is lost.
"""

import argparse
import json
import sys
from pathlib import Path

from cotlib.errors import UserError


def main(arguments: list[str] | None = None) -> int:
    """Runs one command and returns the exit code."""
    options = build_parser().parse_args(arguments)
    try:
        options.run(options)
    except UserError as error:
        print(f"cotlib: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("cotlib: stopped; finished work is kept, the same command goes on from there", file=sys.stderr)
        return 130
    return 0


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    parser = argparse.ArgumentParser("cotlib", description="Chain-of-thought ideas for image generation.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    generate = commands.add_parser("generate", help="draw pictures from a prompt")
    generate.add_argument("prompt", help='for example "a photo of a red dog"')
    generate.add_argument("--out", type=Path, required=True, help="folder for the pictures and result.json")
    generate.add_argument("--seed", type=int, default=0)
    _sampling(generate)
    generate.set_defaults(run=run_generate)

    evaluate = commands.add_parser("evaluate", help="measure a strategy on a list of prompts")
    evaluate.add_argument(
        "--prompts", type=Path, help="JSON lines in GenEval's form; default: the 300 test prompts"
    )
    evaluate.add_argument("--limit", type=int, help="use every K-th prompt so that about this many remain")
    evaluate.add_argument("--seeds", default="0", help="comma-separated, for example 0,1,2")
    evaluate.add_argument("--judge", default="detector", help="detector (default) or template")
    evaluate.add_argument("--json", type=Path, required=True, help="file for the result")
    _sampling(evaluate)
    evaluate.set_defaults(run=run_evaluate)

    table = commands.add_parser("table", help="measure the paper's systems, or all search strategies")
    table.add_argument("which", nargs="?", default="paper", help="paper (default), search or retrained")
    table.add_argument(
        "--json",
        type=Path,
        help="file for the result; default: table.json, search.json or retrained.json in data/results",
    )
    table.add_argument("--split", default="test", help="test (300 prompts, default) or dev (120)")
    table.add_argument("--limit", type=int, help="use every K-th prompt so that about this many remain")
    table.add_argument("--seeds", help="comma-separated; default: 0 for paper, 0,1,2 for search")
    table.add_argument("--generators", help="paper: only these, comma-separated, for example base,dpo")
    table.add_argument(
        "--only", help="search: only these strategies, comma-separated, for example single,orm,parm"
    )
    table.add_argument("--verifiers", help="retrained: orm=FOLDER,parm=FOLDER, or one of them")
    table.add_argument("-n", type=int, default=20, help="candidates a prompt")
    table.set_defaults(run=run_table)

    train = commands.add_parser("train", help="run a recipe of data/")
    train.add_argument(
        "stage",
        help="tokenizer, detector, generator-clean, -base, -raster, verifier-paths, -zs, -orm, -prm, -parm, -parm-plus, -thresholds, corrector, dpo-pictures, dpo, dpo-iter, dpo-guided-orm, dpo-guided-parm",
    )
    train.add_argument("--out", type=Path, required=True, help="checkpoint folder to write")
    train.add_argument("--minutes", type=float, help="time budget; default: the recipe's own")
    train.add_argument("--seed", type=int, default=0)
    train.add_argument("--init", type=Path, help="checkpoint folder to begin from, where a stage needs one")
    train.add_argument("--data", type=Path, help="folder that verifier-paths or dpo-pictures wrote")
    train.add_argument("--resume", action="store_true", help="go on from the last saved state in --out")
    train.set_defaults(run=run_train)

    info = commands.add_parser("info", help="versions, device, and what is in data/")
    info.set_defaults(run=run_info)
    return parser


def _sampling(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--weights",
        default="base",
        help="base, clean, dpo, dpo-iter, dpo-guided-orm, dpo-guided-parm, or a checkpoint folder",
    )
    parser.add_argument("--order", default="masked", help="masked (default) or raster")
    parser.add_argument(
        "--strategy",
        default="single",
        help="single, logprob, orm-zs, orm, prm-zs, prm, parm, halving, parm++, oracle",
    )
    parser.add_argument("-n", type=int, default=1, help="candidates a prompt")
    parser.add_argument("--steps", type=int, help="masked rounds; default: the model's own")
    parser.add_argument("--guidance", type=float, help="guidance weight; default: the model's own")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")


def writable_folder(folder: Path) -> Path:
    """The folder, made if needed; UserError when nothing can be written there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".probe"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise UserError(f"{folder} cannot be written ({error.strerror}); give a folder of yours") from error
    return folder


def run_generate(options: argparse.Namespace) -> None:
    """Draws, judges and writes `path_00.png ...` and `result.json`."""
    import torch

    from cotlib.devices import pick_device
    from cotlib.evaluation import Plan, helpers, staff, versions
    from cotlib.loading import load
    from cotlib.search import STRATEGIES, decode_all, tree
    from cotlib.world import parse_prompt

    metadata = parse_prompt(options.prompt)
    plan = Plan(options.strategy, options.n, (options.seed,), options.steps, options.guidance)
    device, judge = pick_device(options.device), load("judge")
    who = staff(plan.strategy, str(device))
    out = writable_folder(options.out)
    model = load("generator", order=options.order, weights=options.weights, device=device)
    outcome = STRATEGIES[plan.strategy](model, [metadata["prompt"]], plan.n, options.seed,
                                        **helpers(plan, who, judge, [metadata]))  # fmt: skip
    images = decode_all(model, outcome)[0].cpu()
    names = [f"path_{k:02d}.png" for k in range(len(images))]
    chosen = names[outcome.chosen[0]]
    if outcome.rounds:  # PARM++ hands over a picture that need not be one of the paths
        chosen = "corrected.png"
        images, names = torch.cat([images, outcome.images.cpu()]), [*names, chosen]
    verdicts = judge([metadata] * len(images), images)
    for name, image in zip(names, images, strict=True):
        save_picture(image, out / name)
    result = {
        "prompt": metadata["prompt"], "metadata": metadata, "strategy": plan.strategy, "n": plan.n,
        "seed": options.seed, "chosen": chosen,
        "pictures": [{"file": f, "correct": v.correct, "reasons": list(v.reasons)}
                     for f, v in zip(names, verdicts, strict=True)],
        "paths": tree(outcome, 0), "ledger": outcome.ledger.as_dict(), "versions": versions(),
    }  # fmt: skip
    (out / "result.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    right = sum(v.correct for v in verdicts)
    print(f'"{metadata["prompt"]}": {right} of {len(images)} right; chosen {out / result["chosen"]}')


def save_picture(image, path: Path) -> None:
    """Writes a picture [3, 64, 64] in 0..1 as PNG."""
    from PIL import Image

    pixels = (image.permute(1, 2, 0).clamp(0, 1) * 255 + 0.5).byte().numpy()
    Image.fromarray(pixels).save(path)


def run_evaluate(options: argparse.Namespace) -> None:
    """Measures and writes the JSON object of `cotlib.evaluation.summarise`."""
    from tqdm import tqdm

    from cotlib.devices import pick_device
    from cotlib.evaluation import Plan, evaluate, staff
    from cotlib.loading import load
    from cotlib.world import benchmark, load_prompts

    plan = Plan(options.strategy, options.n, parse_seeds(options.seeds), options.steps, options.guidance,
                "pictogram", options.weights, options.order, options.judge)  # fmt: skip
    prompts = thinned(load_prompts(options.prompts) if options.prompts else benchmark("test"), options.limit)
    writable_folder(options.json.parent)
    model = load(
        "generator", order=options.order, weights=options.weights, device=pick_device(options.device)
    )
    judge = load("judge", kind=options.judge)

    def watch(rows, done, of):
        return tqdm(rows, initial=done, total=of, unit="prompt", file=sys.stderr)

    who = staff(plan.strategy, str(pick_device(options.device)))
    result = evaluate(model, judge, prompts, plan, options.json, watch, who)
    low, high = result["ci95"]
    print(
        f"overall {result['overall']:.3f}  95 % interval {low:.3f} to {high:.3f}  ({result['prompts']} prompts)"
    )
    for task, entry in result["tasks"].items():
        print(f"  {task:14s} {entry['score']:.3f}  ({entry['count']} prompts)")


def thinned(prompts: list[dict], limit: int | None) -> list[dict]:
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
    from cotlib.lab.together_figures import paper_table_figure
    from cotlib.tables import paper, retrained, search
    from cotlib.world import benchmark

    if options.n < 1:
        raise UserError(f"n is {options.n}; expected a whole number of at least 1")
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
    result = paper.run(prompts, paper.PaperPlan(options.n, **given), out, watch)
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
    from cotlib.train import detector, generator, stages, tokenizer

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
        given = {"start": options.init, "data": options.data}
        more = {name: given[name] for name in stages.TAKES[options.stage]}
        metrics = stages.STAGES[options.stage](out, **common, **more)
    else:
        names = [*recipes, *(f"generator-{s}" for s in generator.STAGES), *stages.STAGES]
        raise UserError(f'there is no recipe "{options.stage}"; expected one of {", ".join(names)}')
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


if __name__ == "__main__":
    sys.exit(main())
