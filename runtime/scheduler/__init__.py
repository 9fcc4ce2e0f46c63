"""What enters a step: requests and page counts in, Step out. No tensors, no clock, no executor."""

from .scheduler import Counters, Scheduler

__all__ = ["Counters", "Scheduler"]
