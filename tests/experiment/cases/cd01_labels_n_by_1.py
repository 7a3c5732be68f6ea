import numpy as np
from datacase import blobs, study

LINK = "Trusted-AI/adversarial-robustness-toolbox#1961 (and MedMNIST)"
KIND = "data: labels (N, 1)"
TOOL = "study"
LOSS = "info_nce"
SETTINGS = {}
EXPECTED = r"rc=0.*labels came as \(200, 1\)"
RIGHT = "accepted: a column is one label a sample"

candidate = None


def run():
    x, y = blobs()
    return study(lambda f: np.savez(f, X=x, y=y[:, None]))
