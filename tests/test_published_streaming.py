"""Loading a sharded checkpoint holds the model and one tensor, never the files: peak of resident memory in a process of its own."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cotlib.lab.tiny_checkpoints import write_llava

pytest.importorskip("resource", reason="this system keeps no record of a process's peak memory")

GB = 10**9
MEASURE = """
import json, re, resource, sys
import psutil, torch
from pathlib import Path
from safetensors.torch import load_file
from cotlib.models.published.llava import LlavaVerifier
from transformers import LlavaOnevisionForConditionalGeneration

def peak_memory():
    status = Path("/proc/self/status")  # on Linux getrusage begins with the peak of the process that started this one
    if status.exists():
        return 1024 * int(re.search(r"VmHWM:\\s*(\\d+)", status.read_text())[1])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)

torch.set_num_threads(1)
folder = Path(sys.argv[2])
before = psutil.Process().memory_info().rss
if sys.argv[1] == "ours":
    verifier = LlavaVerifier.from_pretrained(folder)
    held = sum(p.nbytes for p in verifier.model.parameters())
else:  # what loaders do that read whole files first
    read = [load_file(file) for file in sorted(folder.glob("*.safetensors"))]
    model = {name: tensor.clone() for part in read for name, tensor in part.items()}
    held = sum(tensor.nbytes for tensor in model.values())
print(json.dumps({"before": before, "peak": peak_memory(), "held": held}))
"""


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("large")
    if shutil.disk_usage(folder).free < 3 * GB:
        pytest.skip("less than 3 GB of disk are free")
    yield write_llava(folder / "llava", width=1024, layers=6, inner=4096, shards=4)
    shutil.rmtree(folder)


def measured(how, folder):
    run = subprocess.run([sys.executable, "-c", MEASURE, how, str(folder)], capture_output=True, text=True,
                         cwd=Path(__file__).resolve().parents[1])  # fmt: skip
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout.splitlines()[-1])


def test_loading_a_sharded_checkpoint_takes_no_more_than_its_size(checkpoint):
    """At most the checkpoint and 1 GB in all, the interpreter and its libraries included; beside what was there before, the
    checkpoint and a little. A loader that reads the files first takes twice as much and is told apart."""
    files = sorted(checkpoint.glob("*.safetensors"))
    size = sum(file.stat().st_size for file in files)
    assert len(files) == 4 and 0.3 * GB < size < 0.6 * GB
    ours = measured("ours", checkpoint)
    assert ours["held"] == pytest.approx(size, rel=0.01)  # all of it is there, in the files' number format
    assert ours["peak"] <= size + GB
    assert ours["peak"] - ours["before"] <= size + 0.15 * GB  # parts of transformers are imported meanwhile
    theirs = measured("files first", checkpoint)
    assert theirs["peak"] - theirs["before"] > size + 0.3 * GB
