"""How numba runs here: its thread layer and thread count.  Imported before any parallel kernel is compiled or run.

Numba's `omp` layer is tried first.  Torch and numba then keep one OpenMP team each, so their thread counts are set to
the same number.  A process that has run a parallel kernel must not fork without exec (GNU OpenMP dies in the child):
start processes with "spawn".  Set OMP_WAIT_POLICY=passive before torch is imported where anything else wants the cores:
by default threads spin at every barrier, and beside one busy process a step takes ten times as long."""

from __future__ import annotations

import os
import threading

import numba
import torch

if "NUMBA_THREADING_LAYER_PRIORITY" not in os.environ:
    numba.config.THREADING_LAYER_PRIORITY = ["omp", "tbb", "workqueue"]

# Where the system has no libgomp numba falls back to `workqueue`, which ends the process when two threads (two engines
# in one process) enter it at once.  A parallel kernel has every core anyway, so one at a time loses nothing.
parallel_region = threading.Lock()

# Sums may be reordered and products fused (that is what vector code does); NaN and infinity keep their meaning.
FAST_MATH = {"reassoc", "contract", "nsz", "arcp"}


def match_torch_threads() -> None:
    """Give numba's kernels as many threads as torch's; per calling thread, so it is cheap and done at every step."""
    wanted = max(1, min(torch.get_num_threads(), numba.config.NUMBA_NUM_THREADS))
    if numba.get_num_threads() != wanted:
        numba.set_num_threads(wanted)
