"""nnU-Net's preprocessing of images for prediction, in this process or ahead of it in others."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from nnunetv2.inference.data_iterators import PreprocessAdapter
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager

from nnunetv2_diffusion.inference.processes import Processes

Case = tuple[list[str], "str | None", "str | None"]  # image files, mask of the previous stage, output without an ending


@dataclass(frozen=True)
class Preprocessing:
    """What the preprocessing of any case goes by."""

    plans: PlansManager
    configuration: ConfigurationManager
    dataset_json: dict[str, Any]
    verbose: bool = False

    def cases(self, cases: Iterable[Case], processes: int) -> Iterator[dict[str, Any]]:
        """Each case as nnU-Net's prediction takes it: data (float32 [C, z, y, x]), data_properties and ofile.

        Args:
            cases: one after another.
            processes: how many are prepared ahead, each in a process; 0 prepares them here, when they are asked for.

        Raises:
            OSError, ValueError, RuntimeError: an image cannot be prepared, or the system ended a process.
        """
        if processes == 0:
            yield from (self._tensors(prepare(self, *case)) for case in cases)
            return
        with Processes(processes, "preprocesses images") as others:
            ahead: deque[int] = deque()
            for case in cases:
                if len(ahead) == processes:
                    yield self._tensors(others.result(ahead.popleft()))
                ahead.append(others.submit(prepare, self, *case))
            while ahead:
                yield self._tensors(others.result(ahead.popleft()))

    @staticmethod
    def _tensors(item: dict[str, Any]) -> dict[str, Any]:
        return {**item, "data": torch.from_numpy(item["data"])}


def prepare(preprocessing: Preprocessing, files: list[str], previous: str | None, output: str | None) -> dict[str, Any]:
    """One case, its data as an array: tensors are not sent between processes as bytes."""
    by, configuration = preprocessing, preprocessing.configuration
    preprocessor = configuration.preprocessor_class(verbose=by.verbose)
    nnunets = PreprocessAdapter([files], [previous], preprocessor, [output], by.plans, by.dataset_json, configuration)
    item = next(nnunets)
    return {**item, "data": item["data"].float().numpy()}
