"""`genie-rt bench quality`. torch is imported when the command runs."""

from __future__ import annotations

from dataclasses import dataclass

from genie_rt.bench.quality.options import QualityOptions
from genie_rt.errors import InputError
from genie_rt.runtime.flags import set_threads


@dataclass(frozen=True, kw_only=True)
class QualityCommand(QualityOptions):
    """Measure quality against cost of decoding plans on held-out clips. Writes a CSV, a record and a plot.

    With --versus, compare back ends and precisions instead: each runs the same plans and clips with the same
    seed as --backend and --dtype. Exits with 1 if PSNR drops by more than 0.5 dB or the clip distance grows
    by more than noise.

    Takes hours on a CPU. Results are kept in the folder OUT.work: an interrupted run resumes there, and runs
    with other plans add to it. With glibc, setting MALLOC_MMAP_MAX_=0, MALLOC_TRIM_THRESHOLD_=100000000000
    and MALLOC_TOP_PAD_=268435456 in the environment saves time by keeping freed memory.

    Examples:
        genie-rt bench quality demo --data data/coinrun --out quality.csv
        genie-rt bench quality demo --data data/coinrun --versus openvino:bfloat16
    """

    def run(self) -> int:
        """Measure what is missing, then judge, write, draw and print."""
        from genie_rt.bench.quality.computation import Computation
        from genie_rt.bench.quality.setup import QualityBench
        from genie_rt.runtime.backends.select import Holdings
        from genie_rt.runtime.bundle import open_bundle

        self.check()
        set_threads(self.threads)
        holdings = Holdings.of(open_bundle(self.bundle))
        own = Computation.of(self.backend, self.dtype, self.device, holdings, emulate=self.emulate)
        others = [own.versus(word, self.device, holdings, emulate=self.emulate) for word in self.versus]
        if len({own, *others}) <= len(others):
            names = ", ".join(each.name for each in (own, *others))
            raise InputError(f"--versus: expected computations that differ, found {names}")
        if self.emulate and not any(each.emulated for each in (own, *others)):
            raise InputError(
                '--emulate: expected the back end "cuda", such as --versus cuda:int8, found none'
            )
        bench = QualityBench(self)
        if others:
            from genie_rt.bench.quality.formats import compare_computations

            return 0 if compare_computations(bench, [own, *others]) else 1
        from genie_rt.bench.quality.plans import compare_plans

        compare_plans(bench, own)
        return 0
