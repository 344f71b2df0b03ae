"""How nbval runs the notebooks: nobody is watching, no learner's progress is touched, only stable text is compared."""

import os
import tempfile

os.environ["COTLIB_HEADLESS"] = "1"
os.environ["COTLIB_PROGRESS"] = os.path.join(tempfile.mkdtemp(prefix="cotlib-"), "progress.json")


def pytest_collectstart(collector):
    """The claims table's numbers move in the last digit from machine to machine; its plain text does not."""
    if hasattr(collector, "skip_compare"):
        collector.skip_compare += "text/html", "application/vnd.cotlib.claims+json"
