"""nnU-Net's prediction of many slices whose tiles go through the ensemble several at a time.

Preprocessing, tiles, their blending and the way back are nnU-Net's; only the network's calls are made beforehand, in
batches, and handed to nnU-Net's sliding window as it asks for them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence

import torch
from acvl_utils.cropping_and_padding.padding import pad_nd_image
from nnunetv2.utilities.helpers import dummy_context

from nnunetv2_diffusion.inference.predictor import DiffusionPredictor
from nnunetv2_diffusion.sampling.chunks import cpu_batch_size

GPU_TILES = 4
TILES_PER_LOADING = 4  # of a fold's weights


class BatchedPredictor(DiffusionPredictor):
    """A DiffusionPredictor that also predicts lists of slices; a plain nnU-Net takes them tile by tile.

    Args: those of DiffusionPredictor, and
        tile_batch: how many tiles the network takes at a time; None: 4 on a GPU, on a CPU as many as fill its cache
            with their samples.

    Raises:
        ValueError: a `tile_batch` below 1.
    """

    def __init__(self, *args, tile_batch: int | None = None, **kwargs):
        super().__init__(*args, **kwargs)
        if tile_batch is not None and tile_batch < 1:
            raise ValueError(f"the number of slices in a batch must be at least 1, not {tile_batch}")
        self._tile_batch = tile_batch
        self._predicted_tiles: deque[tuple[torch.Tensor, torch.Tensor]] = deque()

    @property
    def tile_batch(self) -> int:
        """How many tiles the network takes at a time."""
        if self._tile_batch is not None:
            return self._tile_batch
        if self.device.type != "cpu":
            return GPU_TILES
        if self.diffusion_network is None:
            return 1
        patch, samples = self.configuration_manager.patch_size, self.diffusion_network.sampling.samples
        return max(1, cpu_batch_size(*patch) // samples)

    def predict_slices(self, slices: Sequence[torch.Tensor]) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Mean logits [K, 1, h, w] and uncertainty [1, 1, h, w] over folds of each of the slices [C, 1, h, w]."""
        pending: list[torch.Tensor] = []
        tiles, at_a_time = 0, max(self.tile_batch, TILES_PER_LOADING)
        for data in slices:
            pending.append(data)
            tiles += len(self.tiles(data))
            if tiles >= at_a_time:
                yield from self._mean_over_folds(pending)
                pending, tiles = [], 0
        if pending:
            yield from self._mean_over_folds(pending)

    def tiles(self, data: torch.Tensor) -> list[torch.Tensor]:
        """The tiles [C, H, W] of a slice [C, 1, h, w], cut as nnU-Net's sliding window will ask for them."""
        padded, _ = pad_nd_image(data, self.configuration_manager.patch_size, "constant", {"value": 0}, True, None)
        return [padded[slicer] for slicer in self._internal_get_sliding_window_slicers(padded.shape[1:])]

    def _mean_over_folds(self, slices: Sequence[torch.Tensor]) -> list[tuple[torch.Tensor, torch.Tensor]]:
        if self.diffusion_network is None:
            # `maps` belongs to the call before it
            return [(self.predict_logits_from_preprocessed_data(data).cpu(), self.maps) for data in slices]
        logits: list[list[torch.Tensor]] = [[] for _ in slices]
        maps: list[list[torch.Tensor]] = [[] for _ in slices]
        for parameters in self.list_of_parameters:
            if len(self.list_of_parameters) > 1:
                self.diffusion_network.load_state_dict(parameters)
            self._predict_tiles([tile for data in slices for tile in self.tiles(data)])
            for number, data in enumerate(slices):
                logits[number].append(self.predict_sliding_window_return_logits(data).cpu())
                maps[number].append(self._window_maps.pop())
        # summed in nnU-Net's order and precision, so that a mask does not depend on the path taken
        means = [sum(folds[1:], folds[0]) / len(folds) for folds in logits]
        return [(mean, torch.stack(folds).mean(dim=0)) for mean, folds in zip(means, maps, strict=True)]

    @torch.inference_mode()
    def _predict_tiles(self, tiles: Sequence[torch.Tensor]) -> None:
        self.network = self.network.to(self.device).eval()
        self._predicted_tiles.clear()
        at_a_time = self.tile_batch
        with torch.autocast("cuda") if self.device.type == "cuda" else dummy_context():
            for start in range(0, len(tiles), at_a_time):
                batch = torch.stack(list(tiles[start : start + at_a_time])).to(self.device)
                prediction = self.diffusion_network.predict(batch)
                self._predicted_tiles.extend(
                    zip(prediction.logits.split(1), prediction.uncertainty.cpu().split(1), strict=True)
                )

    def _internal_maybe_mirror_and_predict(self, x: torch.Tensor) -> torch.Tensor:
        if not self._predicted_tiles:
            return super()._internal_maybe_mirror_and_predict(x)
        logits, uncertainty = self._predicted_tiles.popleft()
        self._tile_maps.append(uncertainty)
        return logits
