import numpy as np
from datacase import blobs, study

LINK = "lightly-ai/lightly#1518, learning-at-home/dalle-hivemind#9"
KIND = "data: uint8 images (N, 28, 28), blank border"
TOOL = "study"
LOSS = "info_nce"
SETTINGS = {}
EXPECTED = r"rc=0"
RIGHT = "runs"

candidate = None


def run():
    _, y = blobs()
    x = np.zeros((200, 28, 28), np.uint8)
    x[:, 4:-4, 4:-4] = np.random.default_rng(0).integers(0, 255, (200, 20, 20))
    return study(lambda f: np.savez_compressed(f, X=x, y=y))
