"""What PARM++ does about a refused picture: draw it anew with the failed one in view, or edit only what is wrong."""

from cotlib.correcting.anew import Anew, TunedRedraw
from cotlib.correcting.edits import Edit, plan_edit
from cotlib.correcting.local_edit import LocalEdit
from cotlib.correcting.upper_bound import ExactReflections

__all__ = ["Anew", "Edit", "ExactReflections", "LocalEdit", "TunedRedraw", "plan_edit"]
