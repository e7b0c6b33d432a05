"""nnU-Net's predictor with sampling settings, and maps beside the masks that it exports."""

from __future__ import annotations

import itertools
import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from acvl_utils.cropping_and_padding.padding import pad_nd_image
from batchgenerators.utilities.file_and_folder_operations import save_json
from nnunetv2.inference.data_iterators import PreprocessAdapter
from nnunetv2.inference.export_prediction import export_prediction_from_logits
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from torch._dynamo import OptimizedModule

from nnunetv2_diffusion.inference.checkpoints import read_model
from nnunetv2_diffusion.inference.maps import blend_tiles, check_reader_writer, maps_on_image_grid, write_map
from nnunetv2_diffusion.networks import DiffusionNetwork
from nnunetv2_diffusion.sampling.ensembles import total_entropy
from nnunetv2_diffusion.sampling.precision import check_precision

EXTENSION = Path(__file__).resolve().parent.parent / "extension"


class DiffusionPredictor(nnUNetPredictor):
    """Predicts as nnU-Net does, with the same masks; for our trainers the sampling can be set and maps be written.

    It also takes a model of a plain nnU-Net trainer, whose uncertainty is the entropy of its softmax.

    Args:
        overrides: sampling settings that replace the model's (names of `Sampling`).
        uncertainty: write `<case>_uncertainty.nii.gz` beside each mask.
        disagreement: also write `<case>_variance.nii.gz` and `<case>_mutual_information.nii.gz`.
        batch_size: how many samples the denoiser takes at a time; None takes all on a GPU, a cache's fill on a CPU.
        precision: of the denoiser: "float32", "bfloat16", or "auto", as nnUNetv2_predict with the same model.
        **kwargs: those of nnUNetPredictor.
    """

    def __init__(
        self,
        overrides: Mapping[str, Any] | None = None,
        uncertainty: bool = False,
        disagreement: bool = False,
        batch_size: int | None = None,
        precision: str = "auto",
        **kwargs,
    ):
        super().__init__(**kwargs)
        if not 0 < self.tile_step_size <= 1:
            raise ValueError(f"-step_size must be above 0 and at most 1, not {self.tile_step_size:g}")
        if batch_size is not None and batch_size < 1:
            raise ValueError(f"--batch-size must be at least 1, not {batch_size}")
        self.overrides = {name: value for name, value in (overrides or {}).items() if value is not None}
        self.batch_size = batch_size
        self.precision = check_precision(precision)
        self.disagreement = disagreement
        self.map_names = ["uncertainty"] * (uncertainty or disagreement)
        if disagreement:
            self.map_names += ["variance", "mutual_information"]
        self.model_folder: Path | None = None
        self.configuration_name: str | None = None
        self.maps: torch.Tensor | None = None
        self.seconds = 0.0
        self.slices = 0
        self._tile_maps: list[torch.Tensor] = []
        self._window_maps: list[torch.Tensor] = []

    def initialize_from_trained_model_folder(
        self, model_training_output_dir, use_folds, checkpoint_name="checkpoint_final.pth", trust=False
    ):
        """As nnU-Net's, but our trainers are found without nnUNet_extTrainer and checkpoints are read as data.

        Args: those of nnU-Net, and
            trust: open checkpoints that could run code, see `checkpoints.load_checkpoint`.

        Raises:
            FileNotFoundError: no plans or no checkpoint there, with what to train.
            ValueError: sampling settings for a model that does not sample, or a checkpoint that is refused.
        """
        folder = Path(model_training_output_dir)
        _check_model_folder(folder, use_folds, checkpoint_name)
        make_trainers_known()
        if use_folds is None:
            use_folds = self.auto_detect_available_folds(str(folder), checkpoint_name)
        model = read_model(folder, [use_folds] if isinstance(use_folds, str) else use_folds, checkpoint_name, trust)
        self.manual_initialization(
            model.network,
            model.plans_manager,
            model.configuration_manager,
            model.parameters,
            model.dataset_json,
            model.trainer_name,
            model.mirroring_axes,
        )
        self.model_folder = folder
        self.configuration_name = model.configuration_name
        self._configure_sampling()

    def _configure_sampling(self) -> None:
        if self.map_names:
            check_reader_writer(self.plans_manager)
        network = self.diffusion_network
        if network is None:
            if self.overrides or self.disagreement:
                named = ", ".join([*self.overrides, *(["disagreement"] * self.disagreement)])
                raise ValueError(f"{self.trainer_name} does not sample, so it has no {named}; leave these flags out")
            return
        if not self.use_mirroring:
            self.overrides["mirror_samples"] = False
        network.sampling = network.sampling.updated(self.overrides, network.process)
        network.batch_size = self.batch_size
        network.precision = self.precision

    @property
    def diffusion_network(self) -> DiffusionNetwork | None:
        """The network without torch.compile's wrapper; None for a model that does not sample."""
        network = self.network._orig_mod if isinstance(self.network, OptimizedModule) else self.network
        return network if isinstance(network, DiffusionNetwork) else None

    @torch.inference_mode()
    def _internal_maybe_mirror_and_predict(self, x: torch.Tensor) -> torch.Tensor:
        network = self.diffusion_network
        if network is None:
            logits = super()._internal_maybe_mirror_and_predict(x)
            probabilities = self.label_manager.inference_nonlin(logits[0].float())
            self._tile_maps.append(total_entropy(probabilities, self.label_manager.has_regions)[None].cpu())
            return logits
        prediction = network.predict(x, self.disagreement)
        self._tile_maps.append(
            torch.stack([getattr(prediction, name)[0] for name in self.map_names or ["uncertainty"]]).cpu()
        )
        return prediction.logits

    @torch.inference_mode()
    def _internal_predict_sliding_window_return_logits(self, data, slicers, do_on_device=True):
        self._tile_maps = []
        logits = super()._internal_predict_sliding_window_return_logits(data, slicers, do_on_device)
        self._window_maps.append(blend_tiles(self._tile_maps, slicers, data.shape[1:], self.use_gaussian))
        return logits

    @torch.inference_mode()
    def predict_sliding_window_return_logits(self, input_image: torch.Tensor) -> torch.Tensor:
        """nnU-Net's logits; the maps of the same window are kept aside."""
        logits = super().predict_sliding_window_return_logits(input_image)
        _, revert_padding = pad_nd_image(
            input_image[:1], self.configuration_manager.patch_size, "constant", {"value": 0}, True, None
        )
        self._window_maps[-1] = self._window_maps[-1][(slice(None), *revert_padding[1:])]
        return logits

    def predict_logits_from_preprocessed_data(self, data: torch.Tensor) -> torch.Tensor:
        """nnU-Net's logits, mean over folds; `self.maps` holds the maps [M, slices, rows, columns], mean over folds."""
        self._window_maps = []
        start = time.perf_counter()
        logits = super().predict_logits_from_preprocessed_data(data)
        self.seconds += time.perf_counter() - start
        self.slices += data.shape[1]
        self.maps = torch.stack(self._window_maps).mean(dim=0)
        return logits

    def predict_from_data_iterator(self, data_iterator, save_probabilities=False, num_processes_segmentation_export=1):
        """As nnU-Net's; each case's maps are written when the next case is asked for."""
        return super().predict_from_data_iterator(
            self._exporting_maps(data_iterator), save_probabilities, num_processes_segmentation_export
        )

    def _exporting_maps(self, items: Iterable[dict]) -> Iterator[dict]:
        for item in items:
            output, properties = item["ofile"], item["data_properties"]
            yield item
            if output is not None:
                self._export_maps(output, properties)

    def _export_maps(self, output_file_truncated: str, properties: dict) -> None:
        if not self.map_names:
            return
        arrays = maps_on_image_grid(self.maps, properties, self.plans_manager, self.configuration_manager)
        for name, values in zip(self.map_names, arrays, strict=True):
            write_map(values, properties, Path(f"{output_file_truncated}_{name}.nii.gz"))

    def _manage_input_and_output_lists(
        self,
        list_of_lists_or_source_folder,
        output_folder_or_list_of_truncated_output_files,
        folder_with_segs_from_prev_stage=None,
        overwrite=True,
        part_id=0,
        num_parts=1,
        save_probabilities=False,
    ):
        """As nnU-Net's; without `overwrite`, a case that lacks one of its maps is predicted again."""
        lists = super()._manage_input_and_output_lists(
            list_of_lists_or_source_folder,
            output_folder_or_list_of_truncated_output_files,
            folder_with_segs_from_prev_stage,
            True,
            part_id,
            num_parts,
        )
        if overwrite or lists[1] is None:
            return lists
        endings = [self.dataset_json["file_ending"], *(f"_{name}.nii.gz" for name in self.map_names)]
        endings += [".npz"] * save_probabilities
        todo = [not all(Path(f"{output}{ending}").is_file() for ending in endings) for output in lists[1]]
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
        output = output_folder_or_list_of_truncated_output_files
        folder = Path(output[0]).parent if isinstance(output, list) else Path(output)
        folder.mkdir(parents=True, exist_ok=True)
        # nnU-Net's postprocessing and evaluation read them.
        save_json(arguments, str(folder / "predict_from_raw_data_args.json"))
        save_json(self.dataset_json, str(folder / "dataset.json"), sort_keys=False)
        save_json(self.plans_manager.plans, str(folder / "plans.json"), sort_keys=False)
        images, outputs, previous = self._manage_input_and_output_lists(
            list_of_lists_or_source_folder,
            output_folder_or_list_of_truncated_output_files,
            folder_with_segs_from_prev_stage,
            overwrite,
            save_probabilities=save_probabilities,
        )
        preprocessor = self.configuration_manager.preprocessor_class(verbose=self.verbose)
        items = PreprocessAdapter(
            images, previous, preprocessor, outputs, self.plans_manager, self.dataset_json, self.configuration_manager
        )
        for item in self._exporting_maps(items) if images else ():
            logits = self.predict_logits_from_preprocessed_data(item["data"].float()).cpu()
            export_prediction_from_logits(
                logits,
                item["data_properties"],
                self.configuration_manager,
                self.plans_manager,
                self.dataset_json,
                item["ofile"],
                save_probabilities,
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
            (folder / "timing.json").write_text(json.dumps(self.timing(), indent=2))


def make_trainers_known() -> None:
    """Let nnU-Net find our trainers by name, beside those that nnUNet_extTrainer names already."""
    known = [folder for folder in os.environ.get("nnUNet_extTrainer", "").split(os.pathsep) if folder]
    if str(EXTENSION) not in known:
        os.environ["nnUNet_extTrainer"] = os.pathsep.join([*known, str(EXTENSION)])


def _check_model_folder(folder: Path, folds, checkpoint_name: str) -> None:
    for name in ("plans.json", "dataset.json"):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"{folder} holds no {name}: it is not the folder of a trained model; train first")
    wanted = [f"fold_{fold}" for fold in folds] if folds is not None else ["fold_*"]
    for pattern in wanted:
        if not list(folder.glob(f"{pattern}/{checkpoint_name}")):
            raise FileNotFoundError(f"{folder / pattern / checkpoint_name} does not exist; train that fold first")
