"""Where the shipped data lives: `cotlib/_data` in an installed wheel, `data/` beside the package in a clone."""

from pathlib import Path

from cotlib.errors import UserError


def data_dir() -> Path:
    """Folder with glyphs, prompts, checkpoints and results; UserError when neither place exists."""
    package = Path(__file__).resolve().parent
    for folder in (package / "_data", package.parent / "data"):
        if folder.is_dir():
            return folder
    raise UserError(
        f"no data folder found beside {package}; expected _data/ or ../data; reinstall the package"
    )
