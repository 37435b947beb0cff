"""Workers of one test run divide the cores between them.

OpenMP, by which torch computes, starts as many threads as there are cores in every worker, and
threads that wait for each other's turn are slower than one. BLAS keeps its own number: the tests
that ask whether samplers hold it to one thread need more than one to begin with.
"""

import os

if "PYTEST_XDIST_WORKER" in os.environ:  # before anything imports torch or NumPy
    cores = len(os.sched_getaffinity(0))
    share = max(1, cores // int(os.environ["PYTEST_XDIST_WORKER_COUNT"]))
    os.environ.setdefault("OPENBLAS_NUM_THREADS", str(cores))
    os.environ.setdefault("OMP_NUM_THREADS", str(share))
