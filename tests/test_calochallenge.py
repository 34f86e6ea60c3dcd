"""The CaloChallenge's format: read and written without a bit lost, streamed, and guarded."""

from __future__ import annotations

import hashlib
import json
import pickle
import resource
import subprocess
import sys
import tracemalloc

import h5py
import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import physgen
from physgen import dataset
from physgen.cli import main
from physgen.dataset import Meta, Rows, Shard
from physgen.errors import DataError, UsageError
from physgen.formats import calochallenge
from physgen.formats.binning import read_binning, write_binning
from physgen.law import Law
from simulators.prior import Box
from simulators.shower.geometry import Geometry, Layer


def layer(number, rings, azimuths, width=5.0):
    return Layer(number, tuple(width * np.arange(rings + 1)), azimuths)


def absent(number):
    return Layer(number, (0.0,), 1)


PHOTONS = Geometry(
    (
        layer(0, 8, 1), layer(1, 16, 10), layer(2, 19, 10), layer(3, 5, 1),
        *map(absent, range(4, 12)), layer(12, 5, 1), *map(absent, range(13, 24)),
    )
)  # fmt: skip
REGULAR = Geometry(tuple(layer(k, 2, 3, 4.65) for k in range(4)))
EXPECTED = {"photons": (PHOTONS, (368,)), "regular": (REGULAR, (4, 3, 2))}
DISCRETE = 2.0 ** np.arange(8, 23)  # MeV, dataset 1


def showers_of(geometry, n, dtype, seed=7, energies=None):
    """(energies, showers), with many zeros and with numbers of all sizes."""
    rng = np.random.default_rng(seed)
    if energies is None:
        energies = 10 ** rng.uniform(3, 6, n)
    x = rng.exponential(size=(n, geometry.cells)) ** 9 * (rng.random((n, geometry.cells)) < 0.3)
    x = np.minimum(x, 6e4)  # the largest float16 is 65504
    return np.reshape(energies, (n, 1)).astype(dtype), x.astype(dtype)


