"""Any program is a simulator: what it writes is x, what fails is a row, and no file runs it."""

import logging
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from click.testing import CliRunner

import physgen
from physgen.cli import main
from physgen.dataset import Dataset, read
from physgen.dataset.simulated import Manners
from physgen.errors import DataError, SimulatorFailed, UsageError
from physgen.law import Law
from physgen.registry import COMMAND, targets
from simulators import Box, CannotRun, Command, RowsFailed

NOISE = 'awk -v a="$1" -v s="$2" \'BEGIN { srand(s); print a + rand(), rand(), rand() }\''
"""A program of a parameter and a seed, which prints three numbers."""
PRIOR = {"a": (0.0, 1.0)}
SIZE = {"n": 40, "prior": PRIOR, "seed": 3}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1000")
    return tmp_path


def program(body, name="sim"):
    """An executable script of sh."""
    path = Path(name)
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return f"./{name}"


def run(*args):
    return CliRunner().invoke(main, list(map(str, args)))


def words(text):
    """An error message on one line."""
    return " ".join(text.split())


def ran(command, theta=0.25, **options):
    """x of one run, (1, *x_shape); what it raises, as the reason of its row."""
    try:
        x = Command(command, **{"x_shape": 3} | options).sample(
            np.array([[theta]]), np.random.default_rng(0)
        )
    except RowsFailed as error:
        return error.reasons[0]
    return x[0].tolist()


# --- what a program is given, and what it gives ---


def test_a_program_is_given_every_digit_and_a_seed_of_its_row():
    command = program('echo "$1 $2" >> given; echo 1 2 3')
    theta = np.array([[0.1 + 0.2], [1e-17]])
    Command(command + " {a} {seed}", 3).sample(theta, np.random.default_rng(5))
    lines = [line.split() for line in Path("given").read_text().splitlines()]
    assert [float(a) for a, _ in lines] == theta[:, 0].tolist()
    seeds = [int(seed) for _, seed in lines]
    assert seeds == np.random.default_rng(5).integers(2**31, size=2).tolist()
    assert seeds[0] != seeds[1]


def test_there_is_no_shell_and_braces_can_be_written():
    command = program('printf "%s\\n" "$@" > given; echo 1 2 3')
    assert ran(f"{command} 'x; touch bad' '{{{{{{a}}}}}}' '$HOME >' {{seed}} `touch bad`") == [
        1,
        2,
        3,
    ]
    seed = int(np.random.default_rng(0).integers(2**31, size=1)[0])
    assert Path("given").read_text().splitlines() == [
        "x; touch bad", "{0.25}", "$HOME >", str(seed), "`touch", "bad`",
    ]  # fmt: skip
    assert not Path("bad").exists()


def test_a_program_reads_nothing_and_lies_in_a_session_of_its_own():
    command = program("cat; echo $(ps -o sid= -p $$) $$ 0")
    sid, pid, _ = ran(command + " {a}")
    assert sid == pid != os.getsid(0)


X = np.arange(6.0).reshape(2, 3) / 7


@pytest.mark.parametrize("name", ["out", "out.npy", "out.npz", "out.h5", "out.txt"])
def test_files_are_read_by_their_content(name):
    if name.endswith("npy"):
        np.save("made.npy", X[None])
    elif name.endswith("npz"):
        np.savez("made.npz", x=X)
    elif name.endswith("h5"):
        with h5py.File("made.h5", "w") as file:
            file["group/x"] = X
    else:
        Path(f"made{Path(name).suffix}").write_text(
            "# header 1 2 3\n" + ",\t\n".join(map(repr, X.ravel().tolist())) + " # end\r\n"
        )
    made = f"made{Path(name).suffix}"
    options = {"x_shape": (2, 3), "array": "group/x" if name.endswith("h5") else None}
    assert ran(f"cp {made} {{out}}{name[3:]} -b --suffix={{a}}", **options) == X.tolist()


def test_of_several_arrays_one_is_named():
    np.savez("made.npz", x=X, y=-X)
    command = "cp made.npz {out} --suffix={a}"
    assert ran(command, x_shape="2,3") == "name one array of {out}, which holds x, y"
    assert ran(command, x_shape=[2, 3], array="y") == (-X).tolist()
    assert "z is not a file in the archive" in ran(command, array="z")


