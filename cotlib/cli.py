"""The command line: `python -m cotlib generate|evaluate|judge|table|train|info` (also installed as `cotlib`).

A mistake of the user ends in one sentence and exit code 2, before any work is lost. `evaluate` and most recipes of `train`
also run in several processes, each with a device of its own: `accelerate launch -m cotlib evaluate ...`.
"""

import argparse
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cotlib.commands import run_evaluate, run_generate, run_info, run_judge, run_table, run_train, say
from cotlib.errors import UserError


def main(arguments: list[str] | None = None) -> int:
    """Runs one command and returns the exit code."""
    options = build_parser().parse_args(arguments)
    try:
        with plain_warnings():
            options.run(options)
    except UserError as error:
        say(error)
        return 2
    except KeyboardInterrupt:
        say("stopped; finished work is kept, the same command goes on from there")
        return 130
    return 0


@contextmanager
def plain_warnings() -> Iterator[None]:
    """What the library warns of (a batch that had to be halved) is said in one line."""
    before = warnings.showwarning

    def show(message, category, filename, *more) -> None:
        if category is UserWarning and Path(__file__).parent in Path(filename).parents:
            say(message)
        else:
            before(message, category, filename, *more)

    warnings.showwarning = show
    try:
        yield
    finally:
        warnings.showwarning = before


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    parser = argparse.ArgumentParser("cotlib", description="Chain-of-thought ideas for image generation.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    generate = commands.add_parser("generate", help="draw pictures from a prompt")
    generate.add_argument(
        "prompt", help='for example "a photo of a red dog"; or a line of GenEval\'s metadata, {"tag": ...}'
    )
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
    evaluate.add_argument("--json", type=Path, required=True, help="file for the result")
    _sampling(evaluate)
    evaluate.set_defaults(run=run_evaluate)

    judge = commands.add_parser("judge", help="judge the pictures in a folder of GenEval's layout")
    judge.add_argument("folder", type=Path, help="holds 00000/metadata.jsonl, 00000/samples/0000.png, ...")
    judge.add_argument("--judge", required=True, help="folder of GenEval's judge: a Mask2Former and a CLIP")
    judge.add_argument("--json", type=Path, help="file for the summary")
    judge.add_argument("--device", default="auto", help="auto, cpu or cuda")
    judge.set_defaults(run=run_judge)

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
    table.add_argument(
        "--retime",
        type=int,
        metavar="K",
        help="take only the seconds of all rows anew, side by side on K prompts",
    )
    table.set_defaults(run=run_table)

    train = commands.add_parser("train", help="run a recipe of data/, or tune a published model")
    train.add_argument(
        "stage",
        help="tokenizer, detector, generator-clean, -base, -raster, verifier-paths, -zs, -orm, -prm, -parm, -parm-plus, "
        "-thresholds, corrector, dpo-pictures, dpo, dpo-iter, dpo-guided-orm, dpo-guided-parm; of published models "
        "llava-orm, llava-parm, showo-dpo",
    )
    train.add_argument("--out", type=Path, required=True, help="checkpoint folder to write")
    train.add_argument("--minutes", type=float, help="time budget; default: the recipe's own")
    train.add_argument("--seed", type=int, default=0)
    train.add_argument("--init", type=Path, help="checkpoint folder to begin from, where a stage needs one")
    train.add_argument(
        "--data",
        type=Path,
        help="folder that verifier-paths or dpo-pictures wrote; a published model's file of examples",
    )
    train.add_argument(
        "--images", type=Path, help="of published models: folder that the pictures' names begin in"
    )
    train.add_argument(
        "--lora", action="store_true", help="of published models: tune adapters, not every weight"
    )
    train.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="of published models: change the preset; may be repeated",
    )
    train.add_argument("--resume", action="store_true", help="go on from the last saved state in --out")
    train.set_defaults(run=run_train)

    info = commands.add_parser("info", help="versions, device, and what is in data/")
    info.set_defaults(run=run_info)
    return parser


def _sampling(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--model",
        default="pictogram",
        help="pictogram (default), or the folder or hub id of a published model: Show-o or Janus",
    )
    parser.add_argument(
        "--weights",
        help="of pictograms: base (default), clean, dpo, dpo-iter, dpo-guided-orm, dpo-guided-parm, or a checkpoint folder",
    )
    parser.add_argument("--order", help="of pictograms: masked (default) or raster")
    parser.add_argument(
        "--strategy",
        default="single",
        help="single, logprob, orm-zs, orm, prm-zs, prm, parm, halving, parm++, oracle",
    )
    parser.add_argument(
        "--verifier", help="LLaVA-OneVision's folder or hub id; pictograms have their own for each strategy"
    )
    parser.add_argument(
        "--four-bit", action="store_true", help="pack LLaVA-OneVision's matrices into 4 bits (bitsandbytes)"
    )
    parser.add_argument("--questions", help="JSON file with the wording a verifier was tuned for")
    parser.add_argument(
        "--judge", help="detector (default for pictograms), template, or the folder of GenEval's judge"
    )
    parser.add_argument(
        "--paper-compatible",
        action="store_true",
        help="choose as the paper's released code does, flaws included",
    )
    parser.add_argument("--geneval-out", type=Path, help="folder for the pictures in GenEval's layout")
    parser.add_argument("-n", type=int, default=1, help="candidates a prompt")
    parser.add_argument("--steps", type=int, help="masked rounds; default: the model's own")
    parser.add_argument("--guidance", type=float, help="guidance weight; default: the model's own")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")


if __name__ == "__main__":
    sys.exit(main())
