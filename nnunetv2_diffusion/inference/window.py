"""nnU-Net's sliding window with maps: volumes -> tiles -> batches of them -> blended (logits, maps, …), returned.

The steps, the Gaussian, the padding and half-precision sums in nnU-Net's order are nnU-Net's own, so that its
`nnUNetv2_predict` gives the same logits to the last bit. New are the batches, also across volumes, and the maps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from acvl_utils.cropping_and_padding.padding import pad_nd_image
from nnunetv2.inference.sliding_window_prediction import compute_gaussian
from tqdm import tqdm

Prediction = tuple[torch.Tensor, ...]
PredictTiles = Callable[[torch.Tensor], Prediction]


class TiledVolume(NamedTuple):
    """A volume [C, z, y, x] padded to at least a patch, nnU-Net's slicer of each tile, and what undoes the padding."""

    padded: torch.Tensor
    slicers: list[tuple[slice | int, ...]]
    inside: tuple[slice, ...]

    @property
    def slices(self) -> int:
        """How many it has along z, without padding."""
        return self.inside[0].stop - self.inside[0].start


class Blend:
    """The weighted mean of overlapping tiles, summed up tile by tile in the number format of their weight.

    Args:
        shape: [channels, z, y, x] of the padded volume.
        weight: of a tile's voxels, [H, W] or [D, H, W].
    """

    def __init__(self, shape: Sequence[int], weight: torch.Tensor):
        self.weight = weight
        self.total = torch.zeros(tuple(shape), dtype=weight.dtype, device=weight.device)
        self.weights = torch.zeros(tuple(shape[1:]), dtype=weight.dtype, device=weight.device)

    def add(self, tile: torch.Tensor, slicer: tuple[slice | int, ...]) -> None:
        """The next tile, [channels, H, W] or [channels, D, H, W]."""
        self.total[slicer] += tile.to(self.total.device) * self.weight
        self.weights[slicer[1:]] += self.weight

    def mean(self) -> torch.Tensor:
        """[channels, z, y, x], once all tiles are in; the sums become it."""
        return self.total.div_(self.weights)


@dataclass(frozen=True)
class SlidingWindow:
    """How volumes are cut into tiles and put together again.

    Attributes:
        patch_size: of the configuration, 2-D or 3-D.
        slicers: those of a padded volume's shape (z, y, x), nnU-Net's own `_internal_get_sliding_window_slicers`.
        device: of the network.
        use_gaussian: weigh tiles as nnU-Net does; False weighs all of their voxels alike.
        show_progress: a bar over the tiles.
    """

    patch_size: Sequence[int]
    slicers: Callable[[tuple[int, ...]], list[tuple[slice | int, ...]]]
    device: torch.device
    use_gaussian: bool = True
    show_progress: bool = False

    def cut(self, volume: torch.Tensor) -> TiledVolume:
        """The tiles of a volume [C, z, y, x]."""
        padded, inside = pad_nd_image(volume, self.patch_size, "constant", {"value": 0}, True, None)
        return TiledVolume(padded, self.slicers(tuple(padded.shape[1:])), tuple(inside[1:]))

    def predict(
        self, volumes: Sequence[TiledVolume], predict_tiles: PredictTiles, tiles_at_a_time: int, sums_on: torch.device
    ) -> list[Prediction]:
        """Predict the tiles of all volumes, in batches, and blend them.

        Args:
            volumes: what `cut` gave.
            predict_tiles: tiles [B, C, H, W] or [B, C, D, H, W] -> logits [B, K, ...], maps [B, M, ...], and whatever
                else there is of probabilities [B, P, ...].
            tiles_at_a_time: largest B.
            sums_on: the device that holds volumes and sums.

        Returns:
            Of each volume, on the CPU, logits [K, z, y, x] in half precision, maps [M, z, y, x] in float32, and the
            rest [P, z, y, x] in half precision.

        Raises:
            RuntimeError: logits beyond half precision, or memory that runs out.
        """
        blends: dict[int, list[Blend]] = {}
        for numbers, slicers, tiles in self._batches(volumes, tiles_at_a_time, sums_on):
            for number, slicer, *predicted in zip(numbers, slicers, *predict_tiles(tiles), strict=True):
                if number not in blends:
                    blends[number] = self._blends(volumes[number].padded.shape[1:], predicted, sums_on)
                for blend, tile in zip(blends[number], predicted, strict=True):
                    blend.add(tile, slicer)
        return [self._blended(blends[number], volume.inside) for number, volume in enumerate(volumes)]

    def _batches(
        self, volumes: Sequence[TiledVolume], size: int, sums_on: torch.device
    ) -> Iterator[tuple[list[int], list[tuple], torch.Tensor]]:
        """Numbers of the volumes, slicers and tiles [B, C, ...] on the network's device."""
        held = [volume.padded.to(sums_on) for volume in volumes]
        tiles = [(number, slicer) for number, volume in enumerate(volumes) for slicer in volume.slicers]
        with tqdm(total=len(tiles), disable=not self.show_progress) as bar:
            for start in range(0, len(tiles), size):
                numbers, slicers = map(list, zip(*tiles[start : start + size], strict=True))
                batch = torch.stack([held[number][slicer] for number, slicer in zip(numbers, slicers, strict=True)])
                yield numbers, slicers, batch.to(self.device)
                bar.update(len(batch))

    def _blends(self, shape: Sequence[int], predicted: Sequence[torch.Tensor], sums_on: torch.device) -> list[Blend]:
        """Sums for logits in half precision, as nnU-Net's, for maps in float32, for the rest in half precision."""
        patch = tuple(self.patch_size)
        if self.use_gaussian:
            weight = compute_gaussian(patch, sigma_scale=1 / 8, value_scaling_factor=10, device=sums_on)
        else:
            weight = torch.ones(patch, dtype=torch.half, device=sums_on)
        weights = [weight, weight.float(), *[weight] * (len(predicted) - 2)]
        return [Blend((len(values), *shape), one) for values, one in zip(predicted, weights, strict=True)]

    def _blended(self, blends: Sequence[Blend], inside: tuple[slice, ...]) -> Prediction:
        means = [blend.mean() for blend in blends]
        if torch.isinf(means[0]).any():
            raise RuntimeError("a logit is beyond half precision, in which nnU-Net adds up overlapping tiles")
        return tuple(mean[(slice(None), *inside)].cpu() for mean in means)
