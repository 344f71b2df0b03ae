"""One door to everything that ships: `load("generator")`, `load("tokenizer")`, `load("judge")`, `load("verifier")`,
`load("correction")`; and to published models by their folders or hub ids."""

from importlib import import_module
from math import prod
from pathlib import Path

from cotlib.assets import data_dir
from cotlib.devices import enough_memory, pick_device, pick_dtype
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

PUBLISHED = {  # what config.json says a generator is: its class here
    "Showo": "cotlib.models.published.showo.Showo",
    "JanusForConditionalGeneration": "cotlib.models.published.janus.Janus",
}


def load(
    what: str, *, order: str = "masked", weights: str = "base", kind: str = "detector", device: str = "cpu",
    questions: Path | str | None = None, paper_compatible: bool = False, four_bit: bool = False,
):  # fmt: skip
    """A shipped model, or a published one from its folder, ready to use.

    what: "generator" (order "masked" or "raster", weights "base", "clean", "dpo",
    "dpo-iter", "dpo-guided-orm" or "dpo-guided-parm"), "tokenizer", "judge" (kind "detector"
    or "template"), "verifier" (weights "zero-shot", "orm", "prm", "parm" or "parm++"), or "correction" (weights
    "local-edit", "anew" or "tuned-redraw": what PARM++ calls to correct a picture). `weights` may also be a checkpoint folder, except
    for corrections, or a published model's folder: Show-o or Janus as generator, LLaVA-OneVision as verifier (questions: JSON
    file with its wording; paper_compatible: its released reading of P(yes); four_bit: its matrices packed with bitsandbytes). `kind` may be the folder of GenEval's judge, a
    Mask2Former and a CLIP. Published models come in the number format that suits the device. Raises UserError for anything else.
    `load_generator` and `load_verifier` also take hub ids.
    """
    if what == "tokenizer":
        from cotlib.models.tokenizer import PictogramTokenizer

        return PictogramTokenizer.from_pretrained(data_dir() / "tokenizer", device)
    if what == "generator":
        if weights not in WEIGHTS and published(weights, *PUBLISHED):
            return load_generator(weights, device)
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
                return load_verifier(weights, device, questions, paper_compatible, four_bit)
        if four_bit:
            raise UserError(
                f'the verifier "{weights}" is small as it is; expected LLaVA-OneVision\'s folder to pack into four bits'
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


# ----- published models -----------------------------------------------------------------------------------------------


def load_generator(name: Path | str, device: str = "cpu"):
    """A published generator by its folder or hub id; config.json says which model it is. UserError for any other."""
    from cotlib.models.published.files import checkpoint_folder, read_json, said_classes

    folder = checkpoint_folder(name)
    said = said_classes(read_json(folder / "config.json"))
    known = {kind.lower(): place for kind, place in PUBLISHED.items()}
    place = next((known[kind.lower()] for kind in said if kind.lower() in known), None)
    if place is None:
        raise UserError(f"{folder / 'config.json'} is of the model {said[0] if said else 'that it does not name'}; expected "
                        f"{' or '.join(PUBLISHED)}; a checkpoint of this course goes to --weights, a verifier to --verifier")  # fmt: skip
    module, kind = place.rsplit(".", 1)
    dtype = pick_dtype(pick_device(str(device)))
    with enough_memory(lambda: weighed(folder, dtype), "use a larger device, or --device cpu"):
        return getattr(import_module(module), kind).from_pretrained(name, device=device, dtype=dtype)


def load_verifier(
    name: Path | str, device: str = "cpu", questions: Path | str | None = None, paper_compatible: bool = False,
    four_bit: bool = False,
):  # fmt: skip
    """LLaVA-OneVision by its folder or hub id; questions, paper_compatible and four_bit as in `load`."""
    from cotlib.models.published.files import checkpoint_folder, read_config
    from cotlib.models.published.llava import LlavaVerifier
    from cotlib.models.published.llava_files import CLASSES

    folder = checkpoint_folder(name)
    read_config(folder, *CLASSES)  # before its tokenizer is complained of
    dtype = pick_dtype(pick_device(str(device)))
    smaller = (
        "use the verifier of 0.5 B" if four_bit else "pack it with --four-bit, or use the verifier of 0.5 B"
    )
    with enough_memory(lambda: weighed(folder, dtype), smaller):
        return LlavaVerifier.from_pretrained(
            name, device, questions=questions, paper_compatible=paper_compatible, four_bit=four_bit
        )


def weighed(folder: Path, dtype) -> str:
    """A folder, and what its weights take in a number format. UserError as in `open_weights`."""
    from cotlib.models.published.files import open_weights

    size = sum(map(prod, open_weights(folder).shapes.values())) * dtype.itemsize / 2**30
    return f"{folder} ({size:.1f} GiB of weights in {str(dtype).removeprefix('torch.')})"


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