def test_objects_in_files_are_never_made():
    np.save("made.npy", np.array([{"a": 1}, None, 2], dtype=object), allow_pickle=True)
    assert "Object arrays cannot be loaded" in ran("cp made.npy {out} --suffix={a}")


def test_text_without_an_out_file_is_what_is_printed():
    assert ran(program("echo 1,2; echo '# no'; echo 3e-300") + " {a}") == [1, 2, 3e-300]


def test_the_folder_of_a_run_is_removed(tmp_path):
    assert ran(program('pwd > /dev/null; echo 1 2 3 > "$1"; echo "$1" > where') + " {out} {a}")
    assert not Path(Path("where").read_text().strip()).parent.exists()


# --- what goes wrong ---


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("echo begun >&2; echo 'no root' >&2; echo >&2; exit 3", "exit code 3: no root"),
        ("exit 7", "exit code 7"),
        ("kill -SEGV $$", "killed by SIGSEGV"),
        ("echo 1 2", "expected 3 numbers, got 2"),
        ("echo 1 2 3 4", "expected 3 numbers, got 4"),
        ("", "expected 3 numbers, got 0"),
        ("echo 1 two 3", "expected numbers: could not convert string to float: 'two'"),
        ("echo 1 2_0 3", "expected numbers: could not convert string to float: '2?0'"),
    ],
)
def test_a_run_that_fails_says_why(body, reason):
    assert ran(program(body) + " {a}") == reason


