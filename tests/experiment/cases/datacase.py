import os
import pathlib
import subprocess
import sys
import tempfile

import numpy as np


def study(make, *extra, name="data.npz", epochs="1", timeout=600):
    d = pathlib.Path(tempfile.mkdtemp(prefix="study_"))
    f = d / name
    make(f)
    p = subprocess.run(
        [
            sys.executable,
            "-m",
            "refcl",
            "study",
            "--data",
            str(f),
            "--losses",
            "info_nce",
            "--seeds",
            "0",
            "--temperatures",
            ".3",
            "--epochs",
            epochs,
            "--jobs",
            "1",
            "--quiet",
            "--out",
            str(d / "out"),
            *extra,
        ],
        capture_output=True,
        text=True,
        timeout=timeout,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    text = (p.stdout + p.stderr).replace(str(d), "DIR")
    last = text.strip().splitlines()[-1] if text.strip() else ""
    return f"rc={p.returncode} {last[:300]}", text, p.returncode == 0


def blobs(n=200, f=10, k=4, seed=0):
    r = np.random.default_rng(seed)
    y = np.arange(n) % k
    return (r.standard_normal((k, f)) * 2)[y] + r.standard_normal((n, f)), y
