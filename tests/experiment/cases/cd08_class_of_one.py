import numpy as np
from datacase import blobs, study

LINK = "embeddings-benchmark/mteb#519, davidsbatista/text-classification#4"
KIND = "data: a class with one sample"
TOOL = "study"
LOSS = "info_nce"
SETTINGS = {}
EXPECTED = r"class 7"
RIGHT = "say which class"

candidate = None


def run():
    x, y = blobs()
    y = y * 10
    y[0] = 7
    return study(lambda f: np.savez(f, X=x, y=y))
