"""Everything that a packager needs to know about refcl."""

import re
from pathlib import Path

from setuptools import find_packages, setup

here = Path(__file__).parent
version = re.search(r'^__version__ = "(.+)"$', (here / "refcl/__init__.py").read_text(encoding="utf-8"), re.MULTILINE)
assert version is not None

setup(
    name="refcl",
    version=version.group(1),
    description="Contrastive losses in NumPy with hand-derived gradients: a reference to read and to check against",
    long_description=(here / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    author="The refcl authors",
    license="BSD-3-Clause AND CC-BY-4.0",
    license_files=["LICENSE", "refcl/experiment/digits.txt"],
    classifiers=[
        "Development Status :: 4 - Beta",
        "Intended Audience :: Education",
        "Intended Audience :: Science/Research",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Typing :: Typed",
    ],
    keywords="contrastive loss, InfoNCE, NT-Xent, CLIP, temperature, gradient check, self-supervised learning",
    packages=find_packages(include=["refcl", "refcl.*"]),
    package_data={
        "refcl": ["py.typed"],
        "refcl.experiment": ["digits.npz", "digits.txt"],
        "refcl.experiment.report": ["*.js"],
        "refcl.oracle.exercises": ["*.md"],
        "refcl.oracle.names": ["*.txt"],
        "refcl.oracle.vectors": ["*.json", "*.npz"],
    },
    python_requires=">=3.11",
    install_requires=[
        "numpy>=2.0",
        "scipy>=1.13",
        "matplotlib>=3.8",
        "tqdm",
        "threadpoolctl>=3.1",
        "fastjsonschema>=2.20",
    ],
    extras_require={
        "test": [
            "pytest>=8",
            "pytest-xdist",
            "hypothesis",
            "mpmath",
            "array-api-strict>=2.6",
            "scipy-doctest",
            "jsonschema",
        ],
        "peers": ["torch", "array-api-compat>=1.11", "jax", "optax", "pytorch-metric-learning", "info-nce-pytorch"],
        "torch": ["torch", "array-api-compat>=1.11"],
        "jax": ["jax"],
        "ranks": ["mpi4py"],
        "cluster": ["distributed"],
        "docs": [
            "sphinx>=8.2",
            "myst-parser>=4",
            "numpydoc>=1.9",
            "sphinx-gallery>=0.19",
            "pydata-sphinx-theme>=0.16",
            "latex2mathml>=3.78",
        ],
        "cuda12": ["cupy-cuda12x>=14"],
        "cuda13": ["cupy-cuda13x>=14"],
        "dev": ["ruff", "mypy", "build", "scipy-stubs", "types-tqdm"],
    },
    entry_points={
        "console_scripts": ["refcl = refcl.__main__:main"],
        "pytest11": ["refcl = refcl.oracle.plugin"],
    },
    zip_safe=False,
)
