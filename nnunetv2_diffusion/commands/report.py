"""`spinesegdiff report`: tables, statistics and a web page from nnU-Net's results folders."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which datasets, where SPIDER's gradings are, where the report goes."""
    parser.add_argument(
        "-d", "--datasets", nargs="+", required=True, metavar="DATASET", help="numbers or names of datasets"
    )
    parser.add_argument("-o", required=True, metavar="DIR", help="folder of the report: index.html, *.csv, figures/")
    parser.add_argument(
        "--spider", metavar="DIR", help="SPIDER's folder, for the pathologies in its radiological_gradings.csv"
    )
    parser.add_argument(
        "--study", metavar="DIR", help="folder of a study, for its progress, software and data; see reproduce"
    )
    parser.add_argument(
        "--pfirrmann",
        type=int,
        default=4,
        metavar="GRADE",
        help="lowest Pfirrmann grade that counts as disc degeneration (default: %(default)s)",
    )
    parser.add_argument(
        "--gallery", type=int, default=60, metavar="N", help="cases in the page's gallery (default: %(default)s)"
    )
    parser.add_argument(
        "--measure",
        action="store_true",
        help="also measure every mask and its reference in mm: errors by level, AUROC for SPIDER's gradings, Dice of "
        "each vertebra and disc",
    )
    parser.add_argument("-np", type=int, metavar="N", help="worker processes (default: the processors, at most 8)")


def run(args: argparse.Namespace) -> None:
    """Make the report and say where it is."""
    try:
        from nnunetv2_diffusion.report.report import make_report
    except ModuleNotFoundError as error:
        raise RuntimeError(
            f"{error.name} is not installed; the report needs: pip install 'nnunetv2-diffusion[report]'"
        ) from error
    from nnunetv2_diffusion.nnunet_names import PREPROCESSED, RAW, RESULTS, nnunet_folder, optional_nnunet_folder

    report = make_report(
        args.datasets,
        args.o,
        results=nnunet_folder(RESULTS),
        preprocessed=optional_nnunet_folder(PREPROCESSED),
        raw=optional_nnunet_folder(RAW),
        spider=args.spider,
        study_folder=args.study,
        pfirrmann=args.pfirrmann,
        gallery_cases=args.gallery,
        processes=args.np,
        measure=args.measure,
    )
    for note in report.results.notes:
        print(f"note: {note}")
    print(f"{args.o}/index.html")
