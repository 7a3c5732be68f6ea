import numpy as np
from datacase import blobs, study

LINK = "circleAhn/TESLA-tf#1"
KIND = "data: NaN rows"
TOOL = "study"
LOSS = "info_nce"
SETTINGS = {}
EXPECTED = r"NaN.*row|row.*NaN|\d+ (of|samples)"
RIGHT = "say how many / which rows"

candidate = None


def run():
    x, y = blobs()
    x[[3, 77]] = np.nan
    return study(lambda f: np.savez(f, X=x, y=y))
