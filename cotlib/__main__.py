"""`python -m cotlib`: the command line."""

import sys

from cotlib.cli import main

sys.exit(main())
