from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

import pytest

from physgen.errors import Interrupted
from physgen.runtime.interrupt import interruptible


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_is_raised_by_check_alone(signum, code):
    steps = 0

    def work():
        nonlocal steps
        with interruptible("set.h5") as stop:
            stop.check()
            os.kill(os.getpid(), signum)
            steps += 1
            stop.check()
            steps += 1

    with pytest.raises(Interrupted, match=r"set\.h5: interrupted") as caught:
        work()
    assert steps == 1
    assert caught.value.exit_code == code


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_handlers_are_restored(signum):
    before = signal.getsignal(signum)
    with interruptible():
        assert signal.getsignal(signum) != before
    assert signal.getsignal(signum) == before
    with pytest.raises(ZeroDivisionError), interruptible():
        _ = 1 / 0
    assert signal.getsignal(signum) == before


def test_a_signal_after_the_last_check_is_not_lost():
    finished = []

    def work():
        with interruptible("set.h5", "all is there"):
            signal.raise_signal(signal.SIGINT)  # of this thread: os.kill may pick another one
            finished.append(True)

    with pytest.raises(Interrupted, match=r"set\.h5: interrupted by SIGINT; all is there"):
        work()
    assert finished


def test_a_signal_ends_a_block_that_may_end_at_once():
    done = []

    def work(before):
        with interruptible("a.pt") as stop:
            if before:
                signal.raise_signal(signal.SIGINT)
            with stop.at_once():
                done.append("begun")
                signal.raise_signal(signal.SIGINT)
                done.append("not reached")

    for before in (False, True):
        with pytest.raises(Interrupted, match=r"a\.pt: interrupted by SIGINT"):
            work(before)
    assert done == ["begun"]


def test_after_such_a_block_a_signal_is_a_flag_again():
    done = []

    def work():
        with interruptible() as stop:
            with stop.at_once():
                pass
            signal.raise_signal(signal.SIGINT)
            done.append("the rest")

    with pytest.raises(Interrupted):
        work()
    assert done == ["the rest"]


def test_nested_the_outer_flag_learns_of_it():
    def work():
        with interruptible("outer") as outer:
            with interruptible("inner"):
                os.kill(os.getpid(), signal.SIGINT)
            outer.check()

    with pytest.raises(Interrupted, match="outer"):
        work()


def test_nothing_happens_outside_the_main_thread():
    before, seen = signal.getsignal(signal.SIGINT), []

    def body():
        with interruptible() as stop:
            stop.check()
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    assert seen == [before]


@pytest.mark.parametrize(("signum", "code"), [(2, 130), (15, 143)])
def test_a_second_signal_ends_the_process(signum, code):
    program = (
        "import os\nfrom physgen.runtime.interrupt import interruptible\n"
        f"with interruptible():\n    os.kill(os.getpid(), {signum})\n"
        "    print('one', flush=True)\n"
        f"    os.kill(os.getpid(), {signum})\n    print('two', flush=True)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.stdout == "one\n"
    assert done.returncode == code


STARTS = """
import os, signal, sys
from physgen.__main__ import start

_, stage, signum, *words = sys.argv
sys.argv = ["physgen", *words]


class Watch:
    def find_spec(self, name, path=None, target=None):
        if name == stage:
            os.kill(os.getpid(), int(signum))


sys.meta_path.insert(0, Watch())
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs are deaf
start()
"""


@pytest.mark.slow
@pytest.mark.parametrize(("signum", "code"), [(2, 130), (15, 143)])
@pytest.mark.parametrize("stage", ["click", "physgen.verbs.simulate", "simulators.gaussian"])
def test_the_command_answers_from_its_start(stage, signum, code, tmp_path):
    """While it is imported, while its options are read, and before its work begins."""
    words = ["simulate", "gaussian", "-n", "5", "-o", "x.h5"]
    done = subprocess.run(
        [sys.executable, "-c", STARTS, stage, str(signum), *words],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    name = {2: "SIGINT", 15: "SIGTERM"}[signum]
    assert done.stderr == f"Error: interrupted by {name}; rerun the same command\n"
    assert done.returncode == code
    assert not list(tmp_path.iterdir())


def test_an_answer_that_python_would_drop_is_given_all_the_same():
    program = (
        "import os, signal\nfrom physgen.runtime.interrupt import end\n"
        "signal.signal(15, end)\n"
        "class Dropped:\n    def __del__(self):\n        os.kill(os.getpid(), 15)\n"
        "        [None for _ in range(10**4)]\n"
        "Dropped()\nprint('went on')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.stderr == "Error: interrupted by SIGTERM; rerun the same command\n"
    assert (done.stdout, done.returncode) == ("", 143)


@pytest.mark.parametrize("quiet", [True, False])
def test_a_process_that_has_said_why_it_ends_says_no_more(quiet):
    program = (
        "import os, signal, sys\nfrom physgen.cli.commands import fail\n"
        "from physgen.errors import UsageError\nfrom physgen.runtime.interrupt import end\n"
        f"signal.signal(15, end)\nif not {quiet}:\n"
        "    import physgen.cli.commands as commands\n"
        "    commands.end_without_a_word = lambda: None\n"
        "sys.exit = lambda code: os.kill(os.getpid(), 15)\nfail(UsageError('why'))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.stderr.startswith("Error: why\n")
    assert done.stderr.count("Error: ") == (1 if quiet else 2)
    assert done.returncode == 143
