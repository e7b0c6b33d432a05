"""Whether SpineSegDiff fits the GPU that nnU-Net planned a configuration for, and what makes it fit."""

from __future__ import annotations

from typing import Any

# Activations kept for the backward pass against nnU-Net's own network, and with checkpoint_activations: measured at
# 320 x 320, see benchmarks/results/activations.md.
KEPT = {"PlainConvUNet": (1.61, 0.64), "ResidualEncoderUNet": (1.88, 0.59)}
PLANNED = "2d"


def memory_advice(plans: dict[str, Any]) -> list[str]:
    """One sentence about nnU-Net's own `2d`; none where its network is another one or checkpointing is set."""
    configuration = plans["configurations"].get(PLANNED, {})
    name = configuration.get("architecture", {}).get("network_class_name", "").rpartition(".")[2]
    block = configuration.get("diffusion", {})
    if name not in KEPT or (isinstance(block, dict) and block.get("checkpoint_activations")):
        return []
    kept, checkpointed = KEPT[name]
    batch = int(configuration["batch_size"])
    fitting = int(batch / kept)
    smaller = f" (a batch of {fitting} also fits)" if fitting else ""
    return [
        f"nnU-Net planned {PLANNED} with batch {batch} for its own network; SpineSegDiff keeps {kept} times as much. "
        f'Where that is too much, set "checkpoint_activations": true in the diffusion block of {PLANNED}: '
        f"{checkpointed} times{smaller}"
    ]
