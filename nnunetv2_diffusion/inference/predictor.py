"""nnU-Net's predictor with sampling settings, and maps of the masks that it exports."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from nnunetv2.inference.data_iterators import PreprocessAdapter
from nnunetv2.inference.export_prediction import export_prediction_from_logits
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.utilities.helpers import empty_cache
from torch._dynamo import OptimizedModule

from nnunetv2_diffusion.files import write_json
from nnunetv2_diffusion.inference.maps import PreparedCase, check_reader_writer, is_written, write_maps
from nnunetv2_diffusion.inference.runtime import Runtime, choose_device, nnunets_threads
from nnunetv2_diffusion.inference.trained_models import check_model_folder, read_model
from nnunetv2_diffusion.inference.window import SlidingWindow, TiledVolume
from nnunetv2_diffusion.networks import DiffusionNetwork
from nnunetv2_diffusion.nnunet_names import CHECKPOINT, DATASET_FILE, PLANS_FILE, TIMING_FILE
from nnunetv2_diffusion.sampling.chunks import cpu_batch_size
from nnunetv2_diffusion.sampling.ensembles import total_entropy

GPU_TILES = 4
TILES_PER_LOADING = 4  # of a fold's weights
UNCERTAINTY, DISAGREEMENT = ("uncertainty",), ("variance", "mutual_information")

Prediction = tuple[torch.Tensor, torch.Tensor]


class DiffusionPredictor(nnUNetPredictor):
    """Predicts as nnU-Net does, with the same masks; for our trainers the sampling can be set and maps be written.

    It also takes a model of a plain nnU-Net trainer, 2-D or 3-D, whose uncertainty is the entropy of its softmax.

    Args:
        sampling: sampling settings that replace the model's (names of `Sampling`).
        uncertainty: write `<case>_uncertainty.nii.gz` into the folder MAPS of the masks' folder.
        disagreement: also write `<case>_variance.nii.gz` and `<case>_mutual_information.nii.gz`.
        runtime: where and in which portions to compute.
        **kwargs: those of nnUNetPredictor, without the device.

    Attributes:
        map_names: the maps that `predict` returns, in their order.
        seconds, slices: what all predictions took together.

    Raises:
        ValueError: a step of the sliding window out of range, or a device that is not there.
    """

    def __init__(
        self,
        sampling: Mapping[str, Any] | None = None,
        *,
        uncertainty: bool = False,
        disagreement: bool = False,
        runtime: Runtime | None = None,
        **kwargs,
    ):
        self.runtime = runtime or Runtime()
        super().__init__(device=choose_device(self.runtime.device), **kwargs)
        if not 0 < self.tile_step_size <= 1:
            raise ValueError(f"-step_size must be above 0 and at most 1, not {self.tile_step_size:g}")
        self.overrides = {name: value for name, value in (sampling or {}).items() if value is not None}
        self.disagreement = disagreement
        self.writes_maps = uncertainty or disagreement
        self.map_names = [*UNCERTAINTY, *(DISAGREEMENT if disagreement else ())]
        self.model_folder: Path | None = None
        self.configuration_name: str | None = None
        self.seconds = 0.0
        self.slices = 0

    def initialize_from_trained_model_folder(
        self, model_training_output_dir, use_folds, checkpoint_name: str = CHECKPOINT
    ):
        """As nnU-Net's, but our trainers are always found and checkpoints are read as data.

        Raises:
            FileNotFoundError: no plans or no checkpoint there, with what to train.
            ValueError: sampling settings for a model that does not sample, or a checkpoint that is refused.
        """
        folder = Path(model_training_output_dir)
        folds = [use_folds] if isinstance(use_folds, str) else use_folds
        check_model_folder(folder, folds, checkpoint_name)
        if folds is None:
            folds = self.auto_detect_available_folds(str(folder), checkpoint_name)
        model = read_model(folder, folds, checkpoint_name, self.runtime.trust)
        self.manual_initialization(*model.for_nnunet())
        self.model_folder = folder
        self.configuration_name = model.configuration_name
        if self.writes_maps:
            check_reader_writer(self.plans_manager)
        self._configure_sampling()

    def _configure_sampling(self) -> None:
        network = self.diffusion_network
        if network is None:
            if self.overrides or self.disagreement:
                named = ", ".join([*self.overrides, *(["disagreement"] * self.disagreement)])
                raise ValueError(f"{self.trainer_name} does not sample, so it has no {named}; leave these flags out")
            return
        if not self.use_mirroring:
            self.overrides["mirror_samples"] = False
        network.sampling = network.sampling.updated(self.overrides, network.process)
        network.batch_size = self.runtime.batch_size
        network.precision = self.runtime.precision

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

    def predict(self, data: torch.Tensor) -> Prediction:
        """A preprocessed case, tile by tile, its logits those of nnUNetv2_predict to the last bit.

        Args:
            data: [C, z, y, x].

        Returns:
            Means over folds, on the CPU: logits [K, z, y, x] in half precision and the maps [M, z, y, x] of `map_names`
            in float32.
        """
        with nnunets_threads():
            return self._mean_over_folds([self._window.cut(data)], tiles_at_a_time=1)[0]

    def predict_slices(self, slices: Iterable[torch.Tensor]) -> Iterator[Prediction]:
        """Logits [K, 1, h, w] and maps [M, 1, h, w] of each of the slices [C, 1, h, w], as `predict`'s up to rounding.

        Several tiles, also of several slices, go through the network together and share the loading of weights.
        """
        pending: list[TiledVolume] = []
        at_a_time = max(self.tile_batch, TILES_PER_LOADING)
        for data in slices:
            pending.append(self._window.cut(data))
            if sum(len(volume.slicers) for volume in pending) >= at_a_time:
                yield from self._mean_over_folds(pending, self.tile_batch)
                pending = []
        if pending:
            yield from self._mean_over_folds(pending, self.tile_batch)

    @property
    def _window(self) -> SlidingWindow:
        return SlidingWindow(
            self.configuration_manager.patch_size,
            self._internal_get_sliding_window_slicers,
            self.device,
            self.use_gaussian,
            self.allow_tqdm,
        )

    def _mean_over_folds(self, volumes: Sequence[TiledVolume], tiles_at_a_time: int) -> list[Prediction]:
        start = time.perf_counter()
        # Outside of inference mode: buffers that it copied could not be loaded into outside of it.
        self.network = self.network.to(self.device).eval()
        folds = len(self.list_of_parameters)
        sums: list[Prediction] = []
        for parameters in self.list_of_parameters:
            if folds > 1:
                self._plain_network.load_state_dict(parameters)
            predicted = self._predict_volumes(volumes, tiles_at_a_time)
            # one fold after another in half precision, as nnU-Net
            sums = [(a + c, b + d) for (a, b), (c, d) in zip(sums, predicted, strict=True)] if sums else predicted
        self.seconds += time.perf_counter() - start
        self.slices += sum(volume.slices for volume in volumes)
        return sums if folds == 1 else [(logits / folds, maps / folds) for logits, maps in sums]

    @torch.inference_mode()
    def _predict_volumes(self, volumes: Sequence[TiledVolume], tiles_at_a_time: int) -> list[Prediction]:
        """By the weights that are loaded; sums lie in main memory where the device does not hold them."""
        window, main_memory = self._window, torch.device("cpu")
        with torch.autocast("cuda") if self.device.type == "cuda" else nullcontext():
            if self.perform_everything_on_device:
                try:
                    return window.predict(volumes, self._predict_tiles, tiles_at_a_time, self.device)
                except RuntimeError as error:
                    print(f"Prediction on the device failed ({error}); trying again with results in main memory")
                empty_cache(self.device)
            predicted = window.predict(volumes, self._predict_tiles, tiles_at_a_time, main_memory)
        empty_cache(self.device)
        return predicted

    def _predict_tiles(self, tiles: torch.Tensor) -> Prediction:
        """Logits [B, K, ...] and maps [B, M, ...] of tiles [B, C, ...]; of a plain nnU-Net one tile at a time."""
        network = self.diffusion_network
        if network is None:
            logits = self._internal_maybe_mirror_and_predict(tiles)
            probabilities = self.label_manager.inference_nonlin(logits[0].float())
            # the heads before the last two axes, where 3-D tiles have their slices
            entropy = total_entropy(probabilities.movedim(0, -3), self.label_manager.has_regions)
            return logits, entropy[None, None]
        prediction = network.predict(tiles, self.disagreement)
        return prediction.logits, torch.stack([getattr(prediction, name) for name in self.map_names], dim=1)

    def predict_logits_from_preprocessed_data(self, data: torch.Tensor | PreparedCase) -> torch.Tensor:
        """As nnU-Net's, see `predict`; the maps of a `PreparedCase` are written."""
        if not isinstance(data, PreparedCase):
            return self.predict(data)[0]
        logits, maps = self.predict(data.data)
        self._write_maps(maps, data)
        return logits

    def predict_from_data_iterator(self, data_iterator, save_probabilities=False, num_processes_segmentation_export=1):
        """As nnU-Net's, with the cases' maps."""
        cases = (
            {**item, "data": PreparedCase(item["data"], item["data_properties"], item["ofile"])}
            for item in data_iterator
        )
        return super().predict_from_data_iterator(cases, save_probabilities, num_processes_segmentation_export)

    def _write_maps(self, maps: torch.Tensor, case: PreparedCase) -> None:
        if self.writes_maps and case.output is not None:
            write_maps(maps, self.map_names, case, self.plans_manager, self.configuration_manager)

    def _manage_input_and_output_lists(
        self, images, outputs, previous=None, overwrite=True, part_id=0, num_parts=1, save_probabilities=False
    ):
        """As nnU-Net's; without `overwrite`, a case that lacks one of its maps is predicted again."""
        lists = super()._manage_input_and_output_lists(images, outputs, previous, True, part_id, num_parts)
        if overwrite or lists[1] is None:
            return lists
        endings = [self.dataset_json["file_ending"], *([".npz"] * save_probabilities)]
        maps = self.map_names if self.writes_maps else []
        todo = [not is_written(output, endings, maps) for output in lists[1]]
        return tuple(list(itertools.compress(column, todo)) for column in lists)

    def predict_from_files_sequential(
        self,
        list_of_lists_or_source_folder,
        output_folder_or_list_of_truncated_output_files,
        save_probabilities=False,
        overwrite=True,
        folder_with_segs_from_prev_stage=None,
    ):
        """nnU-Net's prediction in this process alone, with maps.

        Args: those of nnU-Net. Masks are written; to get arrays back use nnU-Net's `predict_single_npy_array`.
        """
        arguments = {name: value for name, value in locals().items() if name not in ("self", "__class__")}
        images, output = list_of_lists_or_source_folder, output_folder_or_list_of_truncated_output_files
        folder = Path(output[0]).parent if isinstance(output, list) else Path(output)
        folder.mkdir(parents=True, exist_ok=True)
        # nnU-Net's postprocessing and evaluation read them.
        write_json(dict(sorted(arguments.items())), folder / "predict_from_raw_data_args.json", indent=4)
        write_json(self.dataset_json, folder / DATASET_FILE, indent=4)
        write_json(self.plans_manager.plans, folder / PLANS_FILE, indent=4)
        images, outputs, previous = self._manage_input_and_output_lists(
            images, output, folder_with_segs_from_prev_stage, overwrite, save_probabilities=save_probabilities
        )
        preprocessor = self.configuration_manager.preprocessor_class(verbose=self.verbose)
        items = PreprocessAdapter(
            images, previous, preprocessor, outputs, self.plans_manager, self.dataset_json, self.configuration_manager
        )
        for item in items if images else ():
            case = PreparedCase(item["data"].float(), item["data_properties"], item["ofile"])
            logits, maps = self.predict(case.data)
            self._write_maps(maps, case)
            managers = (self.configuration_manager, self.plans_manager)
            export_prediction_from_logits(
                logits, case.properties, *managers, self.dataset_json, case.output, save_probabilities
            )

    def timing(self) -> dict[str, float]:
        """Seconds and network evaluations a slice over all that was predicted so far (folds counted together)."""
        network = self.diffusion_network
        mirrorings = 2 ** len(self.allowed_mirroring_axes or ()) if self.use_mirroring else 1
        folds = len(self.list_of_parameters or [None])
        slices = max(self.slices, 1)
        evaluations = mirrorings * folds if network is None else network.network_evaluations / slices
        return {"seconds_per_slice": self.seconds / slices, "network_evaluations_per_slice": evaluations}

    def write_timing(self, folder: Path) -> None:
        """`timing.json` in the output folder; nothing where nothing was predicted."""
        if self.slices:
            write_json(self.timing(), folder / TIMING_FILE)
