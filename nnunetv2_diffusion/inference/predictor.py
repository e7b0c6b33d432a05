"""nnU-Net's predictor with sampling settings, and maps of the masks that it exports."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nnunetv2.inference.export_prediction import (
    convert_predicted_logits_to_segmentation_with_correct_shape,
    export_prediction_from_logits,
)
from torch._dynamo import OptimizedModule

from nnunetv2_diffusion.files import write_json
from nnunetv2_diffusion.inference.input_images import case_files, is_whole_mask
from nnunetv2_diffusion.inference.maps import (
    PreparedCase,
    check_reader_writer,
    is_written,
    maps_on_image_grid,
    write_maps,
)
from nnunetv2_diffusion.inference.member_maps import MemberMaps
from nnunetv2_diffusion.inference.preprocessing import Preprocessing
from nnunetv2_diffusion.inference.processes import Processes
from nnunetv2_diffusion.inference.runtime import Runtime
from nnunetv2_diffusion.inference.samples import SampleMasks
from nnunetv2_diffusion.inference.tile_predictor import FOLDS, MIRRORINGS, TilePredictor
from nnunetv2_diffusion.inference.trained_models import check_model_folder, read_model
from nnunetv2_diffusion.nnunet_names import CHECKPOINT, DATASET_FILE, MAPS, MEMBERS_FILE, PLANS_FILE, TIMING_FILE


class DiffusionPredictor(TilePredictor):
    """Predicts as nnU-Net does, with the same masks; for our trainers the sampling can be set and maps be written.

    It also takes a model of a plain nnU-Net trainer, 2-D or 3-D: its uncertainty is the entropy of its softmax, of
    several folds that of their mean, and its folds disagree, or the mirrorings of a single one.

    Args:
        sampling: sampling settings that replace the model's (names of `Sampling`).
        uncertainty: write `<case>_uncertainty.nii.gz` into the folder MAPS of the masks' folder.
        disagreement: also write `<case>_variance.nii.gz` and `<case>_mutual_information.nii.gz`.
        save_samples: write every sample's mask, see `samples`.
        runtime: where and in which portions to compute.
        **kwargs: those of nnUNetPredictor, without the device.

    Attributes:
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
        save_samples: bool = False,
        runtime: Runtime | None = None,
        **kwargs,
    ):
        super().__init__(disagreement=disagreement, runtime=runtime, **kwargs)
        self.overrides = {name: value for name, value in (sampling or {}).items() if value is not None}
        self.save_samples = save_samples
        self.writes_maps = uncertainty or disagreement
        self.model_folder: Path | None = None
        self.configuration_name: str | None = None

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
        if self.writes_maps or self.save_samples:
            check_reader_writer(self.plans_manager)
        self._configure_sampling()

    def manual_initialization(self, *arguments) -> None:
        """As nnU-Net's, with its arguments. Where nnUNet_compile asks for it the denoiser is compiled, as in training:
        not the sampling loop around it, which is Python and the same at every step."""
        super().manual_initialization(*arguments)
        network = self.diffusion_network
        if network is not None and isinstance(self.network, OptimizedModule):
            self.network = network
            network.denoiser.compile()

    def _configure_sampling(self) -> None:
        network = self.diffusion_network
        if network is None:
            named = ", ".join([*self.overrides, *["save_samples"] * self.save_samples])
            if named:
                raise ValueError(f"{self.trainer_name} does not sample, so it has no {named}; leave these flags out")
            if self.disagreement and self.members is None:
                raise ValueError(
                    f"{self.trainer_name} answers once with one fold and without mirroring, so nothing disagrees: take "
                    "several folds, allow mirroring, or leave --disagreement out"
                )
            return
        if not self.use_mirroring:
            self.overrides["mirror_samples"] = False
        network.sampling = network.sampling.updated(self.overrides, network.process)
        network.batch_size = self.runtime.batch_size
        network.precision = self.runtime.precision

    def predict_logits_from_preprocessed_data(self, data: torch.Tensor) -> torch.Tensor:
        """As nnU-Net's, see `predict`."""
        return self.predict(data)[0]

    def predict_from_data_iterator(self, data_iterator, save_probabilities=False, num_processes_segmentation_export=1):
        """As nnU-Net's, with the cases' maps, but where the system ends a process that works for it, it ends, too.

        Raises:
            OSError, RuntimeError: a mask could not be written, or the system ended a process.
        """
        managers = self.configuration_manager, self.plans_manager
        with Processes(num_processes_segmentation_export, "exports masks") as exports:
            calls = []
            for item in data_iterator:
                case = PreparedCase(item["data"], item["data_properties"], item["ofile"])
                print(f"predicting {case.name}")
                logits = self._predict_case(case).numpy()
                if case.output is None:
                    arguments = (logits, *reversed(managers), self.label_manager, case.properties, save_probabilities)
                    function = convert_predicted_logits_to_segmentation_with_correct_shape
                else:
                    arguments = (logits, case.properties, *managers, self.dataset_json, case.output, save_probabilities)
                    function = export_prediction_from_logits
                calls.append(exports.submit(function, *arguments))
            return [exports.result(call) for call in calls]

    def _internal_get_data_iterator_from_lists_of_filenames(self, images, previous, outputs, num_processes):
        """As nnU-Net's, with its arguments: the cases, prepared by processes that are no longer waited for where the
        system ends them."""
        managers = self.plans_manager, self.configuration_manager
        cases = zip(images, previous or [None] * len(images), outputs or [None] * len(images), strict=True)
        by = Preprocessing(*managers, self.dataset_json, self.verbose_preprocessing)
        return by.cases(cases, min(num_processes, len(images)))

    def _predict_case(self, case: PreparedCase) -> torch.Tensor:
        """The logits of a case; its maps and samples are written, and the times of all cases until now."""
        written = case.output is not None
        managers = self.plans_manager, self.configuration_manager
        samples = SampleMasks(case, *managers, self.label_manager) if self.save_samples and written else None
        members = self.new_member_maps(case.properties) if self.writes_maps and written else None
        taking = samples or members
        logits, maps = self.predict(case.data, None if taking is None else taking.add)
        if self.writes_maps and written:
            write_maps(self.maps_on_image_grid(maps, members, case.properties), self.map_names, case)
            write_json(self.described_members(), Path(case.output).parent / MAPS / MEMBERS_FILE)
        if samples is not None:
            samples.write()
        if written:  # before the mask, so that none lies there without
            write_json(self.timing(), Path(case.output).parent / TIMING_FILE)
        return logits

    def new_member_maps(self, properties: dict[str, Any]) -> MemberMaps | None:
        """What takes in the members of a case whose maps are made of them; None for our models, which make their own,
        and for a single fold whose mirrorings are not to be compared."""
        if self.compared in (FOLDS, MIRRORINGS):
            return MemberMaps(properties, self.plans_manager, self.configuration_manager, self.label_manager)
        return None

    def maps_on_image_grid(
        self, maps: torch.Tensor, members: MemberMaps | None, properties: dict[str, Any]
    ) -> np.ndarray:
        """The maps of `map_names` on a case's image grid, float32 [M, slices, rows, columns], given those of `predict`
        and its members if they were taken. The uncertainty of a single fold is that of its softmax in any case."""
        plain = maps_on_image_grid(maps, properties, self.plans_manager, self.configuration_manager)
        if members is None:
            return plain
        found = members.maps()
        if self.compared == MIRRORINGS:
            found["uncertainty"] = plain[0]
        return np.stack([found[name] for name in self.map_names])

    def _manage_input_and_output_lists(
        self, images, outputs, previous=None, overwrite=True, part_id=0, num_parts=1, save_probabilities=False
    ):
        """As nnU-Net's, but hidden files are no images; without `overwrite`, a case is predicted again that lacks a map
        or its samples, or whose mask is half-written."""
        if isinstance(images, str):
            cases = case_files(images, self.dataset_json["file_ending"])
            images = [[str(file) for file in files] for files in cases.values()]
        lists = super()._manage_input_and_output_lists(images, outputs, previous, True, part_id, num_parts)
        if overwrite or lists[1] is None:
            return lists
        ending, reader = self.dataset_json["file_ending"], self.plans_manager.image_reader_writer_class()
        endings = [ending, *([".npz"] * save_probabilities)]
        maps = self.map_names if self.writes_maps else []
        todo = [
            not (
                is_written(output, endings, maps, self.save_samples)
                and is_whole_mask(Path(f"{output}{ending}"), reader)
            )
            for output in lists[1]
        ]
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
        for item in self._internal_get_data_iterator_from_lists_of_filenames(images, previous, outputs, 0):
            case = PreparedCase(item["data"], item["data_properties"], item["ofile"])
            logits = self._predict_case(case)
            managers = (self.configuration_manager, self.plans_manager)
            export_prediction_from_logits(
                logits, case.properties, *managers, self.dataset_json, case.output, save_probabilities
            )
