"""The losses over many machines: each rank passes its own rows, and gets the loss of all and its rows' gradients.

    mpiexec -n 4 python program.py

    from mpi4py import MPI
    value, grads = refcl.ranks.info_nce(query, key, 0.1, comm=MPI.COMM_WORLD)

Nothing here imports mpi4py: a communicator is passed. `on_threads` has one without MPI, to try things out.
"""

from refcl.ranks.clip import clip
from refcl.ranks.dcl import dcl
from refcl.ranks.info_nce import info_nce
from refcl.ranks.nt_xent import nt_xent
from refcl.ranks.sig_lip import sig_lip
from refcl.ranks.sup_con import sup_con
from refcl.ranks.threads import on_threads

__all__ = ["clip", "dcl", "info_nce", "nt_xent", "on_threads", "sig_lip", "sup_con"]
