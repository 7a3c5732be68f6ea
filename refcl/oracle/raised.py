"""What is said of an error that a candidate raised.

In:  the error, or its message.
Out: its traceback without the frames of this package; what to type where an adapter was forgotten.
"""

import traceback


def shortened(error: BaseException) -> str:
    """Return the traceback of an error from the candidate's first own frame on."""
    here = __file__.rpartition("/")[0]
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith(here)]
    return "".join(traceback.format_list(frames[-6:]) + traceback.format_exception_only(error)).rstrip()


def remedy(said: str) -> str:
    """Return what to type, where an error is that of an adapter that was forgotten."""
    tensors = ("'numpy.ndarray' object has no attribute", "must be Tensor, not numpy.ndarray", "torch", "Tensor")
    if any(word in said for word in tensors) and "numpy" in said:
        return " It takes tensors, as it seems: check(from_torch(candidate), …), in a shell --framework torch."
    if "tracer" in said.lower() or "jax" in said:
        return " It takes JAX arrays, as it seems: check(from_jax(candidate), …), in a shell --framework jax."
    return ""
