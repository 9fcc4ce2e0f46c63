"""What enters a step: requests and page counts in, Step out. No tensors, no clock, no executor."""

from .counters import Counters
from .scheduler import Scheduler

__all__ = ["Counters", "Scheduler"]
