import numpy as np
from datacase import blobs, study

LINK = "yassouali/pytorch-segmentation#2"
KIND = "data: images (N, 3, H, W)"
TOOL = "study"
LOSS = "info_nce"
SETTINGS = {}
EXPECTED = r"rc=0.*coloured pictures of 8 × 8 pixels, channels first"
RIGHT = "accepted: channels first is recognised"

candidate = None


def run():
    _, y = blobs()
    x = np.random.default_rng(0).integers(0, 255, (200, 3, 8, 8)).astype(np.uint8)
    return study(lambda f: np.savez(f, X=x, y=y))
