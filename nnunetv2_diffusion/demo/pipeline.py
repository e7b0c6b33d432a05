"""The demo: from SPIDER's files to scored masks of unseen patients, through the commands that a user would type."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nnunetv2_diffusion.demo.models import BASELINE, TIMESTEPS, Model, chosen_models
from nnunetv2_diffusion.demo.phantom import write_phantoms
from nnunetv2_diffusion.demo.pictures import draw_cases
from nnunetv2_diffusion.demo.runner import Runner, Stage
from nnunetv2_diffusion.demo.scores import describe_scores, score_models

DATASET, DATASET_FOLDER = "503", "Dataset503_SPIDER_T1wT2w"
PIXELS, SPACING = "128", "2.2"  # the phantoms' field of view of 280 mm
SERIES = re.compile(r"(\d+)_(t1|t2|t2_SPACE)\.mha")


@dataclass(frozen=True)
class Demo:
    """What to run.

    Attributes:
        out: everything is written below this folder.
        spider: SPIDER's folder; None makes phantoms.
        compare: also train IISDM.
        patients: how many patients; the last fifth is held out. None takes 25 phantoms, or all of SPIDER.
        device: "cpu" or "cuda".
        seed: of the phantoms.
    """

    out: Path
    spider: Path | None = None
    compare: bool = False
    patients: int | None = None
    device: str = "cpu"
    seed: int = 0


def run_demo(demo: Demo, overwrite: bool = False, echo=print) -> str:
    """Run all stages that are not done yet and return the table of scores.

    Raises:
        FileNotFoundError: `spider` holds no images.
        ValueError: too few patients, or a folder that an earlier demo filled with other options.
        RuntimeError: a command failed.
    """
    if overwrite and demo.out.is_dir():
        _remove_earlier_demo(demo.out)
    source, patients = _source(demo)
    training, unseen = split_patients(patients)
    _remember_options(demo)
    runner = Runner(demo.out, echo)
    models = chosen_models(demo.compare)
    echo(f"{len(training)} patients to train on, {len(unseen)} unseen ones; everything goes to {demo.out}")
    stages = [*_data_stages(demo, source, training, unseen), *_model_stages(demo, models)]
    runner.run(stages)
    references = demo.out / "unseen" / DATASET_FOLDER / "labelsTr"
    scores = score_models(demo.out / "predictions", references, models)
    scores.to_csv(demo.out / "scores.csv", index=False)
    pictures = draw_cases(demo.out, references.with_name("imagesTr"), references, models)
    text = describe_scores(scores, models)
    return (
        f"{text}\n{runner.seconds() / 60:.1f} minutes in all; a picture of every unseen case in {pictures}, "
        f"scores in {demo.out / 'scores.csv'}"
    )


def split_patients(patients: Sequence[int]) -> tuple[list[int], list[int]]:
    """All but the last fifth to train on, the last fifth unseen."""
    held_out = max(1, len(patients) // 5)
    if len(patients) - held_out < 2:
        raise ValueError(f"the demo needs at least 3 patients, not {len(patients)}")
    return list(patients[:-held_out]), list(patients[-held_out:])


def _source(demo: Demo) -> tuple[Path, list[int]]:
    """SPIDER's folder, or where the phantoms go, and the patients' numbers."""
    if demo.spider is None:
        return demo.out / "phantoms", list(range(1, (25 if demo.patients is None else demo.patients) + 1))
    found = {int(match[1]) for path in (demo.spider / "images").glob("*.mha") if (match := SERIES.match(path.name))}
    if not found:
        raise FileNotFoundError(f"{demo.spider}/images holds no <patient>_t1.mha or <patient>_t2.mha")
    return demo.spider, sorted(found)[: demo.patients]


def _remove_earlier_demo(out: Path) -> None:
    if not (out / "demo.json").is_file() and any(out.iterdir()):
        raise ValueError(f"{out} was not made by the demo and is not empty; it is not overwritten, name another folder")
    shutil.rmtree(out)


def _remember_options(demo: Demo) -> None:
    """Keep the options in `demo.json`, so that a second run with others does not mix their results."""
    options = {"spider": str(demo.spider), "patients": demo.patients, "seed": demo.seed}
    file = demo.out / "demo.json"
    if file.is_file() and json.loads(file.read_text()) != options:
        raise ValueError(f"{demo.out} holds a demo with other options ({file}); add --overwrite or name another --out")
    demo.out.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(options))


def _data_stages(demo: Demo, source: Path, training: list[int], unseen: list[int]) -> list[Stage]:
    raw = demo.out / "nnUNet_raw"
    splits = demo.out / "two_folds.json"
    convert = ("spinesegdiff", "convert", str(source), "--modality", "T1wT2w", "--size", PIXELS, "--spacing", SPACING)
    stages = []
    if demo.spider is None:
        stages = [Stage("phantoms", function=lambda: write_phantoms(source, [*training, *unseen], demo.seed))]
    return [
        *stages,
        Stage("folds", function=lambda: write_two_folds(source, training, splits)),
        Stage("convert", (*convert, "--patients", _listed(training), "--out", str(raw), "--splits", str(splits))),
        Stage("convert_unseen", (*convert, "--patients", _listed(unseen), "--out", str(demo.out / "unseen"))),
        Stage(
            "plan_and_preprocess",
            ("nnUNetv2_plan_and_preprocess", "-d", DATASET, "-c", "2d", "--verify_dataset_integrity", "-np", "1"),
            environment=(("nnUNet_n_proc_DA", "1"),),  # nnU-Net 2.8's planner cannot do without
        ),
        Stage(
            "plan",
            (
                *("spinesegdiff", "plan", "-d", DATASET, "--small", "--base", "2d_small"),
                *("--timesteps", str(TIMESTEPS), "--previous-trainer", BASELINE.trainer, "--paper-baselines"),
            ),
        ),
    ]


def _model_stages(demo: Demo, models: Sequence[Model]) -> list[Stage]:
    images = str(demo.out / "unseen" / DATASET_FOLDER / "imagesTr")
    stages = []
    for model in models:
        for fold in model.folds:
            command = ("nnUNetv2_train", DATASET, model.configuration, fold, "-tr", model.trainer)
            stages.append(Stage(f"train_{folder_name(model)}_{fold}", (*command, "-device", demo.device)))
        output = str(demo.out / "predictions" / folder_name(model))
        command = ("spinesegdiff", "predict", "-i", images, "-o", output, "-d", DATASET, "-c", model.configuration)
        options = ("-tr", model.trainer, "-f", *model.folds, "--uncertainty", "-npp", "0", "-nps", "0")
        options += ("-device", demo.device, *model.sampling)
        stages.append(Stage(f"predict_{folder_name(model)}", command + options))
    return stages


def folder_name(model: Model) -> str:
    """Where a model's predictions go, below `predictions`."""
    return f"{model.trainer}__{model.configuration}"


def write_two_folds(source: Path, patients: Sequence[int], file: Path) -> None:
    """Two patient-wise folds in nnU-Net's form: patients in turn."""
    cases: list[list[str]] = [[], []]
    for number, patient in enumerate(patients):
        names = {
            match[2] for path in (source / "images").glob(f"{patient}_*.mha") if (match := SERIES.match(path.name))
        }
        contrasts = sorted({name[:2] for name in names})
        cases[number % 2] += [f"SPIDER_{patient:03d}_{contrast}" for contrast in contrasts]
    folds = [{"train": sorted(cases[1 - fold]), "val": sorted(cases[fold])} for fold in range(2)]
    file.write_text(json.dumps(folds, indent=2))


def _listed(patients: Sequence[int]) -> str:
    return ",".join(str(patient) for patient in patients)
