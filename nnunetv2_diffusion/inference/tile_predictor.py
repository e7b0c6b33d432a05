"""From preprocessed cases to logits, maps and samples: tiles through the network, blended, and averaged over folds."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any

import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.utilities.helpers import empty_cache
from torch._dynamo import OptimizedModule

from nnunetv2_diffusion.inference.runtime import Runtime, choose_device, nnunets_threads
from nnunetv2_diffusion.inference.window import Prediction, SlidingWindow, TiledVolume
from nnunetv2_diffusion.networks import DiffusionNetwork
from nnunetv2_diffusion.nnunet_names import DISAGREEMENT, SAMPLES
from nnunetv2_diffusion.sampling.chunks import cpu_batch_size
from nnunetv2_diffusion.sampling.ensembles import total_entropy

GPU_TILES = 4
TILES_PER_LOADING = 4  # of a fold's weights
FOLDS, MIRRORINGS = "folds", "mirrorings"

Fused = tuple[torch.Tensor, torch.Tensor]  # logits and maps
TakeMembers = Callable[[torch.Tensor], None]


class TilePredictor(nnUNetPredictor):
    """nnU-Net's predictor as far as files do not matter; see `DiffusionPredictor`.

    Args:
        disagreement: also give the variance over members and the mutual information.
        runtime: where and in which portions to compute.
        **kwargs: those of nnUNetPredictor, without the device.

    Attributes:
        disagreement: as given; it may be changed until the model is initialized.
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
    def map_names(self) -> list[str]:
        """The maps of a case, in their order."""
        return ["uncertainty", *(DISAGREEMENT if self.disagreement else ())]

    @property
    def _folds(self) -> int:
        return len(self.list_of_parameters or [None])

    @property
    def _mirrorings(self) -> int:
        return 2 ** len(self.allowed_mirroring_axes or ()) if self.use_mirroring else 1

    @property
    def members(self) -> str | None:
        """What answers differently: the samples of our models; a plain nnU-Net's folds, or of a single one the
        mirrorings; None where there is nothing but one answer."""
        if self.diffusion_network is not None:
            return SAMPLES
        if self._folds > 1:
            return FOLDS
        return MIRRORINGS if self._mirrorings > 1 else None

    @property
    def compared(self) -> str | None:
        """The members that the maps compare: mirrorings for disagreement alone."""
        return self.members if self.members != MIRRORINGS or self.disagreement else None

    def described_members(self) -> dict[str, Any]:
        """For a json file: the members that the maps compare, how many they are (of samples: in each fold), and how
        many folds there are."""
        network = self.diffusion_network
        number = self._folds if self.compared == FOLDS else self._mirrorings
        if network is not None:
            number = network.sampling.samples
        known = {"number_of_members": number} if self.compared else {}
        return {"members": self.compared, **known, "number_of_folds": self._folds}

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

    def predict(self, data: torch.Tensor, take_members: TakeMembers | None = None) -> Fused:
        """A preprocessed case, tile by tile, its logits those of nnUNetv2_predict to the last bit.

        Args:
            data: [C, z, y, x].
            take_members: is given each fold's members, half precision [N * K, z, y, x]: probabilities of samples; of
                a plain nnU-Net, which does not sample, its logits, or those of its mirrorings (see `compared`).

        Returns:
            Means over folds, on the CPU: logits [K, z, y, x] in half precision and maps [M, z, y, x] in float32, those
            of `map_names`; of a plain nnU-Net the entropy alone.
        """
        with nnunets_threads():
            return self._mean_over_folds([self._window.cut(data)], 1, take_members)[0]

    def predict_slices(
        self, slices: Iterable[torch.Tensor], take_members: TakeMembers | None = None
    ) -> Iterator[Fused]:
        """Logits [K, 1, h, w] and maps [M, 1, h, w] of each of the slices [C, 1, h, w], as `predict`'s up to rounding.

        Several tiles, also of several slices, go through the network together and share the loading of weights.

        Args:
            slices: preprocessed.
            take_members: is given each slice's members before its logits are, fold after fold, half precision
                [folds * N * K, 1, h, w].
        """
        pending: list[TiledVolume] = []
        at_a_time = max(self.tile_batch, TILES_PER_LOADING)
        for data in slices:
            pending.append(self._window.cut(data))
            if sum(len(volume.slicers) for volume in pending) >= at_a_time:
                yield from self._with_members(pending, take_members)
                pending = []
        if pending:
            yield from self._with_members(pending, take_members)

    def _with_members(self, volumes: Sequence[TiledVolume], take_members: TakeMembers | None) -> Iterator[Fused]:
        drawn: list[torch.Tensor] = []  # by fold, then by volume
        fused = self._mean_over_folds(volumes, self.tile_batch, None if take_members is None else drawn.append)
        for number, one in enumerate(fused):
            if take_members is not None:
                take_members(torch.cat(drawn[number :: len(volumes)]))
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
        self, volumes: Sequence[TiledVolume], tiles_at_a_time: int, take_members: TakeMembers | None = None
    ) -> list[Fused]:
        # Outside of inference mode: buffers that it copied could not be loaded into outside of it.
        self.network = self.network.to(self.device).eval()
        folds = len(self.list_of_parameters)
        sums: list[Fused] = []
        for parameters in self.list_of_parameters:
            start = time.perf_counter()
            if folds > 1:
                self._plain_network.load_state_dict(parameters)
            predicted = self._predict_volumes(volumes, tiles_at_a_time, take_members is not None)
            self.seconds += time.perf_counter() - start
            fused = [(logits, maps) for logits, maps, *_ in predicted]
            if take_members is not None:
                for logits, _, *members in predicted:
                    take_members(members[0] if members else logits)
            del predicted  # the largest of all that is held, before the next fold's is made
            # one fold after another in half precision, as nnU-Net
            sums = [(a + c, b + d) for (a, b), (c, d) in zip(sums, fused, strict=True)] if sums else fused
        self.slices += sum(volume.slices for volume in volumes)
        return sums if folds == 1 else [(logits / folds, maps / folds) for logits, maps in sums]

    @torch.inference_mode()
    def _predict_volumes(self, volumes: Sequence[TiledVolume], tiles_at_a_time: int, members: bool) -> list[Prediction]:
        """By the weights that are loaded; sums lie in main memory where the device does not hold them."""
        window, main_memory = self._window, torch.device("cpu")
        predict_tiles = partial(self._predict_tiles, members=members)
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

    def _predict_tiles(self, tiles: torch.Tensor, members: bool) -> Prediction:
        """Logits [B, K, ...], maps [B, M, ...] and members [B, N * K, ...] of tiles; of a plain nnU-Net of one."""
        network = self.diffusion_network
        if network is None:
            return self._predict_plainly(tiles, members and self.compared == MIRRORINGS)
        prediction = network.predict(tiles, self.disagreement, members)
        maps = torch.stack([getattr(prediction, name) for name in self.map_names], dim=1)
        drawn = [prediction.samples.transpose(0, 1).flatten(1, 2)] if members else []
        return prediction.logits, maps, *drawn

    def _predict_plainly(self, tile: torch.Tensor, mirrorings: bool) -> Prediction:
        """nnU-Net's logits [1, K, ...] of a tile and their entropy; with `mirrorings` the logits of each as well."""
        views: list[torch.Tensor] = []
        if mirrorings:
            views = self._mirrored_logits(tile)
            logits = views[0].clone()  # summed in nnU-Net's order, for logits that are its own to the last bit
            for view in views[1:]:
                logits += view
            logits /= len(views)
        else:
            logits = self._internal_maybe_mirror_and_predict(tile)
        probabilities = self.label_manager.inference_nonlin(logits[0].float())
        # the heads before the last two axes, where 3-D tiles have their slices
        entropy = total_entropy(probabilities.movedim(0, -3), self.label_manager.has_regions)
        return logits, entropy[None, None], *([torch.cat(views, dim=1)] if views else [])

    def _mirrored_logits(self, tile: torch.Tensor) -> list[torch.Tensor]:
        """Logits [1, K, ...] of every mirroring, turned back, in the order in which nnU-Net sums them."""
        axes = [axis + 2 for axis in self.allowed_mirroring_axes]
        flips = itertools.chain.from_iterable(itertools.combinations(axes, n) for n in range(len(axes) + 1))
        return [torch.flip(self.network(torch.flip(tile, flip)), flip) for flip in flips]

    def timing(self) -> dict[str, float]:
        """Seconds and network evaluations a slice over all that was predicted so far (folds counted together)."""
        network = self.diffusion_network
        slices = max(self.slices, 1)
        evaluations = self._mirrorings * self._folds if network is None else network.network_evaluations / slices
        return {"seconds_per_slice": self.seconds / slices, "network_evaluations_per_slice": evaluations}
