"""The price of attention masses: plain SDPA, ours, and full attention maps, side by side in one run.

    python -m tests.bench.attention [--json] [--sequences 512,2048] [--rounds 7] [--candidates] [--vas 200]

One training step (forward, loss, backward) on a language model of 4 layers x 8 heads x 64 on the CPU in
float32, and on one decoder layer shaped like a 7B model's on a GPU in bfloat16. `ours` is what the trainer
does: the guided loss on the question's tokens; `maps` keeps every attention map, as the released code of the
paper does. The variants take turns within a round. The figures to read are ratios to plain: of the medians
of process CPU time (GPU: of event times), and of the peak memory over the model's own. `--candidates` adds
the other ways to a mass; `--vas` measures the score of that many samples against one plain forward pass.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass

import torch
import transformers

from tests.bench.meter import Meter, make_meter
from tests.bench.steps import VARIANTS, Shape, Step, cpu_shape, cuda_shape, make_step
from tests.bench.vas import measure_vas_price

MAPS_UP_TO = {"cpu": 4096, "cuda": 4096}  # longer ones take tens of gigabytes
COMPARED = ("plain", "ours", "maps")
IN_TABLE = (*COMPARED, "ours, all queries")
LOSS_TOLERANCE = {"cpu": 1e-5, "cuda": 1e-2}  # relative; a candidate with another loss is no candidate


@dataclass(frozen=True, kw_only=True)
class Case:
    """One line of the table: ratios to plain in the same run.

    Attributes:
        seconds, megabytes: of one step: CPU seconds (GPU: device seconds), and peak over the model's own.
        note: why a variant could not run; its ratios are then None.
    """

    device: str
    seq: int
    variant: str
    time_ratio: float | None
    memory_ratio: float | None
    seconds: float | None = None
    megabytes: float | None = None
    note: str = ""


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the benchmark and prints its table, or one JSON line per case."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--sequences", type=lambda text: [int(part) for part in text.split(",")])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--candidates", action="store_true")
    parser.add_argument("--vas", type=int, default=200, help="samples; 0: leave the score out")
    options = parser.parse_args(arguments)
    say = (lambda *_: None) if options.json else print
    say(f"torch {torch.__version__}, transformers {transformers.__version__}, {platform.machine()}")
    for device in ("cpu", "cuda"):
        if device == "cuda" and not torch.cuda.is_available():
            print("no CUDA device: the CUDA part was skipped", file=sys.stderr)
            continue
        shape = cpu_shape() if device == "cpu" else cuda_shape()
        for tokens in options.sequences or shape.sequences:
            names = list(VARIANTS) if options.candidates else COMPARED if options.json else IN_TABLE
            for case in measure_sequence(shape, tokens, options.rounds, names):
                print(json.dumps(asdict(case)) if options.json else _line(case), flush=True)
    if options.vas:
        price = measure_vas_price(options.vas)
        print(json.dumps(asdict(price)) if options.json else price.sentence())


def measure_sequence(shape: Shape, tokens: int, rounds: int, names: Sequence[str]) -> Iterator[Case]:
    """The cases of one length; the variants take turns, so that a busy machine disturbs all alike."""
    meter = make_meter(shape.device)
    names = [name for name in names if name != "maps" or tokens <= MAPS_UP_TO[shape.device]]
    steps, notes = _usable(shape, tokens, names)
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(rounds + 1):
        for name, step in steps.items():
            spent = meter.seconds(step)
            if number:  # the first round warms up
                seconds[name].append(spent)
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    peaks = _peaks(meter, steps)
    for name in names:
        if name in notes:
            yield Case(
                device=shape.device,
                seq=tokens,
                variant=name,
                time_ratio=None,
                memory_ratio=None,
                note=notes[name],
            )
            continue
        yield Case(
            device=shape.device,
            seq=tokens,
            variant=name,
            time_ratio=round(medians[name] / medians["plain"], 4),
            memory_ratio=round(peaks[name] / peaks["plain"], 4),
            seconds=round(medians[name], 4),
            megabytes=round(peaks[name] / 2**20, 1),
        )


def _usable(shape: Shape, tokens: int, names: Sequence[str]) -> tuple[dict[str, Step], dict[str, str]]:
    """Steps that run, and why the others do not: not every backend takes every shape."""
    steps, notes = {}, {}
    expected = None
    for name in names:
        step = make_step(shape, tokens, name)
        try:
            loss = step()
        except (RuntimeError, ImportError, NotImplementedError) as error:
            if name in COMPARED:
                raise
            notes[name] = (str(error).splitlines() or [type(error).__name__])[0][:80]
            continue
        expected = loss if name == "ours" else expected
        if name != "plain" and expected is not None and not _agrees(loss, expected, shape.device):
            notes[name] = f"its loss is {loss:.6g}, that of ours {expected:.6g}"
            continue
        steps[name] = step
    return steps, notes


def _agrees(loss: float, expected: float, device: str) -> bool:
    return abs(loss - expected) <= LOSS_TOLERANCE[device] * abs(expected)


def _peaks(meter: Meter, steps: Mapping[str, Step]) -> dict[str, int]:
    """Median peak of each variant; they take turns, since an allocator keeps some of what it was given."""
    found: dict[str, list[int]] = {name: [] for name in steps}
    for _ in range(3):
        for name, step in steps.items():
            found[name].append(meter.peak(step))
    return {name: statistics.median_low(peaks) for name, peaks in found.items()}


def _line(case: Case) -> str:
    if case.time_ratio is None:
        return f"{case.device:<5}{case.seq:>7}  {case.variant:<18} cannot run: {case.note}"
    return (
        f"{case.device:<5}{case.seq:>7}  {case.variant:<18} time {case.time_ratio:6.3f}x "
        f"({case.seconds:8.4f} s)   memory {case.memory_ratio:6.3f}x ({case.megabytes:9.1f} MB)"
    )


if __name__ == "__main__":
    main()
