"""One door to everything that ships: `load("generator")`, `load("tokenizer")`, `load("judge")`, `load("verifier")`,
`load("correction")`."""

from pathlib import Path

from cotlib.assets import data_dir
from cotlib.devices import pick_device, pick_dtype
from cotlib.errors import UserError

TUNED = (
    "dpo",
    "dpo-iter",
    "dpo-guided-orm",
    "dpo-guided-parm",
)  # generators tuned on preferences, from "base" on
WEIGHTS = {name: f"generator-{name}" for name in ("base", "clean", *TUNED)}
VERIFIERS = {
    "zero-shot": "verifier-zs",
    "orm": "verifier-orm",
    "prm": "verifier-prm",
    "parm": "verifier-parm",
    "parm++": "verifier-parm-plus",
}


def load(
    what: str, *, order: str = "masked", weights: str = "base", kind: str = "detector", device: str = "cpu",
    questions: Path | str | None = None, paper_compatible: bool = False,
):  # fmt: skip
    """A shipped model, or a published one from its folder, ready to use.

    what: "generator" (order "masked" or "raster", weights "base", "clean", "dpo",
    "dpo-iter", "dpo-guided-orm" or "dpo-guided-parm"), "tokenizer", "judge" (kind "detector"
    or "template"), "verifier" (weights "zero-shot", "orm", "prm", "parm" or "parm++"), or "correction" (weights
    "local-edit", "anew" or "tuned-redraw": what PARM++ calls to correct a picture). `weights` may also be a checkpoint folder, except
    for corrections, or a published model's folder: Show-o as generator, LLaVA-OneVision as verifier (questions: JSON
    file with its wording; paper_compatible: its released reading of P(yes)). `kind` may be the folder of GenEval's judge, a
    Mask2Former and a CLIP. Published models come in the number format that suits the device. Raises UserError for anything else.
    """
    if what == "tokenizer":
        from cotlib.models.tokenizer import PictogramTokenizer

        return PictogramTokenizer.from_pretrained(data_dir() / "tokenizer", device)
    if what == "generator":
        if weights not in WEIGHTS and published(weights, "Showo"):
            from cotlib.models.published.showo import Showo

            return Showo.from_pretrained(weights, device=device, dtype=pick_dtype(pick_device(str(device))))
        from cotlib.models.generator import PictogramGenerator

        generator = PictogramGenerator.from_pretrained(generator_folder(order, weights), device)
        generator.tokenizer = load("tokenizer", device=device)
        return generator
    if what == "judge":
        from cotlib.judging.pictogram import DetectorJudge, TemplateJudge

        kinds = {"detector": DetectorJudge, "template": TemplateJudge}
        if kind not in kinds and Path(kind).is_dir():
            from cotlib.judging.geneval import GenEvalJudge

            return GenEvalJudge.from_pretrained(kind, device)
        if kind not in kinds:
            raise UserError(
                f'there is no judge "{kind}"; expected "detector", "template", or a folder with a Mask2Former and a CLIP'
            )
        return kinds[kind]()
    if what == "verifier":
        if weights not in VERIFIERS and Path(weights).is_dir():
            from cotlib.models.published.llava_files import CLASSES

            if published(weights, *CLASSES):
                from cotlib.models.published.llava import LlavaVerifier

                return LlavaVerifier.from_pretrained(
                    weights, device, questions=questions, paper_compatible=paper_compatible
                )
        from cotlib.verifying import LearnedVerifier

        return LearnedVerifier.from_pretrained(verifier_folder(weights), device)
    if what == "correction":
        return _correction(weights, device)
    names = '"generator", "tokenizer", "judge", "verifier" or "correction"'
    raise UserError(f'there is no "{what}" to load; expected {names}')


def published(folder: Path | str, *classes: str) -> bool:
    """Whether a folder's config.json says that it holds a published model of one of the classes."""
    from cotlib.models.published.files import read_json, said_classes

    file = Path(folder) / "config.json"
    said = {found.lower() for found in said_classes(read_json(file))} if file.is_file() else set()
    return not said.isdisjoint(name.lower() for name in classes)


def _correction(kind: str, device: str):
    from cotlib.correcting import Anew, LocalEdit, TunedRedraw
    from cotlib.models.corrector import PictogramCorrector

    kinds = {"local-edit": LocalEdit, "anew": Anew, "tuned-redraw": TunedRedraw}
    if kind not in kinds:
        raise UserError(f'there is no correction "{kind}"; expected {", ".join(kinds)}')
    corrector = PictogramCorrector.from_pretrained(data_dir() / "corrector", device)
    corrector.tokenizer = load("tokenizer", device=device)
    return kinds[kind](corrector)


def generator_folder(order: str, weights: str) -> Path:
    """Checkpoint folder of a generator by order and name of its weights, or the folder itself when one is given."""
    if order not in ("masked", "raster"):
        raise UserError(f'there is no order "{order}"; expected "masked" or "raster"')
    if order == "raster" and weights == "base":
        return data_dir() / "generator-raster"
    if order == "masked" and weights in WEIGHTS:
        return data_dir() / WEIGHTS[weights]
    folder = Path(weights)
    if folder.is_dir():
        return folder
    known = ", ".join(WEIGHTS) if order == "masked" else "base"
    raise UserError(
        f'there are no weights "{weights}" for {order} order; expected {known} or a checkpoint folder'
    )


def verifier_folder(weights: str) -> Path:
    """Checkpoint folder of a verifier by the name of its weights, or the folder itself when one is given."""
    folder = data_dir() / VERIFIERS[weights] if weights in VERIFIERS else Path(weights)
    if folder.is_dir():
        return folder
    raise UserError(
        f'there are no verifier weights "{weights}"; expected {", ".join(VERIFIERS)} or a checkpoint folder'
    )
