"""Runs CPython's own asyncio tests, from the running interpreter and not edited, on a loop of ours.

    python tests/conformance/run.py                          every module on epoll, poll and select
    python tests/conformance/run.py test_events 'test_s*'    these modules
    python tests/conformance/run.py --backends poll -k sendfile
    python tests/conformance/run.py --backends io_uring      one that is left out else
    python tests/conformance/run.py --loop uvloop            any loop: MODULE or MODULE:FACTORY

Each module runs on each backend in a process of its own; a test that passes without a loop that
has the backend, on one backend only. A test that fails is run again alone: if
it passes then it is named as flaky. What fails still, and what is skipped, is run on asyncio's own
loop too: only what asyncio's loop passes is held against ours, and a skip must be a skip there as
well. Failures that may be stand in expected.toml with their reasons.
"""

import collections
import concurrent.futures
import importlib.util
import json
import os
import platform
import signal
import sys
from dataclasses import asdict
from fnmatch import fnmatch
from functools import partial
from pathlib import Path

import click
from entrance import ANY_BACKEND, MORE, SELECTORS
from supervise import Job, Report, Result, Settings, run_job
from verdict import KINDS, LIST, Expected, Verdict, judge, read_expected

PREFIX = "test.test_asyncio."
# Suites outside test_asyncio that run on whatever loop asyncio gives them.
OTHERS = (
    "test.test_asyncgen",
    "test.test_contextlib_async",
    "test.test_coroutines",
    "test.test_unittest.test_async_case",
    "test.test_unittest.testmock.testasync",
    "unittest.test.test_async_case",  # their place until 3.11
    "unittest.test.testmock.testasync",
)
LONGEST = ("test_tasks", "test_subprocess", "test_ssl", "test_events", "test_taskgroups")
RETRIES = 40  # more failures than this are no accident: running them again would only take time
FLAKY_LIMIT = 5  # a backend with more flaky tests than this is not well

Results = dict[tuple[str, str], Report]  # (backend, module): what it came to


def find_modules(patterns: tuple[str, ...]) -> list[str]:
    package = importlib.util.find_spec("test.test_asyncio")
    if package is None or package.submodule_search_locations is None:
        raise click.ClickException(
            f"{sys.executable} comes without CPython's test package; "
            "use an interpreter that has it (Debian: libpython3-testsuite)"
        )
    (folder,) = package.submodule_search_locations
    names = [PREFIX + path.stem for path in sorted(Path(folder).glob("test_*.py"))]
    names += [name for name in OTHERS if is_there(name)]
    return [
        name
        for name in names
        if not patterns or any(fnmatch(name.rpartition(".")[2], pattern) for pattern in patterns)
    ]


