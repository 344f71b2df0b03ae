"""`python -m tests.browser [00 06] [pytest's options]`: the notebooks in a real browser; exit code 2 without a browser."""

import os
import re
import sys
from pathlib import Path

import pytest

from cotlib.errors import UserError

from .chrome import browser_path


def main(arguments: list[str]) -> int:
    try:
        browser_path()
    except UserError as error:
        print(f"course.py test --browser: {error}", file=sys.stderr)
        return 2
    os.environ["COTLIB_BROWSER"] = "all"
    names = [argument for argument in arguments if re.fullmatch(r"\d\d\w*", argument)]
    others = [argument for argument in arguments if argument not in names]
    chosen = ["-k", " or ".join(names)] if names else []
    return pytest.main([str(Path(__file__).parent), *chosen, *others])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
