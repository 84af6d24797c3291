"""`python -m benchmarks`: every row against the bare loop, in one run. See README.md."""

import argparse
import csv
import resource
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path

import psutil
import uvloop

from benchmarks.driver import Missing, generated_prompts
from benchmarks.processes import DidNotStart
from benchmarks.report import Report, write_block
from benchmarks.scenarios import SCENARIOS, Bench, Failed, Figures
from benchmarks.targets import Product, Target, bare_loop, fake_model, product
from benchmarks.wire import Refused

MEASURING = ("plain", "streams500", "streams1000")
"""Scenarios that also run against the fake model alone, to show that it is not what one waits for."""


def arguments() -> argparse.Namespace:
    """What the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="count less: for a first look, not for quoting")
    parser.add_argument("--only", default=",".join(SCENARIOS), help=f"some of: {', '.join(SCENARIOS)}")
    parser.add_argument(
        "--data", type=Path, help="directory of CSV files whose column `prompt` gives the messages"
    )
    parser.add_argument("--no-product", action="store_true", help="the bare loop alone")
    parser.add_argument("--write", action="store_true", help="put the table into benchmarks/README.md")
    parser.add_argument(
        "--url", help="a product that runs already, whose provider `custom` is the fake model's address"
    )
    parser.add_argument("--key", default="", help="with --url: an API key of it")
    parser.add_argument("--pids", default="", help="with --url: its processes, comma-separated")
    parser.add_argument("--fake-port", type=int, help="port of the fake model; free when not given")
    options = parser.parse_args()
    options.only = [name for name in options.only.split(",") if name]
    if unknown := set(options.only) - set(SCENARIOS):
        parser.error(f"no such rows: {', '.join(sorted(unknown))}")
    if options.url and not options.fake_port:
        parser.error("--url wants --fake-port: that product must know where its model is")
    return options


def prompts_of(data: Path | None) -> tuple[list[str], str]:
    """The messages to send, and what to say of them."""
    if data is None:
        return generated_prompts(), "generated messages"
    found = []
    for path in sorted(data.glob("*.csv")):
        with path.open(newline="", encoding="utf-8") as file:
            found += [row["prompt"] for row in csv.DictReader(file) if row.get("prompt")]
    if not found:
        raise SystemExit(f"no CSV file with a column `prompt` in {data}")
    return found, f"{len(found)} messages of {data.name}"


@asynccontextmanager
async def targets(options: argparse.Namespace, room: Path) -> AsyncIterator[list[Target]]:
    """The fake model, the bare loop and the product, all running."""
    async with AsyncExitStack() as stack:
        model = await stack.enter_async_context(fake_model(room, options.fake_port))
        bare = await stack.enter_async_context(bare_loop(room, model.url))
        running: list[Target] = [model, bare]
        if options.url:
            pids = [int(pid) for pid in options.pids.split(",") if pid]
            attached = Product(options.url, options.key, pids, {})
            stack.push_async_callback(attached.close)
            running.append(attached)
        elif not options.no_product:
            running.append(await stack.enter_async_context(product(room, model.url)))
        yield running


async def measure(options: argparse.Namespace, room: Path) -> Report:
    """Each scenario against each target, one after the other."""
    prompts, said = prompts_of(options.data)
    report = Report.begin(said, quick=options.quick)
    async with targets(options, room) as running:
        bench = Bench(prompts, running[0].roots[0], options.quick)
        direct = replace(bench, times=10)
        for name in [scenario for scenario in SCENARIOS if scenario in options.only]:
            for target in running:
                if target is running[0] and name not in MEASURING:
                    continue
                print(f"{name}: {target.name}", file=sys.stderr, flush=True)
                figures: Figures | None = None
                try:
                    figures = await SCENARIOS[name](direct if target is running[0] else bench, target)
                except Failed as error:
                    figures = error.figures
                    report.errors.setdefault(target.name, {})[name] = str(error)
                except (Missing, Refused, psutil.Error) as error:
                    report.errors.setdefault(target.name, {})[name] = f"{type(error).__name__}: {error}"
                if figures:
                    report.figures.setdefault(target.name, {})[name] = figures
                await target.close()
    return report


def main() -> int:
    """Measure, print, save. 1 when a turn of the product went wrong, 2 when something did not start."""
    options = arguments()
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # a connection per stream
    with tempfile.TemporaryDirectory(prefix="vibe-bench-") as name:
        room = Path(name)
        room.chmod(0o711)  # started as root, the product's servers drop to users that must get through
        try:
            report = uvloop.run(measure(options, room))
        except DidNotStart as error:
            print(error, file=sys.stderr)
            return 2
    table = report.markdown(set(options.only))
    print(table)
    print(f"saved: {report.save()}", file=sys.stderr)
    if options.write:
        write_block(table)
    return 0 if report.complete else 1


if __name__ == "__main__":
    sys.exit(main())
