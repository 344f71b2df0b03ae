"""Several processes on one list of prompts, each with a device of its own:

    accelerate launch -m cotlib evaluate ...                 as many processes as there are GPUs
    torchrun --nproc_per_node 2 -m cotlib evaluate ...       the same without accelerate

Both start the same command several times and tell each process its number (RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR). The
processes never exchange more than "I am here": each works on its share of the prompts and writes a file of its own
(`cotlib.resumable`). Every path owns its randomness, so the shares do not matter to what is drawn.
"""

import os
from datetime import timedelta

import torch
import torch.distributed as dist

from cotlib.errors import UserError
from cotlib.train.loop import rank, wait, workers

__all__ = ["launched", "meet", "only_alone", "rank", "start", "workers"]

PATIENCE = timedelta(days=30)  # one process may have to wait for the slowest


def launched() -> int:
    """How many processes a launcher started; 1 without one."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def start() -> None:
    """Joins the other processes of a launcher, if there are any, and shares this machine's cores with them.

    They meet by way of the CPU (gloo), whatever device they work on: nothing but waiting is done together.
    """
    if launched() > 1 and not dist.is_initialized():
        dist.init_process_group("gloo", timeout=PATIENCE)
        here = int(os.environ.get("LOCAL_WORLD_SIZE", launched()))
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // here))
    if torch.cuda.is_available() and "LOCAL_RANK" in os.environ:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]) % torch.cuda.device_count())


def meet() -> None:
    """Waits until all processes are here. UserError when one has ended before."""
    try:
        wait()
    except RuntimeError as error:
        raise UserError("another process has ended early, see what it said; finished prompts are kept, the same command goes "
                        "on from there") from error  # fmt: skip


def only_alone(what: str) -> None:
    """UserError when a launcher started several processes of something that is made for one."""
    if launched() > 1:
        raise UserError(
            f"{what} runs in one process, and {launched()} were started; start it without accelerate launch"
        )
