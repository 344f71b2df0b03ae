"""Every kernel of the course beside its reference and float64, in a process of its own: `trial()` in a notebook.

    python -m cotlib.lab.kernel_trial [--learner FILE]        prints one JSON object

Without a GPU the process switches Triton's interpreter on, which has to happen before Triton is first imported: it
checks numbers and says nothing about speed. With a GPU the kernels are compiled and run there. Where Triton is not
installed (Windows, Macs) nothing runs, and the answer says so in one sentence. `run_learner` does the same for a
kernel that a learner wrote.
"""

from __future__ import annotations

import argparse
import importlib.util
import inspect
import json
import os
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

INTERPRETER = "interpreter: checks numbers, says nothing about speed"
NO_TRITON = (
    "Triton is not installed here (it exists for Linux; pip install triton), so the kernels stay unread by a "
    "machine; plain torch does all the work in this notebook."
)
PATIENCE = 120  # seconds
GUARD = 64  # numbers behind a learner's output that must stay untouched


@dataclass(frozen=True)
class Trial:
    """where: the GPU's name or INTERPRETER, "" when nothing could run; rows: one for each comparison, with "kernel", "of" (what
    was compared), "against", "off" (largest difference, or how many differ) and "allowed"; excuse: why nothing could run."""

    where: str
    rows: tuple[dict, ...] = ()
    excuse: str = ""

    def of(self, kernel: str) -> list[dict]:
        """The rows of one kernel."""
        return [row for row in self.rows if row["kernel"] == kernel]

    @property
    def wrong(self) -> int:
        """Comparisons that are off by more than rounding."""
        return sum(not row["off"] <= row["allowed"] for row in self.rows)

    def text(self, kernel: str) -> str:
        """Lines for the notebook."""
        if not self.rows:
            return f"{kernel}: {self.excuse}"
        lines = [f"{kernel} ({self.where})"]
        for row in self.of(kernel):
            fine = "equal" if row["off"] <= row["allowed"] else "NOT EQUAL"
            off = f"{row['off']:.0e} off" if isinstance(row["off"], float) else f"{row['off']} differ"
            lines.append(f"   {fine}: {row['of']} against {row['against']}: {off}")
        return "\n".join(lines)


def trial() -> Trial:
    """Runs all comparisons in a process of its own and waits for it, some ten seconds. Never raises."""
    if importlib.util.find_spec("triton") is None:
        return Trial("", excuse=NO_TRITON)
    answer, excuse = _in_a_process()
    return Trial(answer["where"], tuple(answer["rows"])) if answer else Trial("", excuse=excuse)


