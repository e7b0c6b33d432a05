"""From preprocessed cases to logits, maps and samples: tiles through the network, blended, and averaged over folds."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from functools import partial

import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.utilities.helpers import empty_cache
from torch._dynamo import OptimizedModule

from nnunetv2_diffusion.inference.runtime import Runtime, choose_device, nnunets_threads
from nnunetv2_diffusion.inference.window import Prediction, SlidingWindow, TiledVolume
from nnunetv2_diffusion.networks import DiffusionNetwork
from nnunetv2_diffusion.sampling.chunks import cpu_batch_size
from nnunetv2_diffusion.sampling.ensembles import total_entropy

GPU_TILES = 4
TILES_PER_LOADING = 4  # of a fold's weights
UNCERTAINTY, DISAGREEMENT = ("uncertainty",), ("variance", "mutual_information")

Fused = tuple[torch.Tensor, torch.Tensor]  # logits and maps
TakeSamples = Callable[[torch.Tensor], None]


class TilePredictor(nnUNetPredictor):
    """nnU-Net's predictor as far as files do not matter; see `DiffusionPredictor`.

    Args:
        disagreement: also give the variance over samples and the mutual information.
        runtime: where and in which portions to compute.
        **kwargs: those of nnUNetPredictor, without the device.

    Attributes:
        map_names: the maps that `predict` returns, in their order.
        seconds, slices: what all predictions took together.

    Raises:
        ValueError: a step of the sliding window out of range, or a device that is not there.
    """

    def __init__(self, *, disagreement: bool = False, runtime: Runtime | None = None, **kwargs):
        self.runtime = runtime or Runtime()
        super().__init__(device=choose_device(self.runtime.device), **kwargs)
        if not 0 < self.tile_step_size <= 1:
            raise ValueError(f"-step_size must be above 0 and at most 1, not {self.tile_step_size:g}")
        self.disagreement = disagreement
        self.map_names = [*UNCERTAINTY, *(DISAGREEMENT if disagreement else ())]
        self.seconds = 0.0
        self.slices = 0

    @property
    def diffusion_network(self) -> DiffusionNetwork | None:
        """The network without torch.compile's wrapper; None for a model that does not sample."""
        network = self._plain_network
        return network if isinstance(network, DiffusionNetwork) else None

    @property
    def _plain_network(self) -> torch.nn.Module:
        return self.network._orig_mod if isinstance(self.network, OptimizedModule) else self.network

    @property
    def tile_batch(self) -> int:
        """How many tiles the network takes at a time where slices are predicted one by one."""
        if self.diffusion_network is None:  # nnU-Net's own mirroring takes them one by one
            return 1
        if self.runtime.slice_batch is not None:
            return self.runtime.slice_batch
        if self.device.type != "cpu":
            return GPU_TILES
        patch, samples = self.configuration_manager.patch_size, self.diffusion_network.sampling.samples
        return max(1, cpu_batch_size(*patch) // samples)

    def predict(self, data: torch.Tensor, take_samples: TakeSamples | None = None) -> Fused:
        """A preprocessed case, tile by tile, its logits those of nnUNetv2_predict to the last bit.

        Args:
            data: [C, z, y, x].
            take_samples: is given each fold's probabilities of its samples, half precision [S * K, z, y, x].

        Returns:
            Means over folds, on the CPU: logits [K, z, y, x] in half precision and the maps [M, z, y, x] of `map_names`
            in float32.
        """
        with nnunets_threads():
            return self._mean_over_folds([self._window.cut(data)], 1, take_samples)[0]

    def predict_slices(
        self, slices: Iterable[torch.Tensor], take_samples: TakeSamples | None = None
    ) -> Iterator[Fused]:
        """Logits [K, 1, h, w] and maps [M, 1, h, w] of each of the slices [C, 1, h, w], as `predict`'s up to rounding.

        Several tiles, also of several slices, go through the network together and share the loading of weights.

        Args:
            slices: preprocessed.
            take_samples: is given each slice's probabilities of its samples before its logits are, fold after fold,
                half precision [folds * S * K, 1, h, w].
        """
        pending: list[TiledVolume] = []
        at_a_time = max(self.tile_batch, TILES_PER_LOADING)
        for data in slices:
            pending.append(self._window.cut(data))
            if sum(len(volume.slicers) for volume in pending) >= at_a_time:
                yield from self._with_samples(pending, take_samples)
                pending = []
        if pending:
            yield from self._with_samples(pending, take_samples)

    def _with_samples(self, volumes: Sequence[TiledVolume], take_samples: TakeSamples | None) -> Iterator[Fused]:
        drawn: list[torch.Tensor] = []  # by fold, then by volume
        fused = self._mean_over_folds(volumes, self.tile_batch, None if take_samples is None else drawn.append)
        for number, one in enumerate(fused):
            if take_samples is not None:
                take_samples(torch.cat(drawn[number :: len(volumes)]))
            yield one

    @property
    def _window(self) -> SlidingWindow:
        return SlidingWindow(
            self.configuration_manager.patch_size,
            self._internal_get_sliding_window_slicers,
            self.device,
            self.use_gaussian,
            self.allow_tqdm,
        )

    def _mean_over_folds(
        self, volumes: Sequence[TiledVolume], tiles_at_a_time: int, take_samples: TakeSamples | None = None
    ) -> list[Fused]:
        # Outside of inference mode: buffers that it copied could not be loaded into outside of it.
        self.network = self.network.to(self.device).eval()
        folds = len(self.list_of_parameters)
        sums: list[Fused] = []
        for parameters in self.list_of_parameters:
            start = time.perf_counter()
            if folds > 1:
                self._plain_network.load_state_dict(parameters)
            predicted = self._predict_volumes(volumes, tiles_at_a_time, take_samples is not None)
            self.seconds += time.perf_counter() - start
            fused = [(logits, maps) for logits, maps, *_ in predicted]
            if take_samples is not None:
                for *_, samples in predicted:
                    take_samples(samples)
            del predicted  # the largest of all that is held, before the next fold's is made
            # one fold after another in half precision, as nnU-Net
            sums = [(a + c, b + d) for (a, b), (c, d) in zip(sums, fused, strict=True)] if sums else fused
        self.slices += sum(volume.slices for volume in volumes)
        return sums if folds == 1 else [(logits / folds, maps / folds) for logits, maps in sums]

    @torch.inference_mode()
    def _predict_volumes(self, volumes: Sequence[TiledVolume], tiles_at_a_time: int, samples: bool) -> list[Prediction]:
        """By the weights that are loaded; sums lie in main memory where the device does not hold them."""
        window, main_memory = self._window, torch.device("cpu")
        predict_tiles = partial(self._predict_tiles, samples=samples)
        with torch.autocast("cuda") if self.device.type == "cuda" else nullcontext():
            if self.perform_everything_on_device:
                try:
                    return window.predict(volumes, predict_tiles, tiles_at_a_time, self.device)
                except RuntimeError as error:
                    print(f"Prediction on the device failed ({error}); trying again with results in main memory")
                empty_cache(self.device)
            predicted = window.predict(volumes, predict_tiles, tiles_at_a_time, main_memory)
        empty_cache(self.device)
        return predicted

    def _predict_tiles(self, tiles: torch.Tensor, samples: bool) -> Prediction:
        """Logits [B, K, ...], maps [B, M, ...] and samples [B, S * K, ...] of tiles; of a plain nnU-Net of one."""
        network = self.diffusion_network
        if network is None:
            logits = self._internal_maybe_mirror_and_predict(tiles)
            probabilities = self.label_manager.inference_nonlin(logits[0].float())
            # the heads before the last two axes, where 3-D tiles have their slices
            entropy = total_entropy(probabilities.movedim(0, -3), self.label_manager.has_regions)
            return logits, entropy[None, None]
        prediction = network.predict(tiles, self.disagreement, samples)
        maps = torch.stack([getattr(prediction, name) for name in self.map_names], dim=1)
        drawn = [prediction.samples.transpose(0, 1).flatten(1, 2)] if samples else []
        return prediction.logits, maps, *drawn

    def timing(self) -> dict[str, float]:
        """Seconds and network evaluations a slice over all that was predicted so far (folds counted together)."""
        network = self.diffusion_network
        mirrorings = 2 ** len(self.allowed_mirroring_axes or ()) if self.use_mirroring else 1
        folds = len(self.list_of_parameters or [None])
        slices = max(self.slices, 1)
        evaluations = mirrorings * folds if network is None else network.network_evaluations / slices
        return {"seconds_per_slice": self.seconds / slices, "network_evaluations_per_slice": evaluations}
