"""A million menus of four options under two limits: chosen in under 3 s on one core, within 1e-4 of the best there is?

    python benchmarks/choose.py [--limits 2] [--options 4] [--seed 0] [--skip-tests]

Costs are uniform, losses exponential and falling with cost; limits lie halfway between the least totals and those of
the plan without limits. The Lagrangian dual (`choose_many`) beside HiGHS: the exact programme where it finishes in a
minute, else the linear relaxation. CPU time of one thread; the gap is the proven one, as a share of the loss.
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, linprog, milp
from scipy.sparse import csr_array

from shoestring.core.choose import choose_many
from shoestring.measure import machine

ROOT = Path(__file__).parents[1]
TESTS = ("tests/core/test_choose.py", "tests/core/test_lagrange.py")
SIZES = (100, 1_000, 10_000, 100_000, 1_000_000)
EXACT, RELAXED = 1_000, 10_000  # menus up to which HiGHS is asked
PATIENCE = 60.0  # seconds


def problem(menus: int, args: argparse.Namespace) -> tuple[np.ndarray, dict[str, np.ndarray], dict[str, float]]:
    rng = np.random.default_rng(args.seed)
    costs = rng.uniform(0.1, 2.0, (args.limits, menus, args.options))
    losses = rng.exponential(1.0, (menus, args.options)) + 2 - costs.mean(axis=0)
    free = np.take_along_axis(costs, losses.argmin(axis=1)[None, :, None], 2).sum(axis=(1, 2))
    limits = (costs.min(axis=2).sum(axis=1) + free) / 2
    names = [f"limit{index}" for index in range(args.limits)]
    return losses, dict(zip(names, costs, strict=True)), dict(zip(names, limits.tolist(), strict=True))


def highs(losses: np.ndarray, costs: dict[str, np.ndarray], limits: dict[str, float], whole: bool) -> tuple[float, str]:
    menus, options = losses.shape
    one = csr_array((np.ones(losses.size), np.arange(losses.size), np.arange(menus + 1) * options))
    rows = np.array([cost.ravel() for cost in costs.values()])
    if not whole:
        solved = linprog(losses.ravel(), rows, list(limits.values()), one, np.ones(menus), (0, 1), method="highs")
        return float(solved.fun), "relaxed"
    constraints = [LinearConstraint(one, 1, 1), LinearConstraint(rows, -np.inf, list(limits.values()))]
    how = {"mip_rel_gap": 0.0, "time_limit": PATIENCE}
    solved = milp(losses.ravel(), constraints=constraints, integrality=1, bounds=Bounds(0, 1), options=how)
    return float(solved.fun), "exact" if solved.status == 0 else f"best after {PATIENCE:.0f} s"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--limits", type=int, default=2)
    parser.add_argument("--options", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--skip-tests", action="store_true", help="measure what may be red (for development)")
    args = parser.parse_args()
    if not args.skip_tests and subprocess.run([sys.executable, "-m", "pytest", "-q", *TESTS], cwd=ROOT).returncode:
        sys.exit("the tests are red: nothing is measured")
    with machine.pinned(1):
        report(args)


def report(args: argparse.Namespace) -> None:
    print(machine.processor())
    print("| menus | dual, s | loss | gap | HiGHS, s | loss | |\n|---|---|---|---|---|---|---|")
    for menus in SIZES:
        given = problem(menus, args)
        began = time.process_time()
        found = choose_many(*given)
        took = time.process_time() - began
        assert all(found.totals[name] <= limit * (1 + 1e-9) for name, limit in given[2].items())
        row = f"| {menus:,} | {took:.2f} | {found.loss:.6g} | {found.gap / found.loss:.1e} "
        if menus <= RELAXED:
            began = time.process_time()
            loss, what = highs(*given, whole=menus <= EXACT)
            row += f"| {time.process_time() - began:.2f} | {loss:.6g} | {what} |"
        else:
            row += "| | | |"
        print(row, flush=True)


if __name__ == "__main__":
    main()
