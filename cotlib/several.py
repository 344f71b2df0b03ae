"""Several processes on one piece of work, each with a device of its own:

    accelerate launch -m cotlib evaluate ...                 as many processes as there are GPUs
    torchrun --nproc_per_node 2 -m cotlib train ...          the same without accelerate

Both start the same command several times and tell each process its number (RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR). A
measurement's processes never exchange more than "I am here": each works on its share of the prompts and writes a file of
its own (`cotlib.resumable`), and as every path owns its randomness, the shares do not matter to what is drawn. Trainings
average gradients and curves. In a single process everything here does nothing.
"""

import atexit
import os
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor, nn

from cotlib.devices import cores
from cotlib.errors import UserError

PATIENCE = timedelta(days=30)  # one process may have to wait for the slowest


# ----- coming and going ---------------------------------------------------------------------------------------------


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
        torch.set_num_threads(max(1, cores() // here))  # not OMP_NUM_THREADS: launchers set it to 1
    if torch.cuda.is_available() and "LOCAL_RANK" in os.environ:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]) % torch.cuda.device_count())


def start_training() -> None:
    """The same for a training, whose processes exchange gradients: GPU to GPU (NCCL) where there are any."""
    if launched() > 1 and not dist.is_initialized():
        dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
        torch.set_num_threads(1)


def join_training() -> torch.device:
    """The same, and returns this process's device.

    Uses accelerate where it is installed (CPU, one GPU, several), else the variables that `torchrun` sets.
    """
    try:
        from accelerate import PartialState
    except ImportError:
        start_training()
        if not torch.cuda.is_available():
            return torch.device("cpu")
        device = torch.device("cuda", rank() % torch.cuda.device_count())
        torch.cuda.set_device(device)
        return device
    state = PartialState()
    if state.num_processes > 1 and state.device.type == "cpu":
        torch.set_num_threads(1)
    return state.device


@atexit.register
def leave() -> None:
    """Leaves the process group, if there is one. Who ends without doing so may be aborted by threads that still wait for the others."""
    if dist.is_initialized():
        dist.destroy_process_group()


def only_alone(what: str) -> None:
    """UserError when a launcher started several processes of something that is made for one."""
    if launched() > 1:
        raise UserError(
            f"{what} runs in one process, and {launched()} were started; start it without accelerate launch"
        )


# ----- together -----------------------------------------------------------------------------------------------------


def rank() -> int:
    """Index of this process, 0 in a single one."""
    return dist.get_rank() if dist.is_initialized() else 0


def workers() -> int:
    """Number of processes, 1 in a single one."""
    return dist.get_world_size() if dist.is_initialized() else 1


def wait() -> None:
    """Until all processes are here."""
    if dist.is_initialized():
        dist.barrier()


def meet() -> None:
    """Waits until all processes are here. UserError when one has ended before."""
    try:
        wait()
    except RuntimeError as error:
        raise UserError("another process has ended early, see what it said; finished prompts are kept, the same command goes "
                        "on from there") from error  # fmt: skip


def gathered(mine: object) -> list:
    """What each process has, in their order."""
    if workers() == 1:
        return [mine]
    parts: list = [None] * workers()
    dist.all_gather_object(parts, mine)
    return parts


def slowest(seconds: float) -> float:
    """The slowest process's seconds, so that all processes end after the same step."""
    return float(_reduced([seconds], dist.ReduceOp.MAX)[0]) if workers() > 1 else seconds


def mean_over_processes(values: dict[str, float]) -> dict[str, float]:
    """The mean of each number over the processes."""
    if workers() == 1:
        return values
    total = _reduced(list(values.values()), dist.ReduceOp.SUM)
    return dict(zip(values, (total / workers()).tolist(), strict=True))


@torch.no_grad()
def average_gradients(module: nn.Module) -> None:
    """Averages the gradients over the processes."""
    if not dist.is_initialized():
        return
    grads = [p.grad for p in module.parameters() if p.grad is not None]
    flat = torch.cat([g.flatten() for g in grads]) / dist.get_world_size()
    dist.all_reduce(flat)
    for grad, mean in zip(grads, flat.split([g.numel() for g in grads]), strict=True):
        grad.copy_(mean.view_as(grad))


def _reduced(numbers: list[float], how) -> Tensor:
    """float64 numbers reduced over the processes, on the device that their group works with (NCCL takes only a GPU's)."""
    device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    value = torch.tensor(numbers, dtype=torch.float64, device=device)
    dist.all_reduce(value, op=how)
    return value