def store(path, energies, showers, chunks=True):
    with h5py.File(path, "w") as file:
        for name, values in (("incident_energies", energies), ("showers", showers)):
            fits = chunks if chunks is True or name == "showers" else True
            file.create_dataset(name, data=values, compression="gzip", chunks=fits)
    return path


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A folder with one good file and its binning."""
    monkeypatch.chdir(tmp_path)
    store("a.hdf5", *showers_of(REGULAR, 53, "f4"))
    write_binning(tmp_path / "a.xml", REGULAR, "electron")
    return tmp_path


def run(*words):
    return CliRunner().invoke(main, [str(w) for w in words])


def imported(source, binning, out="data.h5", **options):
    return physgen.import_("calochallenge", source, binning=binning, out=out, **options)


def exported(data="data.h5", out="out.hdf5", **options):
    return physgen.export(data, format="calochallenge", out=out, **options)


def arrays(path, *more):
    with h5py.File(path) as file:
        assert set(file) == {"incident_energies", "showers", *more}
        assert not len(file.attrs)
        return file["incident_energies"][()], file["showers"][()]


def same(got, want):
    assert got.dtype == want.dtype
    assert got.shape == want.shape
    assert got.tobytes() == want.tobytes()


@pytest.mark.parametrize("energies", [None, DISCRETE], ids=["log-uniform", "discrete"])
@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
@pytest.mark.parametrize("name", EXPECTED)
def test_there_and_back(home, name, dtype, energies):
    geometry, x_shape = EXPECTED[name]
    n = 105
    energies = np.geomspace(1e3, 1e6, n) if energies is None else np.repeat(energies, 7)
    e, x = showers_of(geometry, n, dtype, energies=energies / 2**8 if dtype == "f2" else energies)
    store("in.hdf5", e, x)
    write_binning(home / "in.xml", geometry, "photon")
    done = imported("in.hdf5", "in.xml")
    assert ("rounded" in done.summary) == (dtype == "f8")
    rows = dataset.read("data.h5")
    assert rows.x.shape[1:] == x_shape == rows.meta.law.x_shape
    np.testing.assert_allclose(rows.theta[:, 0], np.log(e[:, 0].astype(float) / 1e3), atol=1e-14)
    exported()
    got_e, got_x = arrays("out.hdf5")
    same(got_e, e)
    same(got_x, x.astype("f4"))
    again = imported("out.hdf5", "in.xml", "again.h5")
    assert len(again) == n
    same(dataset.read("again.h5").x, rows.x)


def test_what_an_imported_file_says_of_itself(home):
    imported("a.hdf5", "a.xml")
    meta = dataset.read("data.h5").meta
    law = meta.law
    assert (law.simulator, law.support, law.symmetries) == ("calochallenge", "nonnegative", ())
    assert law.build_if_known() is None
    assert Geometry.from_json(law.options["binning"]) == REGULAR
    assert law.options["particle"] == "electron"
    assert law.options["unit"] == "MeV"
    assert law.options["prior"] == "log-uniform"
    assert law.prior == Box(ln_E=(0.0, np.log(1000.0), "ln GeV", r"\ln E"))
    digest = hashlib.sha256((home / "a.hdf5").read_bytes()).hexdigest()
    about = {"kind": "import", "format": "calochallenge", "file": "a.hdf5", "sha256": digest}
    assert meta.source == about
    assert meta.seed is None
    assert meta.provenance["command"] == ("physgen import calochallenge a.hdf5 --binning a.xml")
    assert dataset.describe("data.h5", verify=True)["rows"] == 53


def test_a_discrete_prior_lists_its_energies(home):
    e, x = showers_of(REGULAR, 45, "f4", energies=np.tile(DISCRETE, 3))
    store("a.hdf5", e, x)
    imported("a.hdf5", "a.xml")
    law = dataset.read("data.h5").meta.law
    assert law.options["prior"] == "discrete"
    assert law.options["energies"] == DISCRETE.tolist()
    assert law.prior.low == pytest.approx(np.log(0.256))
    assert law.prior.high == pytest.approx(np.log(4194.304))


def test_a_single_energy_has_a_prior_around_it(home):
    store("a.hdf5", *showers_of(REGULAR, 5, "f4", energies=np.full(5, 5e4)))
    imported("a.hdf5", "a.xml")
    law = dataset.read("data.h5").meta.law
    assert law.options["energies"] == [5e4]
    assert np.exp(np.r_[law.prior.low, law.prior.high]) == pytest.approx([25, 100])


@pytest.mark.parametrize(("seed", "n"), [(1, 211), (2, 307)])
def test_the_parts_of_one_sample_have_one_prior(home, seed, n, monkeypatch):
    monkeypatch.setattr(calochallenge, "SCAN_ROWS", 50)
    store("a.hdf5", *showers_of(REGULAR, n, "f8", seed))
    imported("a.hdf5", "a.xml")
    prior = dataset.read("data.h5").meta.law.prior
    assert (prior.low[0], prior.high[0]) == (0.0, np.log(1000.0))


def test_max_events(home):
    energies, showers = arrays("a.hdf5")
    assert "7 rows" in str(imported("a.hdf5", "a.xml", max_events=7))
    exported()
    same(arrays("out.hdf5")[1], showers[:7])
    same(arrays("out.hdf5")[0], energies[:7])
    assert "53 rows" in str(imported("a.hdf5", "a.xml", max_events=99, force=True))
    with pytest.raises(UsageError, match="max_events: expected at least 1"):
        imported("a.hdf5", "a.xml", "other.h5", max_events=0)


def test_the_commands(home):
    words = ("import", "calochallenge", "a.hdf5", "--binning", "a.xml", "-o", "data.h5")
    assert run(*words).exit_code == 0
    assert run(*words).exit_code == 2
    assert run(*words, "--force").exit_code == 0
    words = ("export", "data.h5", "--format", "calochallenge", "-o", "b.hdf5")
    done = run(*words, "--binning", "b.xml")
    assert done.exit_code == 0, done.output
    assert "b.hdf5: 53 rows of data.h5" in done.output
    assert run(*words).exit_code == 2
    assert run(*words, "--force").exit_code == 0
    same(arrays("b.hdf5")[1], arrays("a.hdf5")[1])
    assert read_binning(home / "b.xml") == ("electron", REGULAR, 11)
    call = ["sha256sum", "-c", "b.hdf5.sha256"]
    assert subprocess.run(call, capture_output=True, check=False).returncode == 0


def test_unknown_formats_are_answered_by_those_there_are(home):
    for name in ("root", "arviz"):  # the latter can be written, not read
        done = run("import", name, "a.hdf5", "-o", "data.h5")
        assert done.exit_code == 2
        assert f"expected one of arrays, calochallenge, got {name!r}" in done.output
    done = run("export", "a.hdf5", "--format", "xlsx", "-o", "a.xlsx")
    assert done.exit_code == 2
    assert "expected one of arviz, calochallenge, csv, netcdf, npz, " in done.output
    assert "root, safetensors, got 'xlsx'" in done.output


@pytest.mark.slow
def test_reading_does_not_import_torch(home):
    code = (
        "import sys\nfrom physgen.cli import main\n"
        "main('import calochallenge a.hdf5 --binning a.xml -o d.h5'.split(),"
        " standalone_mode=False)\n"
        "main('export d.h5 --format calochallenge -o b.hdf5'.split(), standalone_mode=False)\n"
        "sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def spoilt(**changes):
    """Writes the file anew with its arrays changed; None leaves one out."""

    def spoil(home):
        e, x = arrays("a.hdf5")
        e, x = changes.get("e", lambda e: e)(e), changes.get("x", lambda x: x)(x)
        with h5py.File("a.hdf5", "w") as file:
            for name, values in (("incident_energies", e), ("showers", x)):
                if values is not None:
                    file.create_dataset(name, data=values)

    return spoil


def one(row, column, value):
    def change(values):
        values[row, column] = value
        return values

    return change


def cut_to(part):
    def spoil(home):
        data = (home / "a.hdf5").read_bytes()
        (home / "a.hdf5").write_bytes(data[: int(part * len(data))])

    return spoil


def as_text(home):
    (home / "a.hdf5").write_text("energy,x\n1,2\n")


def linked(home):
    (home / "a.hdf5").rename("real.hdf5")
    with h5py.File("a.hdf5", "w") as file:
        file["incident_energies"] = np.ones((53, 1))
        file["showers"] = h5py.ExternalLink("real.hdf5", "/showers")


def stored_elsewhere(home):
    (home / "real.hdf5").write_bytes(bytes(53 * 24 * 4))
    with h5py.File("a.hdf5", "w") as file:
        file["incident_energies"] = np.ones((53, 1))
        file.create_dataset("showers", (53, 24), "f4", external=[("real.hdf5", 0, 53 * 96)])


def objects(home):
    with h5py.File("a.hdf5", "r+") as file:
        del file["showers"]
        file.create_dataset("showers", (53, 24), h5py.string_dtype())


def bomb(home):
    with h5py.File("a.hdf5", "w") as file:
        file.create_dataset("incident_energies", (2**33, 1), "f4", chunks=(2**20, 1))
        file.create_dataset("showers", (2**33, 24), "f4", chunks=(2**15, 24))


def xml(text):
    return lambda home: (home / "a.xml").write_bytes(
        text if isinstance(text, bytes) else text.encode()
    )


def layers(text, name="electron"):
    return xml(f'<Bins><Bin name="{name}">{text}</Bin></Bins>')


DOCTYPE = '<!DOCTYPE Bins [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]>'
ONE = '<Bins><Bin name="electron"><Layer id="0" r_edges="0,1" n_bin_alpha="1"/></Bin></Bins>'
BROKEN = {
    "empty": (cut_to(0), "a.hdf5: expected an HDF5 file, got empty"),
    "cut": (cut_to(0.5), "a.hdf5: cannot be read as HDF5"),
    "cut at the end": (cut_to(0.99), "a.hdf5: cannot be read as HDF5"),
    "text": (as_text, "a.hdf5: expected an HDF5 file, got"),
    "no showers": (spoilt(x=lambda x: None), "a.hdf5: no /showers"),
    "no energies": (spoilt(e=lambda e: None), "a.hdf5: no /incident_energies"),
    "one cell less": (spoilt(x=lambda x: x[:, 1:]), "showers of 23 cells, and a.xml has 24"),
    "three axes": (spoilt(x=lambda x: x.reshape(53, 4, 6)), "/showers: expected (rows, cells)"),
    "no rows": (spoilt(x=lambda x: x[:0], e=lambda e: e[:0]), "expected (rows, cells)"),
    "rows that differ": (spoilt(e=lambda e: e[1:]), "expected (53, 1), got (52, 1)"),
    "flat energies": (spoilt(e=lambda e: e[:, 0]), "expected (53, 1), got (53,)"),
    "NaN": (spoilt(x=one(41, 5, np.nan)), "row 41: showers: expected finite energies of at"),
    "infinite": (spoilt(x=one(41, 5, np.inf)), "row 41: showers: expected finite"),
    "negative": (spoilt(x=one(41, 5, -1e-3)), "at least 0, got -0.001 MeV"),
    "too small for float32": (
        spoilt(x=lambda x: one(41, 5, -1e-60)(x.astype("f8"))), "at least 0, got -1e-60 MeV",
    ),
    "too large for float32": (
        spoilt(x=lambda x: one(41, 5, 1e60)(x.astype("f8"))), "row 41: showers: expected finite",
    ),
    "no incident energy": (spoilt(e=one(43, 0, 0.0)), "row 43: incident_energies: expected"),
    "negative energy": (spoilt(e=one(43, 0, -7.0)), "above 0, got -7 MeV"),
    "NaN energy": (spoilt(e=one(43, 0, np.nan)), "row 43: incident_energies: expected"),
    "complex": (spoilt(x=lambda x: x.astype("c8")), "/showers: expected real numbers"),
    "objects": (objects, "/showers: expected real numbers"),
    "bomb": (bomb, "chunks: incomplete"),
    "link": (linked, "/showers is a ExternalLink"),
    "external storage": (stored_elsewhere, "/showers: its data lie in another file"),
    "no XML": (xml("id,r\n"), "a.xml: cannot be read as XML"),
    "cut XML": (xml(ONE[:60]), "a.xml: cannot be read as XML"),
    "no Bin": (xml("<Bins/>"), "a.xml: no <Bin>"),
    "no cells": (layers('<Layer id="0" r_edges="0"/>'), "no layer has cells"),
    "DOCTYPE": (xml(DOCTYPE + ONE), "document type"),
    "DOCTYPE in UTF-16": (xml((DOCTYPE + ONE).encode("utf-16")), "document type"),
    "unknown encoding": (xml('<?xml version="1.0" encoding="no"?>' + ONE), "read as XML"),
    "large XML": (xml(ONE + " " * 2**18), "is read"),
    "radii that shrink": (
        layers('<Layer id="0" r_edges="0,2,1" n_bin_alpha="3"/>'), "layer 0: expected radii",
    ),
    "radii from 1": (layers('<Layer id="7" r_edges="1,2" n_bin_alpha="3"/>'), "layer 7: expected"),
    "infinite radius": (layers('<Layer id="0" r_edges="0,inf" n_bin_alpha="3"/>'), "finite radii"),
    "NaN radius": (layers('<Layer id="0" r_edges="0,nan,1" n_bin_alpha="3"/>'), "finite radii"),
    "no azimuth": (layers('<Layer id="0" r_edges="0,1" n_bin_alpha="0"/>'), "at least 1 azimuth"),
    "azimuths absent": (layers('<Layer id="0" r_edges="0,1"/>'), "no attribute 'n_bin_alpha'"),
    "words for a pid": (
        xml(ONE.replace("<Bin ", '<Bin pid="e" ')), "electron: pid: expected an integer, got 'e'",
    ),
    "words for radii": (layers('<Layer id="0" r_edges="0,a" n_bin_alpha="1"/>'), "electron: "),
    "many azimuths": (
        layers(f'<Layer id="0" r_edges="0,1" n_bin_alpha="{10**40}"/>'), "of 24 cells, and a.xml",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN)
def test_broken_files_get_one_line_and_leave_nothing(home, case):
    spoil, piece = BROKEN[case]
    spoil(home)
    before = {p.name: p.read_bytes() for p in home.iterdir()}
    done = run("import", "calochallenge", "a.hdf5", "--binning", "a.xml", "-o", "data.h5")
    assert done.exit_code == 3, done.output
    assert piece in done.output
    lines = done.output.splitlines()
    assert lines[-1].startswith("Error: ")
    assert len(lines) == 1
    assert before == {p.name: p.read_bytes() for p in home.iterdir()}


def test_files_that_are_not_there(home):
    words = ("import", "calochallenge", "a.hdf5", "-o", "data.h5")
    assert "needs --binning" in run(*words).output
    assert run(*words, "--binning", "none.xml").exit_code == 74
    assert (
        run("import", "calochallenge", "b.hdf5", *words[3:], "--binning", "a.xml").exit_code == 74
    )
    assert run(*words[:3], "-o", "a.hdf5", "--binning", "a.xml").exit_code == 2
    assert not (home / "data.h5").exists()
    assert run(*words, "--binning", "a.xml").exit_code == 0
    words = ("export", "data.h5", "--format", "calochallenge", "-o", "out.hdf5")
    assert run(*words, "--binning", "none/a.xml").exit_code == 74
    assert run(*words[:4], "-o", "none/out.hdf5").exit_code == 74
    assert not (home / "out.hdf5").exists()


def test_a_late_fault_takes_back_the_rows_before_it(home):
    """Many shards are finished when the last row is refused."""
    energies, showers = showers_of(PHOTONS, 3001, "f4")
    showers[3000, 367] = -1
    store("b.hdf5", energies, showers)
    write_binning(home / "b.xml", PHOTONS, "photon")
    with pytest.raises(DataError, match=r"b\.hdf5: row 3000: showers"):
        imported("b.hdf5", "b.xml")
    assert not [p for p in home.iterdir() if "data.h5" in p.name]


def test_one_of_several_particles(home):
    photon = '<Bin pid="22" name="photon"><Layer id="0" r_edges="0,1" n_bin_alpha="1"/></Bin>'
    pion = (
        '<Bin pid="211" etaMin="0" name="pion"><Layer id="0" r_edges=" 0, 1 ,3" n_bin_alpha="12" '
        'material="Pb"/> <Layer id="1" r_edges="0"/></Bin>'
    )
    xml(f'<?xml version="1.0"?><!-- ours --><Bins version="7">{photon}{pion}</Bins>')(home)
    words = ("import", "calochallenge", "a.hdf5", "--binning", "a.xml", "-o", "data.h5")
    for more in ((), ("--particle", "muon")):
        done = run(*words, *more)
        assert done.exit_code == 2
        assert "expected one of photon, pion" in done.output
    assert run(*words, "--particle", "pion").exit_code == 0
    law = dataset.read("data.h5").meta.law
    assert law.x_shape == (1, 12, 2)
    assert law.options["particle"] == "pion"
    assert law.options["pid"] == 211
    exported(binning="out.xml")
    assert '<Bin pid="211" name="pion">' in (home / "out.xml").read_text()
    assert read_binning(home / "out.xml").pid == 211


@pytest.mark.parametrize(("particle", "pid"), [("electron", 11), ("photon", 22), ("pion", 211)])
def test_the_number_of_a_particle_is_written_and_read(home, particle, pid):
    """As the public files have it, by name where none is given; any other number is kept."""
    write_binning(home / "b.xml", REGULAR, particle)
    assert (
        (home / "b.xml").read_text().startswith(f'<Bins>\n  <Bin pid="{pid}" name="{particle}">')
    )
    assert read_binning(home / "b.xml").pid == pid
    write_binning(home / "b.xml", REGULAR, particle, pid=-13)
    assert read_binning(home / "b.xml").pid == -13
    write_binning(home / "b.xml", REGULAR, "mine")
    assert "pid" not in (home / "b.xml").read_text()
    assert read_binning(home / "b.xml").pid is None


def test_a_file_that_changes_while_it_is_read(home):
    found = calochallenge.open_foreign(home / "a.hdf5", binning=home / "a.xml")
    store("a.hdf5", *showers_of(REGULAR, 53, "f4", seed=11))
    with pytest.raises(DataError, match="was changed while it was read"):
        found.make(Shard(0, 0, 7, np.random.SeedSequence(0)))


@pytest.mark.parametrize("depth", [1, 7, 53, 99])
@pytest.mark.parametrize("chunks", [None, (5, 3), (53, 1)])
def test_a_shard_is_the_same_however_bands_are_cut(home, depth, chunks, monkeypatch):
    energies, showers = arrays("a.hdf5")
    store("a.hdf5", energies, showers, chunks)
    monkeypatch.setattr(calochallenge, "BAND_BYTES", depth * 24 * 4 + 1)
    found = calochallenge.open_foreign(home / "a.hdf5", binning=home / "a.xml")
    assert found.make.bands.depth <= depth
    make = pickle.loads(pickle.dumps(found.make))
    for start, stop in ((0, 53), (5, 6), (6, 19), (44, 53), (0, 7)):
        rows = make(Shard(0, start, stop, np.random.SeedSequence(0)))
        same(rows.x.reshape(stop - start, -1), showers[start:stop])
        same(rows.aux["incident_energy"][:, None], energies[start:stop])
    assert not pickle.loads(pickle.dumps(make)).bands.kept


@pytest.mark.slow
def test_memory_is_bounded(home, monkeypatch):
    """A file of 47 MB, in the chunks that h5py chooses, passes through 12 MB."""
    energies, showers = showers_of(PHOTONS, 16_000, "f8")
    store("b.hdf5", energies, showers)
    write_binning(home / "b.xml", PHOTONS, "photon")
    monkeypatch.setattr(calochallenge, "BAND_BYTES", 2**21)
    size = showers.nbytes
    del showers
    tracemalloc.start()
    try:
        imported("b.hdf5", "b.xml")
        reading = tracemalloc.get_traced_memory()[1]
        tracemalloc.reset_peak()
        exported()
        writing = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert size > 45e6
    assert max(reading, writing) < 12e6, (reading, writing)


def beside(path="a.hdf5", **arrays):
    """Further arrays in the root of a file."""
    with h5py.File(path, "r+") as file:
        for name, values in arrays.items():
            file[name] = values


def conditions(n=53, seed=3):
    """An angle in [0.3, 1.2], and a vertex in [−8, 8]², whose ends are come near to."""
    rng = np.random.default_rng(seed)
    angle, vertex = rng.uniform(0.3, 1.2, n), rng.uniform(-8, 8, (n, 2)).astype("f4")
    angle[:2], vertex[:2] = (0.3001, 1.1999), [[-7.95, 7.99], [7.92, -7.91]]
    return {"angle": angle, "vertex": vertex}


def test_conditions_are_parameters_and_come_back(home):
    """The same showers and the same θ after a file of ours, whatever arrays θ came from."""
    given = conditions()
    beside(**given)
    said = imported("a.hdf5", "a.xml").summary
    assert (
        "theta is ln_E of /incident_energies, angle of /angle, vertex_1 of /vertex, vertex_2 of"
        in said
    )
    rows = dataset.read("data.h5")
    prior = rows.meta.law.prior
    assert prior.names == ("ln_E", "angle", "vertex_1", "vertex_2")
    assert_close = np.testing.assert_allclose
    assert_close(prior.low[1:], [0.3, -8, -8], atol=1e-12)
    assert_close(prior.high[1:], [1.2, 8, 8], atol=1e-12)
    np.testing.assert_array_equal(rows.theta[:, 1:], np.c_[given["angle"], given["vertex"]])
    exported(binning="out.xml")
    with h5py.File("out.hdf5") as file:
        same(file["angle"][()], given["angle"][:, None])
    imported("out.hdf5", "out.xml", "again.h5")
    again = dataset.read("again.h5")
    assert again.meta.law.prior == prior
    same(again.theta, rows.theta)
    same(again.x, rows.x)


def test_further_columns_of_the_energies_are_conditions(home):
    e, x = arrays("a.hdf5")
    angle = conditions()["angle"].astype("f4")
    store("a.hdf5", np.c_[e, angle], x)
    assert "incident_energies_2 of /incident_energies" in imported("a.hdf5", "a.xml").summary
    rows = dataset.read("data.h5")
    np.testing.assert_allclose(rows.theta[:, 0], np.log(e[:, 0] / 1e3), atol=1e-6)
    np.testing.assert_array_equal(rows.theta[:, 1], angle)


def test_what_is_no_condition_is_left_out_and_said(home):
    n = 53
    beside(
        same=np.ones(n), wide=np.zeros((n, 9)), short=np.ones(7), label=[b"e"] * n, ln_E=np.r_[:n]
    )
    said = imported("a.hdf5", "a.xml").summary
    assert "left out: " in said
    for piece in ("same (1 in all rows)", "/wide (of 9 columns)", "/short (of shape (7,))",
                  "/label (expected real", "/ln_E (its name is taken)"):  # fmt: skip
        assert piece in said
    assert dataset.read("data.h5").meta.law.prior.names == ("ln_E",)


def test_conditions_are_chosen(home):
    beside(**conditions())
    imported("a.hdf5", "a.xml", conditions="vertex")
    assert dataset.read("data.h5").meta.law.prior.names == ("ln_E", "vertex_1", "vertex_2")
    words = ("import", "calochallenge", "a.hdf5", "--binning", "a.xml", "-o", "none.h5")
    assert "left out" not in run(*words, "--conditions", "none").output
    assert dataset.read("none.h5").meta.law.prior.names == ("ln_E",)
    done = run(*words, "--conditions", "angel", "--force")
    assert done.exit_code == 2
    assert "conditions: /angel is not there" in done.output


def test_a_condition_that_is_not_finite_is_refused(home):
    angle = conditions()["angle"]
    angle[17] = np.nan
    beside(angle=angle)
    words = ("import", "calochallenge", "a.hdf5", "--binning", "a.xml", "-o", "data.h5")
    done = run(*words)
    assert done.exit_code == 3
    assert "a.hdf5: row 17: angle: expected finite numbers, got nan" in done.output
    assert run(*words, "--conditions", "none").exit_code == 0


def test_a_parameter_called_as_an_array_of_the_format_is_not_exported(home):
    drawn("data.h5", Law("a:B", Box(ln_E=(0, 1), showers=(0, 1)), (3,), "nonnegative"))
    with pytest.raises(DataError, match="parameter showers: the format's own array"):
        exported()
    assert not (home / "out.hdf5").exists()


def chunk_of(path, name, number):
    """Where a chunk lies in a file: its offset and size."""
    with h5py.File(path) as file:
        found = file[name].id.get_chunk_info(number)
    return found.byte_offset, found.size


@pytest.mark.parametrize("name", ["showers", "incident_energies"])
@pytest.mark.parametrize("place", [0.0, 0.3, 0.5, 0.9, 1.0], ids=lambda p: f"at {p}")
def test_a_flipped_byte_in_a_chunk_is_refused_and_leaves_nothing(home, name, place):
    store("a.hdf5", *showers_of(REGULAR, 900, "f4"), chunks=(300, 24))
    offset, size = chunk_of("a.hdf5", name, 0 if name == "incident_energies" else 2)
    data = bytearray((home / "a.hdf5").read_bytes())
    data[offset + int(place * (size - 1))] ^= 0x10
    (home / "a.hdf5").write_bytes(data)
    before = sorted(p.name for p in home.iterdir())
    done = run("import", "calochallenge", "a.hdf5", "--binning", "a.xml", "-o", "data.h5")
    assert done.exit_code == 3, done.output
    assert done.output.startswith("Error: a.hdf5: ")
    assert "a chunk is damaged" in done.output
    assert done.output.count("\n") == 1
    assert "Traceback" not in done.output
    assert sorted(p.name for p in home.iterdir()) == before


FULL = """
import resource, sys
from physgen.cli import main
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]),) * 2)
main(["export", "data.h5", "--format", "calochallenge", "-o", "out.hdf5", "-q"])
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "some", [slice(2, None), pytest.param(slice(None), marks=pytest.mark.slow)], ids=["few", "all"]
)
def test_a_full_disk_is_an_error_and_leaves_nothing(home, some):
    energies, showers = showers_of(PHOTONS, 5000, "f4")
    store("b.hdf5", energies, showers)
    write_binning(home / "b.xml", PHOTONS, "photon")
    imported("b.hdf5", "b.xml")
    exported(out="whole.hdf5")
    size = (home / "whole.hdf5").stat().st_size
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[1] == resource.RLIM_INFINITY
    before = sorted(p.name for p in home.iterdir())
    for limit in (1, 1000, size // 3, size - 1)[some]:
        call = [sys.executable, "-c", FULL, str(limit)]
        done = subprocess.run(call, capture_output=True, text=True, check=False)
        assert done.returncode == 74, (limit, done)
        assert done.stderr.count("\n") == 1
        assert "out.hdf5: File too large" in done.stderr
        assert sorted(p.name for p in home.iterdir()) == before
    call = [sys.executable, "-c", FULL, str(size)]
    assert subprocess.run(call, check=False).returncode == 0
    same(arrays("out.hdf5")[1], showers)


def drawn(path, law, n=29, aux=None):
    """A dataset that was not imported, as a simulator or a surrogate writes it."""

    def make(shard):
        rng = np.random.default_rng(shard.seed)
        x = rng.exponential(size=(len(shard), *law.x_shape)).astype(np.float32)
        x = x if law.support == "nonnegative" else np.sign(x - 0.5)
        return Rows(x, law.prior.sample(len(shard), rng), {})

    dataset.write(path, n, Meta(law, {"kind": "surrogate"}, 5, {}), make)
    return dataset.read(path)


SHOWER = Law(
    "elsewhere:Voxels", Box(t_up=(0, 4), ln_E=(0, 4.6)), (2, 3, 5), "nonnegative", (),
    {"material": "W"},
)  # fmt: skip


def test_a_simulators_showers_are_in_gev(home):
    rows = drawn("data.h5", SHOWER)
    told = exported().summary
    energies, showers = arrays("out.hdf5", "t_up")
    assert "29 rows, ln_E in /incident_energies, t_up in /t_up" in told
    with h5py.File("out.hdf5") as file:
        same(file["t_up"][()], rows.theta[:, :1])
    same(energies[:, 0], (1e3 * np.exp(rows.theta[:, 1])).astype("f4"))
    same(showers, (1e3 * rows.x.astype("f8")).astype("f4").reshape(29, -1))
    with pytest.raises(UsageError, match="does not say which cells"):
        exported(out="more.hdf5", binning="more.xml")
    assert not (home / "more.hdf5").exists()


def test_showers_drawn_by_a_surrogate_of_an_imported_file(home):
    store("b.hdf5", *showers_of(REGULAR, 45, "f4", energies=np.tile(DISCRETE, 3)))
    imported("b.hdf5", "a.xml", "real.h5")
    law = dataset.read("real.h5").meta.law
    theta = np.log(np.tile(DISCRETE, 3) / 1e3)[:, None].clip(law.prior.low, law.prior.high)

    def make(shard):
        return Rows(np.full((len(shard), 4, 3, 2), 0.1), theta[shard.start : shard.stop])

    dataset.write("data.h5", 45, Meta(law, {"kind": "surrogate"}, 5, {}), make)
    exported(binning="out.xml")
    energies, showers = arrays("out.hdf5")
    same(energies[:, 0], np.tile(DISCRETE, 3).astype("f4"))
    assert (showers == np.float32(0.1)).all()
    assert read_binning(home / "out.xml") == ("electron", REGULAR, 11)


def test_radii_in_units_of_the_material_are_written_in_mm(home, monkeypatch):
    class Voxels:
        geometry = Geometry.cylinder(2, 3, 5, 0.5)
        material = "W"

    monkeypatch.setattr(Law, "build_if_known", lambda law: Voxels())
    drawn("data.h5", SHOWER)
    exported(binning="out.xml")
    name, geometry, _ = read_binning(home / "out.xml")
    assert name == "electron"
    assert geometry.x_shape == (2, 3, 5)
    assert geometry.layers[1].edges == pytest.approx(9.327 * 0.5 * np.arange(6))
    Voxels.geometry = Geometry.cylinder(2, 3, 4, 0.5)
    with pytest.raises(DataError, match="x of 30 cells, and its geometry has 24"):
        exported(out="more.hdf5", binning="more.xml")


@pytest.mark.parametrize(
    ("law", "piece"),
    [
        (Law.of("gaussian", {"size": 3}), "expected a dataset of showers.*one of gaussian"),
        (Law("a:B", Box(E=(0, 1)), (3,), "nonnegative"), "ln_E; got one of a:B"),
        (Law("a:B", Box(ln_E=(0, 1)), (3,), "spins"), "got one of a:B"),
        (Law("a:B", Box(ln_E=(0, 1)), (3,), "nonnegative", (), {"unit": ["K"]}), "MeV or GeV"),
    ],
)
def test_what_is_not_showers_is_not_exported(home, law, piece):
    drawn("data.h5", law)
    with pytest.raises(DataError, match=piece) as caught:
        exported()
    assert "\n" not in str(caught.value)
    assert not (home / "out.hdf5").exists()


def test_a_file_without_metadata_is_not_exported(home):
    with h5py.File("data.h5", "w") as file:
        file["x"] = np.ones((5, 7))
    done = run("export", "data.h5", "--format", "calochallenge", "-o", "out.hdf5")
    assert done.exit_code == 3
    assert "a file without metadata" in done.output


def test_a_damaged_dataset_is_not_exported(home):
    imported("a.hdf5", "a.xml")
    with h5py.File("data.h5", "r+") as file:
        file["x"][50, 1] = np.nan
    (home / "data.h5.sha256").unlink()
    done = run("export", "data.h5", "--format", "calochallenge", "-o", "out.hdf5")
    assert done.exit_code == 3
    assert "data.h5: row 50: x is not finite" in done.output
    assert not [p for p in home.iterdir() if "out.hdf5" in p.name]


def test_a_hostile_geometry_is_refused(home):
    imported("a.hdf5", "a.xml")
    data = dataset.read("data.h5").meta.to_json()
    (home / "data.h5.sha256").unlink()
    hostile = [{"layers": [[0, "0", 1]], "unit": "mm"}, {"layers": 5}, [], REGULAR.to_json()]
    hostile[-1]["unit"] = "parsec"
    for binning in hostile:
        data["law"]["options"]["binning"] = binning
        text = json.dumps(data).encode()
        with h5py.File("data.h5", "r+") as file:
            del file["meta/json"]
            kind = h5py.string_dtype("utf-8", len(text))
            file.create_dataset("meta/json", data=np.array(text, dtype=kind))
        words = ("export", "data.h5", "--format", "calochallenge", "-o", "out.hdf5")
        done = run(*words, "--binning", "out.xml")
        assert done.exit_code == 3, (binning, done.output, done.exception)


def moments(path):
    """Mean energy and mean radius in each layer, (layers,) each."""
    rows = dataset.read(path)
    geometry = Geometry.from_json(rows.meta.law.options["binning"])
    radius, _ = geometry.centres
    flat = rows.x.reshape(len(rows), -1).astype(float)
    energy = geometry.layer_energies(rows.x).sum(0)
    return energy, np.array([(flat * radius)[:, s].sum() for s in geometry.slices]) / energy


def test_the_order_of_cells_is_that_of_the_format(home):
    """A core in the innermost ring is found there; with α and r swapped it is not."""
    n, rng = 53, np.random.default_rng(3)
    cells = np.zeros((n, 4, 3, 2))
    cells[..., 0] = rng.exponential(size=(n, 4, 3))  # (layer, α, r)
    energies = np.full((n, 1), 1e4)
    for name, x in (("right", cells), ("wrong", cells.swapaxes(2, 3))):
        store(f"{name}.hdf5", energies, x.reshape(n, -1))
        imported(f"{name}.hdf5", "a.xml", f"{name}.h5")
    energy, radius = moments("right.h5")
    np.testing.assert_allclose(energy, cells.sum((0, 2, 3)), rtol=1e-6)
    np.testing.assert_allclose(radius, 4.65 / 2, rtol=1e-6)
    energy, radius = moments("wrong.h5")
    np.testing.assert_allclose(energy, cells.sum((0, 2, 3)), rtol=1e-6)
    assert (radius > 4.65 * 0.6).all()


@st.composite
def geometries(draw):
    widths = st.floats(1e-3, 1e3, allow_nan=False)
    rings = st.one_of(st.just([]), st.lists(widths, min_size=1, max_size=4))
    found = [
        Layer(k, tuple(np.cumsum([0.0, *draw(rings)]).tolist()), draw(st.integers(1, 5)))
        for k in range(draw(st.integers(1, 5)))
    ]
    return Geometry((*found, layer(9, 1, 1)))


@settings(
    max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(geometries(), st.integers(1, 30), st.sampled_from(["f2", "f4", "f8"]), st.integers(0, 99))
def test_any_geometry_comes_back(home, geometry, n, dtype, seed):
    energies = np.random.default_rng(seed).uniform(1e-2, 6e4, n)
    e, x = showers_of(geometry, n, dtype, seed, energies)
    store("b.hdf5", e, x)
    write_binning(home / "b.xml", geometry, "é <&>")
    name, found, pid = read_binning(home / "b.xml")
    assert (name, pid) == ("é <&>", None)
    assert [a.edges for a in found.layers] == [a.edges for a in geometry.layers]
    assert found.present == geometry.present
    imported("b.hdf5", "b.xml", force=True)
    exported(force=True)
    got_e, got_x = arrays("out.hdf5")
    same(got_e, e)
    same(got_x, x.astype("f4"))
