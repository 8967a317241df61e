"""Time and peak memory of a step, on the CPU or on a GPU."""

from __future__ import annotations

import ctypes
import gc
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import torch

Work = Callable[[], object]


class Meter(Protocol):
    """Measures one call of a step."""

    def seconds(self, step: Work) -> float:
        """Seconds of one call."""
        ...

    def peak(self, step: Work) -> int:
        """Bytes that one call takes at most, over what was there before."""
        ...


class CpuMeter:
    """CPU seconds of this process, and its resident memory (Linux: the kernel's high-water mark, reset)."""

    def seconds(self, step: Work) -> float:
        """CPU seconds of all threads."""
        gc.collect()
        started = time.process_time()
        step()
        return time.process_time() - started

    def peak(self, step: Work) -> int:
        """Bytes of resident memory."""
        gc.collect()
        ctypes.CDLL("libc.so.6").malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")
        before = _status("VmRSS")
        step()
        return _status("VmHWM") - before


class CudaMeter:
    """Device seconds between two events, and the allocator's peak."""

    def seconds(self, step: Work) -> float:
        """Seconds on the device."""
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize()
        start.record()
        step()
        end.record()
        torch.cuda.synchronize()
        return start.elapsed_time(end) / 1e3

    def peak(self, step: Work) -> int:
        """Bytes allocated on the device."""
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before


def make_meter(device: str) -> Meter:
    """The meter of a kind of device."""
    return CudaMeter() if device == "cuda" else CpuMeter()


def _status(name: str) -> int:
    """A size from the kernel's account of this process, bytes."""
    found = re.search(rf"^{name}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    if found is None:
        raise RuntimeError(f"/proc/self/status has no {name}: memory is measured on Linux only")
    return int(found[1]) * 1024
