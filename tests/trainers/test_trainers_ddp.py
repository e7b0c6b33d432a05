"""Two ranks train, validate and predict together over gloo: none waits for the other for ever."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from helpers.nnunet_samples import TinyProject

TESTS = Path(__file__).resolve().parents[1]
# nnU-Net itself takes DDP for CUDA; the trainer is made before the group exists, then told of it. Half of the steps
# recycle, each rank's own half; the fold validates one case, so that rank 1 has none.
RANK = """
import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
import torch
from torch.nn.parallel import DistributedDataParallel
from helpers.nnunet_samples import TinyProject, nnunet_environment, threads_for_processes
from helpers.trainer_samples import batch, trainer_of
from nnunetv2_diffusion.settings import Training

rank, store, root, output = int(sys.argv[1]), sys.argv[2], Path(sys.argv[3]), Path(sys.argv[4])
torch.set_num_threads(1)
torch.manual_seed(rank)

class Made(TinyProject):
    def __init__(self):
        self.root = root
    def dataset(self, channels=1, kind="labels", planner=""):
        return 111

with nnunet_environment(root), threads_for_processes():
    trainer = trainer_of(Made())
    trainer.output_folder, trainer.log_file = str(output), str(output / f"log_{rank}.txt")
    case = sorted(trainer.do_split()[1])[0]
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{store}", rank=rank, world_size=2, timeout=timedelta(seconds=60)
    )
    trainer.is_ddp, trainer.local_rank = True, rank
    network = trainer.network
    network.settings = replace(network.settings, training=Training(recycling=0.5))
    trainer.network = DistributedDataParallel(network)
    trainer.loss = trainer._build_loss()
    trainer.optimizer, trainer.lr_scheduler = trainer.configure_optimizers()
    assert trainer.loss.dice.ddp and trainer.loss.dice.batch_dice
    trainer.on_train_epoch_start()
    trainer.on_train_epoch_end([trainer.train_step(batch()) for _ in range(6)])
    with torch.no_grad():
        trainer.on_validation_epoch_start()
        trainer.on_validation_epoch_end([trainer.validation_step(batch())])
    trainer.save_checkpoint(str(output / "checkpoint_final.pth"))
    trainer.do_split = lambda: ([], [case])
    trainer.perform_actual_validation()
    weights = torch.cat([value.flatten() for value in network.parameters()])
    both = [torch.zeros_like(weights) for _ in range(2)]
    torch.distributed.all_gather(both, weights)
    assert torch.equal(*both)
print("met")
"""


def test_ranks_train_alike_and_validate_fewer_cases_than_ranks(tiny: TinyProject, tmp_path: Path):
    assert tiny.dataset() == 111
    arguments = [str(tmp_path / "store"), str(tiny.root), str(tmp_path)]
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", RANK, str(rank), *arguments],
            cwd=TESTS,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
        )
        for rank in range(2)
    ]
    told = [rank.communicate(timeout=180)[0] for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0, 0], "\n".join(told)
    assert all(text.rstrip().endswith("met") for text in told), "\n".join(told)
    summary = json.loads((tmp_path / "validation" / "summary.json").read_text())
    assert len(summary["metric_per_case"]) == 1
    assert (tmp_path / "checkpoint_final.pth").is_file()
