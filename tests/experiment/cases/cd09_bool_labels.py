import numpy as np
from datacase import blobs, study

LINK = "naive binary labels (y > 0)"
KIND = "data: labels of dtype bool"
TOOL = "study"
LOSS = "info_nce"
SETTINGS = {}
EXPECTED = r"rc=0.*labels are booleans"
RIGHT = "accepted: True and False are two classes"

candidate = None


def run():
    x, y = blobs()
    return study(lambda f: np.savez(f, X=x, y=y > 1))
