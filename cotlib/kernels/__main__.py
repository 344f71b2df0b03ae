"""Prints what the compiler makes of all kernels: `python -m cotlib.kernels` (see `cotlib.kernels.compiled`)."""

import sys

from cotlib.errors import UserError
from cotlib.kernels import lfq_pack, linear_logprob, masked_sample, qknorm_rope_kv, remask_step, vq_assign
from cotlib.kernels.compiled import need_compiler, table

KERNELS = (lfq_pack, vq_assign, masked_sample, remask_step, qknorm_rope_kv, linear_logprob)


def main() -> int:
    """Prints the table; 0, or 1 when it cannot be made."""
    try:
        need_compiler()
        lines = table({module.__name__.rsplit(".", 1)[1]: module.builds() for module in KERNELS})
    except UserError as error:
        print(error, file=sys.stderr)
        return 1
    print("registers a thread, and bytes of spills where there are any")
    print("\n".join(lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
