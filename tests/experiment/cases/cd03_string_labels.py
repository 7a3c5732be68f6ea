import numpy as np
from datacase import blobs, study

LINK = "davidsbatista/text-classification#1 (labels as text)"
KIND = "data: labels as strings"
TOOL = "study"
LOSS = "info_nce"
SETTINGS = {}
EXPECTED = r"rc=0.*labels are text.*4 classes: cat cow dog hen"
RIGHT = "accepted: text names classes"

candidate = None


def run():
    x, y = blobs()
    return study(lambda f: np.savez(f, X=x, y=np.array(["cat", "dog", "cow", "hen"])[y]))
