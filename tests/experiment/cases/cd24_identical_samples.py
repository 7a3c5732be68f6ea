import numpy as np
from datacase import blobs, study

LINK = "HobbitLong/SupContrast#21 (all embeddings equal)"
KIND = "data: every sample the same"
TOOL = "study"
LOSS = "info_nce"
SETTINGS = {}
EXPECTED = r"the same|constant|identical"
RIGHT = "says that nothing can be learned"

candidate = None


def run():
    _, y = blobs()
    return study(lambda f: np.savez(f, X=np.ones((200, 10)), y=y))
