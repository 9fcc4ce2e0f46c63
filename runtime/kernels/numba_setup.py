"""How numba runs here: its thread layer and thread count.  Imported before any parallel kernel is compiled or run.

Numba's `omp` layer is used where the wheel has it: the `workqueue` layer may not be entered from two threads at once.
Torch and numba then keep one OpenMP team each, so their thread counts are set to the same number.  A process that has run
a parallel kernel must not fork without exec (GNU OpenMP dies in the child): start processes with "spawn"."""

from __future__ import annotations

import importlib.util
import os

import numba
import torch

if "NUMBA_THREADING_LAYER" not in os.environ and importlib.util.find_spec("numba.np.ufunc.omppool") is not None:
    numba.config.THREADING_LAYER = "omp"

# Sums may be reordered and products fused (that is what vector code does); NaN and infinity keep their meaning.
FAST_MATH = {"reassoc", "contract", "nsz", "arcp"}


def match_torch_threads() -> None:
    """Give numba's kernels as many threads as torch's; per calling thread, so it is cheap and done at every step."""
    wanted = max(1, min(torch.get_num_threads(), numba.config.NUMBA_NUM_THREADS))
    if numba.get_num_threads() != wanted:
        numba.set_num_threads(wanted)
