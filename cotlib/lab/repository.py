"""Where this course is published: one small file, notebooks/repository.json, stamped into badges and set-up cells.

    {"repository": "owner/name", "tag": "v1.0"}       written by: python -m cotlib.lab.build --repository owner/name@v1.0

Until it is set there are no badges, and a set-up cell that needs the address asks for it in one sentence.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from cotlib.errors import UserError

UNSET = 'REPOSITORY, TAG = "", ""'


@dataclass(frozen=True)
class Address:
    """A GitHub repository at a tag (or branch); both empty until set."""

    repository: str = ""
    tag: str = ""

    @classmethod
    def parse(cls, text: str) -> Address:
        """ "owner/name@tag", or "owner/name" for the branch main; "" takes the address away. Raises UserError."""
        if not text:
            return cls()
        match = re.fullmatch(r"([A-Za-z0-9-]+/[\w.-]+)(?:@([\w./-]+))?", text)
        if not match:
            raise UserError(f"repository {text!r} not understood; expected OWNER/NAME or OWNER/NAME@TAG")
        return cls(match[1], match[2] or "main")

    @classmethod
    def load(cls, notebooks: Path) -> Address:
        """The address stored in the folder `notebooks`; unset when there is no file."""
        path = notebooks / "repository.json"
        try:
            return cls(**json.loads(path.read_text(encoding="utf-8"))) if path.exists() else cls()
        except (ValueError, TypeError):
            raise UserError(
                f"{path} is damaged; expected repository and tag; run --repository OWNER/NAME@TAG again"
            ) from None

    def save(self, notebooks: Path) -> None:
        """Write notebooks/repository.json."""
        text = json.dumps({"repository": self.repository, "tag": self.tag}) + "\n"
        (notebooks / "repository.json").write_text(text, encoding="utf-8")

    def setup_cell(self, notebooks: Path, name: str) -> str:
        """Source of the set-up cell of the notebook `name`, with its number and the address filled in."""
        text = (notebooks / "src" / "setup_cell.txt").read_text(encoding="utf-8").rstrip("\n")
        if text.count(UNSET) != 1:
            raise UserError(f"notebooks/src/setup_cell.txt must contain the line {UNSET} once; put it back")
        text = text.replace("setup()", f'setup("{name[:2]}")')
        return text.replace(UNSET, f'REPOSITORY, TAG = "{self.repository}", "{self.tag}"')

    def badges(self, name: str) -> str:
        """Markdown of the notebook's badges; empty until the address is set."""
        if not self.repository:
            return ""
        path = f"{self.repository}/blob/{self.tag}/notebooks/{name}.ipynb"
        return (
            "[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]"
            f"(https://colab.research.google.com/github/{path}) "
            f"[View on GitHub](https://github.com/{path})"
        )
