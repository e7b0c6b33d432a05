"""Packaging of nnunetv2-diffusion; `dataset_conversion/` installs inside the package."""

from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
PACKAGE = "nnunetv2_diffusion"
DATASET_CONVERSION = f"{PACKAGE}.dataset_conversion"

REPORT = ["pillow>=9.2", "statsmodels>=0.14"]
# Snakemake 9 needs Python 3.11; from 9.10 on its scheduler runs more jobs than there are cores (its issue 3913).
GRID = [
    'snakemake[reports]>=9.0,<9.10; python_version >= "3.11"',
    'snakemake-executor-plugin-slurm>=2.0; python_version >= "3.11"',
    "jsonschema>=4.18",
    "psutil>=5.9",
    "PyYAML>=6.0",
]
# The first highdicom with colours from RGB and any number of display windows of a map.
DICOM = ["highdicom>=0.28"]
TEST = [
    "pytest>=7",
    "pytest-xdist>=3.8",  # the first that can leave files in the order in which they were collected
    "ruff>=0.6",
    "bidsschematools>=1.0",
    "blosc2>=3.3.2",
    "diffusers>=0.31",
    "monai>=1.3",
    "pynrrd>=1.0",
    "selenium>=4.20",
    *REPORT,
    *GRID,
    *DICOM,
]

DOCS = ["mkdocs>=1.6,<2", "mkdocs-material>=9.6", "mkdocstrings[python]>=0.29"]

setup(
    name="nnunetv2-diffusion",
    version="0.1.0",
    description="SpineSegDiff: diffusion-based segmentation of lumbar spine MRI as an extension of nnU-Net v2",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10,<3.14",
    packages=[*find_packages(include=[PACKAGE, f"{PACKAGE}.*"]), DATASET_CONVERSION],
    package_dir={PACKAGE: PACKAGE, DATASET_CONVERSION: "dataset_conversion"},
    package_data={
        PACKAGE: ["extension/*.py", "**/*.j2", "**/*.css", "**/*.js", "**/*.mplstyle", "**/*.yaml", "**/Snakefile"]
    },
    install_requires=[
        "nnunetv2>=2.8,<2.9",
        "torch>=2.6",  # before it weights_only can be bypassed (CVE-2025-32434)
        "batchgenerators>=0.25.1",
        "SimpleITK>=2.4",  # the first whose ITK refuses truncated files
        "nibabel>=5.2",  # the first that works with numpy 2
        "pydicom>=3.0",  # the first with decoders of single frames
        "numpy>=1.26",
        "scipy>=1.11.1",
        "scikit-image>=0.19.3",
        "acvl-utils>=0.2.6",
        "pandas>=2.1.1",
        "matplotlib>=3.10",
        "tqdm>=4.60",
        "Jinja2>=3.0",
        "MarkupSafe>=2.0",
        "pooch>=1.7",
        "platformdirs>=3.0",
        "requests>=2.28",
    ],
    extras_require={"report": REPORT, "test": TEST, "docs": DOCS, "grid": GRID, "dicom": DICOM},
    entry_points={
        "console_scripts": [f"spinesegdiff={PACKAGE}.cli:main"],
        "torch.backends": [f"spinesegdiff={PACKAGE}.torch_plugin:prepare_search"],
    },
    classifiers=[
        "Intended Audience :: Science/Research",
        "Programming Language :: Python :: 3",
        "Topic :: Scientific/Engineering :: Medical Science Apps.",
    ],
)