def _in_a_process(*arguments: str) -> tuple[dict | None, str]:
    """(the process's JSON, "") or (None, one sentence)."""
    gpu = torch.cuda.is_available()
    environ = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environ |= {} if gpu else {"TRITON_INTERPRET": "1"}
    package = str(Path(__file__).resolve().parents[2])
    environ["PYTHONPATH"] = os.pathsep.join(filter(None, (package, environ.get("PYTHONPATH"))))
    command = [sys.executable, "-m", "cotlib.lab.kernel_trial", *arguments]
    try:
        done = subprocess.run(
            command, env=environ, capture_output=True, text=True, timeout=PATIENCE, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return (
            None,
            f"The process with the kernels did not answer ({type(error).__name__}); plain torch goes on.",
        )
    last = (done.stdout.strip().splitlines() or [""])[-1]
    if done.returncode == 0 and last.startswith("{"):
        return json.loads(last), ""
    said = (done.stderr.strip().splitlines() or ["no message"])[-1]
    return None, f"The kernels do not run here: {said[:200]}. Plain torch goes on."


# ----- in the process: the course's kernels --------------------------------------------------------------------------


def compare_all(device: str) -> list[dict]:
    """All comparisons on a device, by the Triton form. Shapes are ragged on purpose: no block is full."""
    from cotlib.kernels import lfq_pack, linear_logprob, masked_sample, qknorm_rope_kv, remask_step, vq_assign

    chance = torch.Generator().manual_seed(0)
    rows = []

    def randn(*shape):
        return torch.randn(*shape, generator=chance)

    def on(*tensors):
        return [t.to(device) for t in tensors]

    def add(kernel, of, against, off, allowed):
        rows.append({"kernel": kernel, "of": of, "against": against, "off": off, "allowed": allowed})

    z = randn(100, 13)
    codes = lfq_pack.launch(*on(z)).cpu()
    by_hand = [int("".join("01"[bool(x > 0)] for x in row), 2) for row in z]
    add(
        "lfq_pack",
        "100 codes of 13 bits",
        "Python's int(bits, 2)",
        int((codes != torch.tensor(by_hand)).sum()),
        0,
    )
    x, book = randn(100, 24), randn(300, 24)
    nearest = torch.cdist(x.double(), book.double()).argmin(1)
    differ = int((vq_assign.launch(*on(x, book)).cpu() != nearest).sum())
    add("vq_assign", "100 vectors, 300 codes", "all distances in float64", differ, 0)

    logits = 3 * randn(100, 1000)
    log_p = logits.double().log_softmax(1)
    wide = (log_p.exp() > 1e-5).float()
    aimed = torch.multinomial(wide, 1, generator=chance)  # the middle of a code's share, far from rounding
    u = (log_p.exp().cumsum(1).gather(1, aimed) - log_p.exp().gather(1, aimed) / 2).float()[:, 0]
    tokens, said = (t.cpu() for t in masked_sample.launch(*on(logits, u)))
    add("masked_sample", "100 drawn codes of 1000", "float64", int((tokens != aimed[:, 0]).sum()), 0)
    add(
        "masked_sample",
        "their log-probabilities",
        "float64",
        largest(said, log_p.gather(1, aimed)[:, 0]),
        1e-5,
    )

    sure = (randn(20, 50) * 2).round() / 2  # many ties
    known = torch.rand(20, 50, generator=chance) < 0.3
    k = ((~known).sum(1) // 2).long()
    step = [sure, torch.randint(0, 1024, (20, 50), generator=chance), known, k, torch.zeros(20, 50)]
    ids = remask_step.launch(*on(*step), 0.0, 1024)[0].cpu()
    add(
        "remask_step",
        "20 rows of 50 tokens, with ties",
        "sorted() in Python",
        int((ids != _by_sorting(*step[:4])).sum()),
        0,
    )
    rows += _qknorm(qknorm_rope_kv, device, randn)
    rows += _logprob(linear_logprob, device, randn, chance)
    return rows


def _by_sorting(sure: Tensor, tokens: Tensor, known: Tensor, k: Tensor) -> Tensor:
    """The next ids of a masked round, row by row, by Python's own sort."""
    ids = tokens.clone()
    for row in range(len(ids)):
        open_ = [i for i in range(ids.shape[1]) if not known[row, i]]
        for i in sorted(open_, key=lambda i: (float(sure[row, i]), i))[: int(k[row])]:
            ids[row, i] = 1024
    return ids


def _qknorm(module, device: str, randn: Callable) -> list[dict]:
    """Queries and both caches against float64, pair by pair as complex numbers: turning by an angle is a product."""
    batch, length, heads, d, half, text = 2, 10, 3, 32, 8, 5
    q, k, v = randn(batch, length, 3, heads, d).unbind(2)
    norms = (1 + randn(d) / 4, randn(d) / 4), (1 + randn(d) / 4, randn(d) / 4)
    angle = 3 * randn(length, half)
    caches = [torch.full((batch, heads, text + length, d), 7.0) for _ in range(2)]
    put = [t.to(device) for t in caches]
    arguments = [t.to(device) for t in (q, k, v)], [tuple(t.to(device) for t in norm) for norm in norms]
    rotary = angle.cos().to(device), angle.sin().to(device)
    out = module.launch(*arguments[0], *arguments[1], rotary, *put, text)

    def exact(x, norm):
        x = x.double()
        x = (x - x.mean(-1, keepdim=True)) / (x.var(-1, correction=0, keepdim=True) + 1e-5).sqrt()
        x = x * norm[0].double() + norm[1].double()
        turned = (
            torch.complex(x[..., :half], x[..., half : 2 * half]) * torch.exp(1j * angle.double())[:, None]
        )
        return torch.cat([turned.real, turned.imag, x[..., 2 * half :]], -1).transpose(1, 2)

    wanted = [exact(k, norms[1]), v.double().transpose(1, 2)]
    wanted = [torch.cat([c[:, :, :text].double(), w], 2) for c, w in zip(caches, wanted, strict=True)]
    off = max(largest(a.cpu(), b) for a, b in zip(put, wanted, strict=True))
    about = [
        ("queries", largest(out.cpu(), exact(q, norms[0]))),
        ("both caches, the text untouched", off),
    ]
    return [{"kernel": "qknorm_rope_kv", "of": of, "against": "complex float64", "off": off, "allowed": 1e-5}
            for of, off in about]  # fmt: skip


def _logprob(module, device: str, randn: Callable, chance: torch.Generator) -> list[dict]:
    """Log-probabilities and their gradients, in chunks of 30 rows, against autograd in float64."""
    hidden, weight, up = randn(100, 40), randn(700, 40) / 6, randn(100)
    targets = torch.randint(0, 700, (100,), generator=chance)
    leaves = [t.to(device).requires_grad_() for t in (hidden, weight)]
    said = module.launch(*leaves, targets.to(device), chunk=30)
    ours = torch.autograd.grad((said * up.to(device)).sum(), leaves)
    wide = [t.double().requires_grad_() for t in (hidden, weight)]
    exact = (wide[0] @ wide[1].T).log_softmax(1).gather(1, targets[:, None])[:, 0]
    theirs = torch.autograd.grad((exact * up).sum(), wide)
    of = ("log-probabilities of 100 rows", "gradient for the hidden states", "gradient for the weights")
    pairs = zip(of, (said, *ours), (exact, *theirs), strict=True)
    return [{"kernel": "linear_logprob", "of": name, "against": "autograd in float64",
             "off": largest(a.detach().cpu(), b.detach()), "allowed": 5e-5} for name, a, b in pairs]  # fmt: skip


def largest(a: Tensor, b: Tensor) -> float:
    """The largest difference of two tensors; NaN when a number is missing."""
    return float((a.double() - b.double()).abs().max())


# ----- a learner's kernel --------------------------------------------------------------------------------------------


def run_learner(function: Callable, cases: list[tuple[Tensor, Tensor, float, int]]) -> list[Tensor]:
    """What a learner's kernel `(cond, uncond, out, n, w, BLOCK)` leaves in `out`, for each (cond [n], uncond [n], w, BLOCK).

    The kernel is a plain function: the process compiles or interprets its source. out: float [n + 64], NaN before the kernel
    runs; the last 64 are not its own. Raises RuntimeError with the process's words when it does not run.
    """
    if importlib.util.find_spec("triton") is None:
        raise RuntimeError(NO_TRITON)
    with tempfile.TemporaryDirectory() as folder:
        source, data = Path(folder) / "kernel_of_yours.py", Path(folder) / "cases.pt"
        text = textwrap.dedent(inspect.getsource(function))
        head = "import triton\nimport triton.language as tl\n\n\n@triton.jit\n"
        source.write_text(head + text[text.index("def ") :], encoding="utf-8")
        torch.save(cases, data)
        answer, excuse = _in_a_process("--learner", str(source))
        if answer is None:
            raise RuntimeError(excuse)
        return torch.load(data)


def _launch_learner(source: Path, device: str) -> None:
    """In the process: imports the source, launches it for every case, writes the outputs over the cases."""
    spec = importlib.util.spec_from_file_location(source.stem, source)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    kernel = next(value for name, value in vars(module).items() if hasattr(value, "fn") and name != "tl")
    data = source.with_name("cases.pt")
    outputs = []
    for cond, uncond, w, block in torch.load(data):
        n = len(cond)
        inputs = [torch.cat([x, torch.full((block + GUARD,), 1e6)]).to(device) for x in (cond, uncond)]
        out = torch.full((n + block + GUARD,), float("nan"), device=device)
        kernel[(-(-n // block),)](*inputs, out, n, w, BLOCK=block)
        outputs.append(out[: n + GUARD].cpu())
    torch.save(outputs, data)


def main(arguments: list[str] | None = None) -> int:
    """The process; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m cotlib.lab.kernel_trial", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--learner", type=Path, help="file with one kernel, beside its cases.pt")
    options = parser.parse_args(arguments)
    gpu = torch.cuda.is_available() and os.environ.get("TRITON_INTERPRET") != "1"
    device, where = ("cuda", torch.cuda.get_device_name()) if gpu else ("cpu", INTERPRETER)
    if options.learner:
        _launch_learner(options.learner, device)
        print(json.dumps({"where": where}))
        return 0
    print(json.dumps({"where": where, "rows": compare_all(device)}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
