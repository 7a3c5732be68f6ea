import numpy as np
from datacase import blobs, study

LINK = "princeton-nlp/SimCSE#130, mteb"
KIND = "data: classes of 400, 60, 9 samples"
TOOL = "study"
LOSS = "info_nce"
SETTINGS = {}
EXPECTED = r"majority|most frequent|unbalanced|largest class"
RIGHT = "runs; should say that the largest class alone gives 85 %"

candidate = None


def run():
    x, _ = blobs(469, k=3)
    y = np.repeat([0, 1, 2], [400, 60, 9])
    return study(lambda f: np.savez(f, X=x, y=y))
