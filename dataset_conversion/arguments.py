"""The converter's command-line arguments, apart from the converter so that --help need not import SimpleITK."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the converter's arguments; their values are checked by the converter itself."""
    parser.add_argument(
        "root", metavar="ROOT", help="SPIDER's folder: images/*.mha, masks/*.mha and, if at hand, overview.csv"
    )
    parser.add_argument("--modality", required=True, metavar="T1w|T2w|T1wT2w", help="which contrasts become cases")
    parser.add_argument(
        "--dimension",
        default="2d",
        metavar="2d|3d",
        help="2d: the central sagittal slice; 3d: the whole volume (default: 2d)",
    )
    parser.add_argument("--out", metavar="FOLDER", help="folder of raw datasets (default: $nnUNet_raw)")
    parser.add_argument(
        "--size",
        nargs="+",
        metavar="N",
        help="pixels in the sagittal plane: one number, height and width, or `full` for the whole field of view "
        "(default: 320 in 2d, full in 3d)",
    )
    parser.add_argument(
        "--spacing",
        nargs="+",
        metavar="MM",
        help="pixel spacing in the sagittal plane in mm: one number, or height and width (default: 1.0)",
    )
    parser.add_argument("--patients", metavar="LIST", help="convert these patients only, e.g. 1,2,100-114")
    parser.add_argument(
        "--splits",
        metavar="FILE",
        help="folds in the form of nnU-Net's splits_final.json (default: 5 patient-wise folds)",
    )
    parser.add_argument(
        "--dataset-id",
        type=int,
        metavar="ID",
        help="nnU-Net's number (default: 501 T1w, 502 T2w, 503 T1wT2w; 3d: 511-513)",
    )
    parser.add_argument(
        "--name", help="the dataset's name after its number (default: SPIDER_<modality>, in 3d with _3D)"
    )
    parser.add_argument(
        "-np", type=int, dest="processes", metavar="N", help="processes (default: the cores, at most 8)"
    )
