import numpy as np
from datacase import blobs, study

LINK = "table exports"
KIND = "data: a CSV file"
TOOL = "study"
LOSS = "info_nce"
SETTINGS = {}
EXPECTED = r"rc=0.*a table of 10 features, labels from the column 10 of 11"
RIGHT = "accepted: the last column holds the labels"

candidate = None


def run():
    x, y = blobs()
    return study(lambda f: np.savetxt(f, np.c_[x, y], delimiter=",", header="a,b"), name="data.csv")