def test_files_that_are_not_x_say_why():
    assert ran("true {a} {out}") == "wrote no file {out}"
    command = program('touch "$1.a" "$1.b"')
    assert ran(command + " {out} {a}") == "wrote several files, {out}.a, {out}.b"
    np.save("made.npy", X.T)
    transposed = ran("cp made.npy {out} --suffix={a}", x_shape=(2, 3))
    assert transposed == "expected x of shape (2, 3), got (3, 2)"  # and not reshaped
    np.save("made.npy", np.array(["a", "b", "c"]))
    assert "expected real numbers" in ran("cp made.npy {out} --suffix={a}")
    Path("made.npy").write_bytes(Path("made.npy").read_bytes()[:60])
    assert "cannot read {out}" in ran("cp made.npy {out} --suffix={a}")
    Path("made.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(80))
    assert "cannot read {out}" in ran("cp made.h5 {out} --suffix={a}")


def gone(pid):
    """Whether a process has ended; one that nobody has waited for counts as such."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return True
    return state == "Z"


def wait_for(condition, seconds=10.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "nothing came of it"
        time.sleep(0.01)


TREE = "sleep 60 & echo $! > child; echo $$ > parent; sleep 60; echo 1 2 3"


@pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")
def test_a_run_that_takes_too_long_is_ended_with_all_that_it_started():
    begun = time.monotonic()
    assert ran(program(TREE) + " {a}", timeout=0.2) == "took longer than 0.2 s"
    assert time.monotonic() - begun < 5
    for name in ("child", "parent"):
        wait_for(lambda name=name: gone(int(Path(name).read_text())))
    assert ran(program("echo 1 2 3") + " {a}", timeout=5) == [1, 2, 3]  # the control


@pytest.mark.parametrize(("command", "reason"), [
    ("nosuch {a}", "nosuch: No such file or directory; expected a program"),
    ("sim {a}", "of a program in this folder, write ./sim"),
    ("./plain {a}", "./plain: Permission denied"),
    ("./empty {a}", "Exec format error"),
])  # fmt: skip
@pytest.mark.parametrize("on_error", ["stop", "skip"])
def test_a_program_that_cannot_be_started_is_one_line_at_once(command, reason, on_error):
    program("echo 1 2 3")
    Path("plain").touch()
    Path(program("", "empty")).write_text("no script")
    done = run("simulate", "--command", command, "--prior", "a=0:1", "--x-shape", 3, "-n", 40,
               "-o", "d.h5", "--on-error", on_error, "--dtype", "float64")  # fmt: skip
    assert done.exit_code == 2
    assert reason in words(done.output)
    assert not list(Path().glob("*d.h5*"))


@pytest.mark.parametrize(("options", "reason"), [
    ({"command": "./sim"}, "expected a parameter in braces"),
    ({"command": "./sim {seed} {out}"}, "expected a parameter in braces"),
    ({"command": ""}, "expected a program"),
    ({"command": "./sim {a} | head -5"}, "| is of a shell, and there is none"),
    ({"command": "./sim '{a}"}, "No closing quotation"),
    ({"command": "./sim {a"}, "expected '}'"),
    ({"command": "./sim {a:.2f}"}, "expected a name alone in braces"),
    ({"command": "./sim {a!r}"}, "expected a name alone in braces"),
    ({"command": "./sim {a.real}"}, "expected a name alone in braces"),
    ({"command": "./sim {} {a}"}, "expected a name alone in braces"),
    ({"x_shape": 0}, "expected positive sizes"),
    ({"x_shape": "3,x"}, "expected positive sizes"),
    ({"x_shape": None}, "x_shape: expected"),
    ({"timeout": 0.0}, "timeout: expected seconds above 0"),
    ({"support": "levels"}, "levels: expected 2 to"),
    ({"dtype": "float16"}, "dtype: expected one of float32, float64"),
    ({"support": "words"}, "support: expected one of"),
])  # fmt: skip
def test_options_that_cannot_be_are_refused(options, reason):
    given = {"command": "./sim {a}", "x_shape": 3} | options
    with pytest.raises(UsageError) as error:
        Law.of(COMMAND, given, PRIOR)
    assert reason in str(error.value)


# --- its prior ---


def test_every_parameter_needs_a_law_or_a_value_and_no_other_has_one():
    command = Command("./sim {a} {tau} {seed} {b} {a} {out}", 3)
    assert command.theta_names == ("a", "tau", "b")
    with pytest.raises(UsageError, match="no law of tau, b; give one, as in --prior tau=0:1"):
        Law.of(command, prior=PRIOR)
    with pytest.raises(UsageError, match="unknown c; has a, tau, b"):
        Law.of(command, prior={"b": 1.0, "c": (0, 1), "tau": (0, 1), "a": (0, 1)})
    law = Law.of(command, prior={"b": 1.0, "tau": "loguniform:1e-3:1", "a": (0, 1)})
    assert law.prior.names == ("a", "tau")
    assert law.prior.fixed == {"b": 1.0}
    whole = Box(tau=(0, 1), b=(2, 3), a=(0, 1))
    assert Law.of(command, prior=whole).prior.names == ("a", "tau", "b")
    with pytest.raises(UsageError, match="no law of tau, b"):
        Law.of(command, prior=Box(a=(0, 1)))


def test_what_is_fixed_goes_to_the_program():
    command = program('echo "$1 $2 0"')
    made = physgen.simulate(Command(command + " {a} {b}", 3), n=5, prior=PRIOR, fix={"b": 0.5})
    np.testing.assert_allclose(made.x, np.column_stack([made.theta, [0.5] * 5, [0] * 5]))
    assert made.theta.shape == (5, 1)


def test_simulators_of_ones_own_may_leave_the_prior_to_the_caller():
    law = Law.of("names_only:Scaled", {}, {"s": (1, 2)}) if names_only() else None
    x = law.build().sample(np.array([[2.0]]), np.random.default_rng(0))
    assert x.shape == (1, 2)
    with pytest.raises(UsageError, match="no law of s"):
        Law.of("names_only:Scaled")


def names_only():
    Path("names_only.py").write_text(
        "class Scaled:\n    theta_names = ('s',)\n    x_shape = (2,)\n"
        "    def sample(self, theta, rng):\n        return theta * rng.normal(size=(1, 2))\n"
    )
    return True


# --- datasets ---


@pytest.mark.slow
def test_the_command_line_makes_what_python_makes():
    command = program(NOISE) + " {a} {seed}"
    options = ("--prior", "a=0:1", "--x-shape", "3", "-n", 40, "--seed", 3)
    done = run("simulate", "--command", command, *options, "-o", "a.h5")
    assert done.exit_code == 0, done.output
    assert "a.h5: 40 rows of simulators.command:Command in" in done.output
    assert run("simulate", "command", "--command", command, *options, "-o", "b.h5").exit_code == 0
    physgen.simulate(Command(command, 3), out="c.h5", **SIZE)
    whole = Path("a.h5").read_bytes()
    assert Path("b.h5").read_bytes() == whole == Path("c.h5").read_bytes()
    memory = physgen.simulate(Command(command, (3,)), **SIZE)
    assert memory.law == Dataset("a.h5").law
    np.testing.assert_array_equal(memory.x, Dataset("a.h5").x)
    again = Dataset("a.h5").meta.provenance["command"].removeprefix("physgen ")
    done = subprocess.run(
        [sys.executable, "-m", "physgen", *shell_words(again), "-o", "d.h5"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert Path("d.h5").read_bytes() == whole


def shell_words(text):
    done = subprocess.run(["sh", "-c", f'printf "%s\\n" {text}'], capture_output=True, check=True)
    return done.stdout.decode().splitlines()


def test_help_tells_of_commands():
    assert "physgen simulate --command" in words(run("simulate", "--help").output)
    assert "\n  command " in run("simulate", "-h").output
    told = run("simulate", "command", "--help").output
    for option in ("--command", "--x-shape", "--timeout", "--array", "--theta-at"):
        assert option in told
    assert "command" not in targets("simulators")
    missing = run("simulate", "-n", 5)
    assert missing.exit_code == 2
    assert "physgen simulate command" in words(missing.output).replace("main", "physgen")


FAILING = 'if [ "$1" \\> 0.9 ]; then echo runs >> runs; echo "no root" >&2; exit 3; fi\n' + NOISE
"""Fails in a tenth of the prior."""


def test_failed_runs_are_rows_and_no_other_runs_twice():
    command = Command(program(f"echo x >> all\n{FAILING}") + " {a} {seed}", 3, dtype="float64")
    with pytest.raises(SimulatorFailed, match=r"row \d+: exit code 3: no root \(\d+ of 16 rows\)"):
        physgen.simulate(command, **SIZE)
    Path("all").unlink()
    law = Law.of(command, prior=PRIOR)
    made = physgen.simulate(command, **SIZE, on_error="skip")
    looked = 2 * 3
    assert len(Path("all").read_text().splitlines()) == 40 + looked
    theta = law.prior.sample(16, np.random.default_rng(0))
    assert theta.shape == (16, 1)
    assert (made.theta <= 0.9).all()
    assert (made.failed.theta > 0.9).all()
    assert set(made.failed.messages) == {"exit code 3: no root"}
    assert len(made) + len(made.failed) == 40
    again = physgen.simulate(command, **SIZE, on_error="redraw")
    assert len(again) == 40
    good = again.theta[np.isin(again.theta, made.theta)]
    np.testing.assert_array_equal(good, made.theta[:, 0])


def test_values_that_are_not_finite_are_failed_rows():
    command = Command(program('echo nan "$1" 0') + " {a}", 3, dtype="float64")
    with pytest.raises(DataError, match="all 40 rows failed: x is not finite"):
        physgen.simulate(command, **SIZE, on_error="skip")


def test_bytes_do_not_depend_on_workers_and_shards_are_small():
    command = Command(program(FAILING) + " {a} {seed}", 3)
    one = physgen.simulate(command, out="one.h5", on_error="skip", **SIZE)
    physgen.simulate(command, out="two.h5", on_error="skip", workers=2, **SIZE)
    assert Path("one.h5").read_bytes() == Path("two.h5").read_bytes()
    with h5py.File("one.h5") as file:
        assert file["x"].chunks[0] == 16
    assert one.failures


def test_a_dry_run_makes_one_row():
    command = Command(program(f"echo x >> all\n{NOISE}") + " {a} {seed}", 3, dtype="float64")
    made = physgen.simulate(command, **SIZE, dry_run=True)
    assert "would make: 40 rows" in made.summary
    assert len(Path("all").read_text().splitlines()) == 2 * 3 + 1


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")
@pytest.mark.parametrize(("signum", "code", "workers"), [
    ("SIGINT", 130, 1),
    *(pytest.param(name, code, workers, marks=pytest.mark.slow)
      for name, code, workers in [("SIGTERM", 143, 1), ("SIGKILL", -9, 1), ("SIGINT", 130, 2),
                                  ("SIGTERM", 143, 2), ("SIGKILL", -9, 2)]),
])  # fmt: skip
def test_an_interruption_ends_the_program_and_the_rest_is_made_later(signum, code, workers):
    """The first run of the third shard or later waits; what the others made is kept."""
    body = f'if [ -e wait ] && rm wait; then {TREE}; fi\necho "$1" "$2" 0'
    program(body)
    options = ["simulate", "--command", "./sim {a} {seed}", "--prior", "a=0:1", "--x-shape", "3",
               "-n", "200", "--dtype", "float64", "--workers", str(workers)]  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, "-m", "physgen", *options, "-o", "d.h5"],
        stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    wait_for(lambda: any(Path().glob(".d.h5.parts/0*.h5")), 60)
    Path("wait").touch()
    wait_for(lambda: Path("parent").exists() and Path("parent").read_text())
    process.send_signal(getattr(signal, signum))
    _, err = process.communicate(timeout=20)
    assert process.returncode == code
    pids = [int(Path(name).read_text()) for name in ("parent", "child")]
    if signum != "SIGKILL":
        assert f"d.h5: interrupted by {signum}; rerun the same command" in err
    if signum != "SIGKILL" or workers > 1:
        wait_for(lambda: all(map(gone, pids)))
    else:
        os.killpg(pids[0], signal.SIGKILL)  # nobody was left to do so
    kept = {path: path.stat().st_mtime_ns for path in Path().glob(".d.h5.parts/0*.h5")}
    assert 0 < len(kept) < 13
    Path("calls").unlink(missing_ok=True)
    program(f"echo x >> calls\n{body}")
    done = subprocess.run(
        [sys.executable, "-m", "physgen", *options, "-o", "d.h5"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    calls = len(Path("calls").read_text().splitlines())
    assert calls == 200 - 16 * len(kept) + 2 * 3  # those of the first look included
    whole = physgen.simulate(Command("./sim {a} {seed}", 3, dtype="float64"), n=200, prior=PRIOR)
    np.testing.assert_array_equal(read("d.h5").x, whole.x)


# --- manners ---


@pytest.mark.parametrize(("body", "told"), [
    (NOISE, None),
    ("echo $1 0.5 $$", "this file cannot be made again"),
    ("echo $1 0.5 0.5", "two rows of one theta have the same x"),
    ("echo 1 0 1", None),  # counts may well be the same
])  # fmt: skip
def test_what_a_program_does_with_its_seed_is_told(body, told, caplog):
    caplog.set_level(logging.WARNING, "physgen")
    made = physgen.simulate(Command(program(body) + " {a} {seed}", 3), **SIZE)
    assert [told in line for line in caplog.messages] == ([True] if told else [])
    assert ("reproducible" in made.meta.provenance) == (told is not None and "again" in told)


def test_a_slow_program_is_not_asked_twice(monkeypatch):
    monkeypatch.setattr("physgen.dataset.simulated.PATIENCE", 0.0)
    command = Command(program(f"echo x >> all\n{NOISE}") + " {a} {seed}", 3)
    found = Manners.of(command, np.array([[0.1], [0.2], [0.3]]))
    assert found.reproducible is None
    assert len(Path("all").read_text().splitlines()) == 3


@pytest.mark.parametrize(("value", "dtype"), [("0.5", "float32"), ("1e9", "float64")])
def test_the_first_rows_tell_the_digits_failed_ones_left_out(value, dtype):
    """x of a mean of 1e9 and a spread of 1 loses its digits in float32."""
    body = 'if [ "$1" \\< 0.2 ]; then exit 1; fi\nawk -v a="$1" \'BEGIN { printf "%.17g 0 0", '
    body += f"{value} + a }}'"
    command = Command(program(body) + " {a}", 3)
    assert physgen.simulate(command, **SIZE, on_error="skip").law.dtype == dtype


# --- rows that a simulator of one's own says have failed ---


class Partly:
    prior = Box(a=(0, 1))
    x_shape = (2,)
    dtype = "float64"

    def sample(self, theta, rng):
        x = theta + rng.normal(size=(len(theta), 2))
        failed = {int(i): f"no\nroot {i % 2}" for i in np.flatnonzero(theta[:, 0] > 0.5)}
        if failed:
            raise RowsFailed(x, failed)
        return x


class Whole(Partly):
    def sample(self, theta, rng):
        return theta + rng.normal(size=(len(theta), 2))


def test_rows_that_are_said_to_have_failed_leave_the_others_as_they_are():
    how = {"n": 50, "shard_rows": 20, "seed": 1}
    some, whole = (physgen.simulate(cls, on_error="skip", **how) for cls in (Partly, Whole))
    good = whole.theta[:, 0] <= 0.5
    np.testing.assert_array_equal(some.x, whole.x[good])
    np.testing.assert_array_equal(some.failed.theta, whole.theta[~good])
    assert set(some.failed.messages) == {"no root 0", "no root 1"}
    with pytest.raises(SimulatorFailed, match=r"row \d+: no root \d \(\d+ of 20 rows\); mend it"):
        physgen.simulate(Partly, **how)


@pytest.mark.parametrize("reasons", [{}, {5: "x"}, {-1: "x"}])
def test_reasons_are_of_rows(reasons):
    with pytest.raises(ValueError, match="expected rows 0 to 4"):
        RowsFailed(np.zeros((5, 2)), reasons)


# --- a file never chooses what runs ---


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A dataset, a surrogate, a posterior and a network of a program that leaves a mark."""
    folder = tmp_path_factory.mktemp("files")
    path, mark = folder / "sim", folder / "mark"
    path.write_text(f"#!/bin/sh\ntouch {mark}\n{NOISE}\n")
    path.chmod(0o755)
    command = Command(f"{path} {{a}} {{seed}}", 3)
    data = physgen.simulate(command, n=520, prior=PRIOR, out=folder / "d.h5")
    surrogate = physgen.fit("cvae", data, epochs=1, out=folder / "s.pt")
    assert mark.exists()
    mark.unlink()
    return {"command": command, "data": data.path, "surrogate": surrogate.path, "mark": mark}


def uses(files):
    """What is made of a dataset and a surrogate in seconds."""
    data, surrogate = files["data"], files["surrogate"]
    posterior = physgen.infer(surrogate, data, rows=slice(0, 1), out="p.h5")
    drawn = physgen.sample(surrogate, theta_from="p.h5", n=20, out="x.h5")
    physgen.infer(data, data, rows=slice(0, 1), method="abc")
    physgen.report(posterior, predictive=drawn)
    physgen.inspect(data, verify=True)
    Dataset(data).law.build_if_known()


@pytest.mark.slow
def test_judging_never_runs_a_program(files, quick, blank):
    physgen.validate(files["surrogate"], files["data"])
    physgen.calibrate(files["surrogate"], files["data"])
    assert not files["mark"].exists()


def test_a_file_never_runs_its_program(files, quick, blank):
    uses(files)
    assert not files["mark"].exists()
    law = Dataset(files["data"]).law
    assert law.build_if_known() is None
    for wrong in (COMMAND, "./other {a}"):
        with pytest.raises(UsageError, match="simulator: expected"):
            law.build_if_known(wrong)
    assert not files["mark"].exists()
    for word in (files["command"].command, files["command"]):  # the control: the caller's word
        trusted = physgen.verbs.opening.name_of_simulator(word)
        built = law.build_if_known(trusted)
        built.sample(np.array([[0.5]]), np.random.default_rng(0))
        assert files["mark"].exists()
        files["mark"].unlink()


@pytest.mark.slow
def test_a_calibration_runs_the_program_on_the_callers_word(files, quick, blank, monkeypatch):
    """The control: of a network's posterior it draws predictive x, of a simulator that it has."""
    pytest.importorskip("sbi")
    data = Dataset(files["data"])
    posterior = physgen.infer(data, data, rows=slice(0, 1), method="npe", epochs=1)

    class Called(BaseException):
        pass

    def sample(self, theta, rng):
        raise Called

    monkeypatch.setattr(Command, "sample", sample)
    with pytest.raises(Called):
        physgen.calibrate(posterior, data, simulator=files["command"].command)


def test_options_of_a_program_in_a_file_cannot_be_changed(files):
    with pytest.raises(UsageError, match="not registered"):
        physgen.sample(files["surrogate"], n=3, at={"timeout": 3})
    law = Dataset(files["data"]).law
    assert replace(law, options={"command": 3}).build_if_known() is None


def test_a_program_that_is_gone_is_told_when_it_is_called():
    with pytest.raises(CannotRun, match="nosuch"):
        Command("nosuch {a}", 3).sample(np.array([[0.5]]), np.random.default_rng(0))
