"""What is said of an error that a candidate raised.

In:  the error, or its message.
Out: its traceback without the frames of this package; what to type where an adapter was forgotten.
"""

import traceback


class CannotJudge(Exception):
    """The candidate gave nothing that could be compared; the message is one sentence that says why."""

    def __init__(self, reason: str, trace: str = "", *, refused: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.trace = trace
        self.refused = refused  # by a raise or an assert of its own


def shortened(error: BaseException) -> str:
    """Return the traceback of an error from the candidate's first own frame on."""
    here = __file__.rpartition("/")[0]
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith(here)]
    return "".join(traceback.format_list(frames[-6:]) + traceback.format_exception_only(error)).rstrip()


# Words of an error that show what was forgotten, and what to type; the first that fits is said.
REMEDIES = {
    "Default process group": 'It talks to other ranks: world(candidate, …, framework="torch.distributed").',
    "unbound axis name": 'It talks to other devices: world(candidate, …, framework="jax"), without from_jax.',
    "process group twice": "The process group is there already: leave init_process_group out.",
    "through the graph a second time": "Its gradients are taken by the oracle: leave backward() out, return the loss.",
    "not compiled with CUDA": "The tensors are on the CPU: put yours on query.device, or say device= in from_torch.",
    "to have the same dtype": "Its own tensors are in single precision: W.to(x.dtype), or from_torch(f, module=m).",
    "string indexing": "It takes parameters or a batch by name: lambda *x: mine(params, {…}), of the arrays alone.",
    "CallCompactUnboundModule": "It is a flax module without its variables: lambda *x: module.apply(variables, *x).",
    "'Transformed' object": "It is a pair of haiku: lambda *x: transformed.apply(params, None, *x).",
    "hk.transform": "It is a haiku module: lambda *x: hk.transform(f).apply(params, None, *x).",
    "'Communicator' object has no": "comm has rank, size, all_gather, all_reduce and reduce_scatter.",
}


def remedy(said: str, traced: bool = False) -> str:
    """Return what to type, where an error is that of an adapter that was forgotten; traced where JAX's is not."""
    for word, then in REMEDIES.items():
        if word in said:
            return f" {then}"
    ranks = "rank " in said
    tensors = ("'numpy.ndarray' object has no attribute", "must be Tensor, not numpy.ndarray", "torch", "Tensor")
    if any(word in said for word in tensors) and "numpy" in said:
        how = 'world(candidate, …, framework="torch")' if ranks else "check(from_torch(candidate), …)"
        return f" It takes tensors, as it seems: {how}{'' if ranks else ', in a shell --framework torch'}."
    if not traced and ("tracer" in said.lower() or "jax" in said or "abstract array" in said):
        return " It takes JAX arrays, as it seems: check(from_jax(candidate), …), in a shell --framework jax."
    return ""