def is_there(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False


def short(name: str) -> str:
    return name.removeprefix(PREFIX)


def run_all(
    modules: list[str], loop: str, backends: list[str], settings: Settings, workers: int
) -> Results:
    """Runs the modules in parallel, the long ones first, with a line for each that ends.

    On the first backend all tests, on the others those that the backend can make a difference to.
    """
    rank = {PREFIX + name: number for number, name in enumerate(LONGEST)}
    results: Results = {}
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        running = {
            pool.submit(run_job, job, settings): job
            for job in sorted(
                (Job(module, loop, backends[0]) for module in modules),
                key=lambda job: rank.get(job.module, len(rank)),
            )
        }
        while running:
            ended, _ = concurrent.futures.wait(
                running, return_when=concurrent.futures.FIRST_COMPLETED
            )
            for done in ended:
                job, report = running.pop(done), done.result()
                results[job.backend, job.module] = report
                print_report(job, report)
                if job.backend == backends[0] and (tests := concerned(report)):
                    for backend in backends[1:]:
                        other = Job(job.module, loop, backend, tests)
                        running[pool.submit(run_job, other, settings)] = other
    return results


def concerned(report: Report) -> tuple[str, ...]:
    """The tests that another backend may make a difference to."""
    return tuple(
        test for test, result in report.results.items() if result.free or result.outcome == "failed"
    )


def print_report(job: Job, report: Report) -> None:
    count = collections.Counter(result.outcome for result in report.results.values())
    said = ", ".join(f"{n} {outcome}" for outcome, n in sorted(count.items()))
    click.echo(
        f"{job.backend:8} {short(job.module):24} "
        f"{report.seconds:5.1f} s  {said or 'not run: ' + report.not_run}"
    )


def run_again(loop: str, results: Results, settings: Settings, expected: list[Expected]) -> Results:
    """Runs each test that failed once more, alone on the machine; an expected failure is left."""
    failed = [
        (backend, module, test)
        for (backend, module), report in results.items()
        for test, result in report.results.items()
        if result.outcome == "failed"
        and not any(entry.covers(short(test), backend) for entry in expected)
        and test.startswith(module + ".")
    ]
    again: Results = {}
    if len(failed) > RETRIES:
        click.echo(f"{len(failed)} failures: too many to run again")
        return again
    for backend, module, test in failed:
        click.echo(f"again, alone: {backend} {short(test)}")
        report = run_job(Job(module, loop, backend, (test,)), settings)
        again.setdefault((backend, module), Report()).results.update(report.results)
    return again


def run_stock(results: Results, again: Results, settings: Settings, workers: int) -> Results:
    """Runs what did not pass on asyncio's own loop, with the backend's selector."""
    jobs: dict[tuple[str, str], Job] = {}
    for (backend, module), report in results.items():
        second = again.get((backend, module), Report()).results
        tests = tuple(
            test
            for test, result in report.results.items()
            if result.outcome != "passed"
            and second.get(test, result).outcome != "passed"
            and test.startswith(module + ".")
        )
        if tests or report.not_run:
            selector = backend if backend in SELECTORS else "epoll"
            jobs[backend, module] = Job(module, "asyncio", selector, tests)
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        return dict(
            zip(jobs, pool.map(partial(run_job, settings=settings), jobs.values()), strict=True)
        )


def judge_all(
    results: Results, again: Results, stock: Results, expected: list[Expected]
) -> dict[str, dict[str, Verdict]]:
    """By backend and test. Where it was asyncio's own loop that ran, `stock` is `results`."""
    verdicts: dict[str, dict[str, Verdict]] = {}
    for (backend, module), report in sorted(results.items()):
        mine = verdicts.setdefault(backend, {})
        second = again.get((backend, module), Report())
        there = stock.get((backend, module), Report())
        for test, result in report.results.items():
            mine[short(test)] = judge(
                short(test),
                backend,
                result,
                second.results.get(test),
                there.results.get(test),
                expected,
            )
        if report.not_run and not there.not_run:
            why = f"the module is skipped ({report.not_run}), but runs on asyncio's loop"
            mine[short(module)] = Verdict("failed", why, Result("failed"))
    return verdicts


def print_verdicts(verdicts: dict[str, dict[str, Verdict]], results: Results) -> None:
    click.echo()
    for kind in ("stock", "expected", "flaky", "surprise", "failed"):
        named: dict[tuple[str, str], list[str]] = {}
        for backend, tests in verdicts.items():
            for test, verdict in tests.items():
                if verdict.kind == kind:
                    named.setdefault((test, verdict.why), []).append(backend)
        if named:
            click.echo(f"tests that {KINDS[kind]}:")
            for (test, why), backends in sorted(named.items()):
                click.echo(f"  {','.join(backends)} {test}: {why}")
    not_run = {short(module): report.not_run for (_, module), report in results.items()}
    for module, why in sorted(not_run.items()):
        if why:
            click.echo(f"not run: {module}: {why}")
    skips = collections.Counter(
        (test.rpartition(".")[0], verdict.why)
        for tests in verdicts.values()
        for test, verdict in tests.items()
        if verdict.kind == "skipped"
    )
    for (group, why), number in sorted(skips.items()):
        click.echo(f"skipped, as on asyncio's own loop: {group}: {number} times: {why}")
    click.echo()
    click.echo(f"{'backend':9}{'tests':>7}{'passed':>8}   on the loop: {'tests':>6}{'passed':>8}")
    for backend, tests in verdicts.items():
        using = [verdict for verdict in tests.values() if verdict.result.uses]
        passed = sum(verdict.kind == "passed" for verdict in tests.values())
        here = sum(verdict.kind == "passed" for verdict in using)
        click.echo(f"{backend:9}{len(tests):7}{passed:8}   {len(using):20}{here:8}")
    click.echo("(the other tests make no loop, or one of asyncio's base classes: they say nothing)")
    click.echo("(a test that passes without a loop that has the backend ran on the first one only)")


def complain(
    verdicts: dict[str, dict[str, Verdict]], expected: list[Expected], whole: bool, using: bool
) -> list[str]:
    """What is wrong with the run as a whole."""
    faults = []
    for backend, tests in verdicts.items():
        flaky = sum(verdict.kind == "flaky" for verdict in tests.values())
        if flaky > FLAKY_LIMIT:
            faults.append(f"{flaky} flaky tests on {backend}, at most {FLAKY_LIMIT} are borne")
        if using and not any(verdict.result.uses for verdict in tests.values()):
            faults.append(f"no test used the loop on {backend}")
    if whole:
        idle = [entry.test for entry in expected if not entry.matched]
        faults += [f"expected.toml names {test}, which no test matches" for test in idle]
    return faults


@click.command(help=__doc__.partition("\n")[0] if __doc__ else None)
@click.argument("patterns", nargs=-1, metavar="[MODULE…]")
@click.option("--loop", default="neverblock", show_default=True, help="MODULE[:FACTORY] or asyncio")
@click.option(
    "--backends", default="all", show_default=True, help="epoll,poll,select or all; io_uring"
)
@click.option("-k", "keywords", multiple=True, help="only tests with this in their id")
@click.option(
    "-j", "--jobs", default=2 * (os.cpu_count() or 1), show_default=True, help="processes"
)
@click.option("--test-timeout", default=60.0, show_default=True, help="seconds for one test")
@click.option("--debug", is_flag=True, help="in asyncio's debug mode")
@click.option(
    "--expected",
    "expected_path",
    type=click.Path(exists=True, path_type=Path),
    help="the list of expected failures  [default: expected.toml for neverblock, else none]",
)
@click.option("-v", "--verbose", is_flag=True, help="the whole traceback of each failure")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="write every result")
def main(
    patterns: tuple[str, ...],
    loop: str,
    backends: str,
    keywords: tuple[str, ...],
    jobs: int,
    test_timeout: float,
    debug: bool,
    expected_path: Path | None,
    verbose: bool,
    json_path: Path | None,
) -> None:
    # The shell of a background job has it ignored, and the workers would keep to that: tests of
    # Ctrl-C would wait for ever.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    modules = find_modules(patterns)
    if not modules:
        raise click.ClickException(f"no test module matches {' '.join(patterns)}")
    chosen = choose_backends(loop, backends)
    if (reason := obstacle(chosen)) is not None:
        click.echo(f"nothing is run: {reason}")
        return
    settings = Settings(keywords, test_timeout, debug)
    if expected_path is None and loop == "neverblock":
        expected_path = LIST
    expected = read_expected(expected_path) if expected_path else []
    click.echo(
        f"CPython {platform.python_version()}'s asyncio tests on {loop}: {', '.join(chosen)}"
    )

    results = run_all(modules, loop, chosen, settings, jobs)
    again = run_again(loop, results, settings, expected)
    stock = results if loop == "asyncio" else run_stock(results, again, settings, jobs)
    verdicts = judge_all(results, again, stock, expected)

    if verbose:
        for backend, tests in verdicts.items():
            for test, verdict in tests.items():
                if verdict.bad:
                    click.echo(f"\n--- {backend} {test}\n{verdict.result.why}")
    print_verdicts(verdicts, results)
    faults = complain(verdicts, expected, not patterns and not keywords, not patterns)
    for fault in faults:
        click.echo(fault)
    if json_path:
        json_path.write_text(json.dumps(as_json(loop, verdicts), indent=1))
    kinds = collections.Counter(v.kind for tests in verdicts.values() for v in tests.values())
    failed = kinds["failed"] + kinds["surprise"] + len(faults)
    aside = kinds["skipped"] + kinds["stock"] + kinds["expected"]
    click.echo(f"{kinds['passed'] + kinds['flaky']} passed, {failed} failed, {aside} skipped")
    sys.exit(1 if failed else 0)


def choose_backends(loop: str, backends: str) -> list[str]:
    if loop not in ("neverblock", "asyncio"):
        return [ANY_BACKEND]
    chosen = list(SELECTORS) if backends == "all" else backends.split(",")
    known = [*SELECTORS, *(MORE if loop == "neverblock" else ())]
    if unknown := set(chosen) - set(known):
        raise click.BadParameter(
            f"no such backend: {', '.join(unknown)}; known: {', '.join(known)}"
        )
    return chosen


def obstacle(chosen: list[str]) -> str | None:
    """What keeps this system from a backend that the standard library has no selector for."""
    for backend in set(chosen) & set(MORE):
        from neverblock import multiplexers

        if (reason := multiplexers.available()[backend]) is not None:
            return f"{backend}: {reason}"
    return None


def as_json(loop: str, verdicts: dict[str, dict[str, Verdict]]) -> dict[str, object]:
    return {
        "python": platform.python_version(),
        "loop": loop,
        "backends": {
            backend: {
                test: {"kind": verdict.kind, **asdict(verdict.result), "reason": verdict.why}
                for test, verdict in tests.items()
            }
            for backend, tests in verdicts.items()
        },
    }


if __name__ == "__main__":
    main()
