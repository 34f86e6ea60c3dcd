"""Spoilt files: what reading makes of each kind, mutant after mutant, in a process of its own.

A mutant is refused by one line of physgen's own, reads as the original does, or is noticed by
``inspect --verify``. All else is a fault: a traceback, a crash, a hang, memory without bound, or
other values without a word. A file that was changed with its checksum, or that has none, may read
as another.

Run as a script: ``python mutation.py FOLDER N SEED [KIND …]`` prints the counts as JSON.
"""

import contextlib
import copy
import hashlib
import io
import json
import os
import resource
import shutil
import signal
import sys
import warnings
import zipfile
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

import h5py
import numpy as np
import torch

import physgen
from physgen import dataset
from physgen.dataset import Meta, Rows
from physgen.errors import Interrupted, PhysgenError
from physgen.law import Law
from physgen.nn.tensors import digest

OLD = Path(__file__).parents[1] / "data" / "v0.1"
SECONDS, BYTES = 60, 2**28  # that reading one mutant may take
BINNING = '<Bins><Bin name="electron"><Layer id="0" r_edges="0,1,2" n_bin_alpha="3"/></Bin></Bins>'


def said(*values):
    """A fingerprint of arrays and JSON data."""
    h = hashlib.sha256()
    for value in values:
        raw = isinstance(value, np.ndarray)
        h.update(
            f"{value.dtype}{value.shape}".encode() + value.tobytes()
            if raw
            else json.dumps(value, sort_keys=True, default=str).encode()
        )
    return h.hexdigest()


def rows_of(path):
    rows = physgen.read(path)
    return said(*rows.arrays().values(), [*rows.arrays()], rows.meta and rows.meta.to_json())


def foreign(path):
    rows = physgen.import_("calochallenge", path, binning=path.parent / "bins.xml").rows
    return said(*rows.arrays().values(), rows.meta.law.to_json())


def binning(path):
    rows = physgen.import_("calochallenge", path.parent / "foreign.h5", binning=path).rows
    return said(rows.x, rows.meta.law.to_json())


def surrogate(path):
    model, info = physgen.load(path)
    info = {k: v for k, v in info.items() if k != "sha256"}
    return said(digest(dict(model.state_dict()), ""), model.describe(), info)


def network(path):
    from physgen.sbi.networks import Network

    found = Network.load(path, torch.device("cpu"))
    return said(digest(dict(found.net.state_dict()), ""), found.info)


def posterior(path):
    arrays, about = dataset.read_arrays(path, "posterior")
    return said(*arrays.values(), [*arrays], about, page(path))


def latents(path):
    codes, about = physgen.load(path)
    plain = {k: v for k, v in codes.items() if k != "arrays"}
    return said(*codes["arrays"].values(), [*codes["arrays"]], plain, about, page(path))


def page(path):
    return physgen.report(path).html


def resumed(path):
    model = path.parent / path.name.removesuffix(".resume")
    found = physgen.fit("cvae", OLD / "ising.h5", out=model, resume=True, **FIT)
    history = [{**e, "seconds": 0, "cpu_seconds": 0} for e in found.info["history"]]
    return said(digest(dict(found.state_dict()), ""), history)


def finished(path):
    job = path.parent.parent / path.parent.name[1 : -len(".parts")]
    return write_toy(job, 3).content_sha256


def inspected(path):
    return said(dict(physgen.inspect(path)))


FIT = {"epochs": 1, "channels": 4, "latent_dim": 2, "batch_size": 32, "max_minutes": 0}
READERS = {
    "dataset": rows_of,
    "observations": rows_of,
    "foreign": foreign,
    "binning": binning,
    "checkpoint": surrogate,
    "network": network,
    "posterior": posterior,
    "latents": latents,
    "metrics": page,
    "calibration": page,
    "comparison": page,
    "history": inspected,
    "resume": resumed,
    "job": finished,
}


def write_toy(path, shards):
    """A dataset of three shards, of which only the first ones are made."""
    law = Law.of("gaussian", {"size": 5})

    def make(shard):
        if shard.number == shards:
            raise Interrupted(2, "test")
        rng = np.random.default_rng(shard.seed)
        theta = law.prior.sample(len(shard), rng)
        return Rows(law.build().sample(theta, rng), theta)

    return dataset.write(path, 21, Meta(law, {}, 3, {}), make, shard_rows=7)


def originals(folder, kinds):
    """A file of each kind, without sidecars: kind → path."""
    (folder / "bins.xml").write_text(BINNING)
    rng = np.random.default_rng(0)
    with h5py.File(folder / "foreign.h5", "w") as file:
        packed = {"compression": "gzip", "fletcher32": True}
        energies = rng.uniform(1e3, 1e5, (300, 1))
        file.create_dataset("incident_energies", data=energies, chunks=(50, 1), **packed)
        showers = rng.exponential(size=(300, 6)).astype("f4")
        file.create_dataset("showers", data=showers, chunks=(30, 2), **packed)
    with h5py.File(OLD / "ising.h5") as old, h5py.File(folder / "observed.h5", "w") as file:
        packed["chunks"] = (40, 4, 4)
        file.create_dataset("x", data=old["x"][:], **packed)
    for name in ("ising.h5", "posterior.h5", "cvae.pt", "npe.pt"):
        shutil.copy(OLD / name, folder)
    for name in ("metrics", "calibration", "comparison"):
        measured = json.loads((OLD / f"{name}.json").read_bytes())
        (folder / f"{name}.json").write_text(json.dumps(dataset.sealed(measured)))
    if "latents" in kinds:
        physgen.latents(
            OLD / "cvae.pt", OLD / "ising.h5", out=folder / "latents.h5", along="magnetisation"
        )
    if "resume" in kinds or "history" in kinds:
        fitted(folder)
    with contextlib.suppress(Interrupted):
        write_toy(folder / "toy.h5", 2)
    names = {
        "dataset": "ising.h5",
        "observations": "observed.h5",
        "foreign": "foreign.h5",
        "binning": "bins.xml",
        "checkpoint": "cvae.pt",
        "network": "npe.pt",
        "posterior": "posterior.h5",
        "latents": "latents.h5",
        "metrics": "metrics.json",
        "calibration": "calibration.json",
        "comparison": "comparison.json",
        "history": "model.pt.jsonl",
        "resume": "model.pt.resume",
        "job": ".toy.h5.parts/job.json",
    }
    return {kind: folder / names[kind] for kind in kinds}


def fitted(folder):
    """The state and the history of a training that was killed after its epoch."""
    from physgen.verbs import fitting

    keep = fitting.keep

    def kept(trainer, epoch, info, out, tensorboard):
        keep(trainer, epoch, info, out, tensorboard)
        shutil.copy(f"{out}.resume", f"{out}.kept")

    fitting.keep = kept
    physgen.fit("cvae", OLD / "ising.h5", out=folder / "model.pt", **FIT)
    fitting.keep = keep
    (folder / "model.pt").unlink()
    (folder / "model.pt.kept").rename(folder / "model.pt.resume")


# What is done to bytes.


def flipped(data, rng):
    for bit in rng.integers(8 * len(data), size=rng.choice([1, 1, 1, 3, 20])):
        data[bit // 8] ^= 1 << bit % 8


def flipped_in_front(data, rng):
    """Where HDF5 keeps its structure, and JSON its keys."""
    used = np.flatnonzero(np.frombuffer(data[:8192], np.uint8))
    data[int(rng.choice(used))] = int(rng.integers(256))


def truncated(data, rng):
    del data[int(rng.integers(len(data))) :]


def zeroed(data, rng):
    start, size = rng.integers(len(data)), int(2 ** rng.uniform(0, 12))
    stop = min(start + size, len(data))
    data[start:stop] = bytes(stop - start)


def inserted(data, rng):
    at, extra = int(rng.integers(len(data))), rng.bytes(int(2 ** rng.uniform(0, 8)))
    data[at:at] = extra


def doubled(data, rng):
    start, at = sorted(rng.integers(len(data), size=2))
    data[at:at] = data[start : start + int(2 ** rng.uniform(2, 12))]


def said_otherwise(data, rng):
    """A block in another place."""
    size = int(2 ** rng.uniform(2, 9))
    start, at = rng.integers(max(1, len(data) - size), size=2)
    data[at : at + size] = data[start : start + size]


BYTES_OF = (
    flipped, flipped_in_front, truncated, zeroed, inserted, doubled, said_otherwise,
)  # fmt: skip


# What is done to JSON data: a value of it becomes another, or goes.

OTHERS = (
    None, True, -1, 0, 10**30, 2**31, 1e308, -1e-320, float("nan"), float("inf"), "",
    "text", "\x1b[31mred\x07", "\ud800", [], {}, [[]], {"a": [1]}, [None] * 7, ["a", 1], [0.5],
    [1e308] * 3, "$\\frac{$", "<script>", "A" * 5000, "../../x", "1e5",
)  # fmt: skip


def places(data, path=()):
    """All paths in JSON data."""
    entries = data.items() if isinstance(data, dict) else enumerate(data[:3])
    for key, value in entries:
        yield (*path, key)
        if isinstance(value, dict | list):
            yield from places(value, (*path, key))


def edited(data, rng):
    """JSON data with one value changed, added or taken out, as text."""
    data = copy.deepcopy(data)
    every = list(places(data))
    depth = rng.integers(1, 1 + max(map(len, every)))
    some = [p for p in every if len(p) <= depth]
    path = some[rng.integers(len(some))]
    room = data
    for key in path[:-1]:
        room = room[key]
    match rng.integers(6):
        case 0:
            del room[path[-1]]
        case 1:
            deep = ["MARK"]
            room[path[-1]] = deep
            return json.dumps(data).replace('"MARK"', "[" * 9000 + "]" * 9000)
        case _:
            room[path[-1]] = OTHERS[rng.integers(len(OTHERS))]
    return json.dumps(data)


def edited_json(path, rng):
    data = json.loads(path.read_bytes())
    data.pop("content_sha256", None)
    path.write_text(edited(data, rng))


def edited_json_only(path, rng):
    path.write_text(edited(json.loads(path.read_bytes()), rng))


# What is done to HDF5, through HDF5.


def edited_hdf5(path, rng):
    with h5py.File(path, "r+") as file:
        names = []
        file.visit(names.append)
        name = str(rng.choice(names))
        CHANGES[rng.integers(len(CHANGES))](file, name, rng)


def another_type(file, name, rng):
    kinds = ("f4", "f8", "i1", "i8", "u2", ">f4", "c8", "S4", "?", "f2", h5py.string_dtype())
    shape = getattr(file[name], "shape", ()) or ()
    kind = kinds[rng.integers(len(kinds))]
    del file[name]
    file.create_dataset(name, shape=shape, dtype=kind)


def another_shape(file, name, rng):
    if isinstance(file[name], h5py.Dataset) and file[name].shape:
        shape = list(file[name].shape)
        shape[rng.integers(len(shape))] += int(rng.choice([-1, 1, 7, 2**40]))
        kind, chunks = file[name].dtype, file[name].chunks
        del file[name]
        file.create_dataset(name, shape=shape, dtype=kind, chunks=chunks)


def linked(file, name, rng):
    file.move(name, "hidden")
    links = (
        h5py.SoftLink("/hidden"),
        h5py.SoftLink(f"/{name}"),
        h5py.ExternalLink("/etc/passwd", "/x"),
        h5py.ExternalLink(file.filename, "/hidden"),
    )
    file[name] = links[rng.integers(len(links))]


def elsewhere(file, name, rng):
    shape = getattr(file[name], "shape", ()) or (7,)
    del file[name]
    if rng.integers(2):
        file.create_dataset(name, shape=shape, dtype="f4", external=[("/etc/passwd", 0, 2**30)])
    else:
        layout = h5py.VirtualLayout(shape, "f4")
        layout[:] = h5py.VirtualSource("/tmp/other.h5", "x", shape)
        file.create_virtual_dataset(name, layout)


def taken_out(file, name, rng):
    del file[name]


def labelled(file, name, rng):
    keys = [*file.attrs, "schema", "n_rows", "complete", "content_sha256", "seed", "created"]
    values = [0, -1, 2**63 - 1, 1.5, "x", "", "\x1b[31m", b"\xff", np.ones(9), "A" * 9000,
              "physgen/2", "physgen/1", "physgen/posterior/1", h5py.Empty("f4")]  # fmt: skip
    file.attrs[keys[rng.integers(len(keys))]] = values[rng.integers(len(values))]


def masked(file, name, rng):
    if getattr(file[name], "chunks", None):
        data = file[name]
        at = (0,) * data.ndim
        _, raw = data.id.read_direct_chunk(at)
        data.id.write_direct_chunk(at, raw, filter_mask=int(rng.integers(1, 4)))


def chunk_less(file, name, rng):
    if getattr(file[name], "chunks", None):
        old = file[name]
        kind, shape, chunks = old.dtype, old.shape, old.chunks
        values = old[: chunks[0]]
        del file[name]
        file.create_dataset(name, shape=shape, dtype=kind, chunks=chunks, compression="gzip")
        file[name][: chunks[0]] = values


def added(file, name, rng):
    names = ["aux/new", "new", "\x1b[31m", "aux/\x1b[31mred", "meta/more", "aux"]
    new = names[rng.integers(len(names))]
    if new not in file:
        file.create_dataset(new, data=rng.normal(size=(7, 1)))


def changed_value(file, name, rng):
    if isinstance(file[name], h5py.Dataset) and file[name].dtype.kind in "fi":
        values = file[name][()]
        if np.size(values):
            flat = np.array(values).reshape(-1)
            flat[rng.integers(len(flat))] = rng.choice([np.nan, np.inf, 0, 1, -3])
            file[name][...] = flat.reshape(np.shape(values))


def told(file, name, rng):
    """Other metadata; names of parameters and units with control characters among them."""
    if "meta/json" in file:
        text = edited(json.loads(file["meta/json"][()]), rng).encode()
        del file["meta/json"]
        kind = h5py.string_dtype("utf-8", max(1, len(text)))
        file.create_dataset("meta/json", data=np.array(text, dtype=kind))


CHANGES = (
    another_type, another_shape, linked, elsewhere, taken_out, labelled, masked, chunk_less, added,
    changed_value, told, told, told,
)  # fmt: skip


# What is done to checkpoints, with the digest that belongs to it.


def edited_tensors(path, rng):
    with np.errstate(all="ignore"):
        content = torch.load(path, weights_only=True)
    tensors, text = content["tensors"], content["json"]
    if rng.integers(2):
        text = edited(json.loads(text), rng)
    else:
        tensors = with_another_tensor(tensors, rng)
    try:
        known = digest(tensors, text)
    except Exception:  # tensors that cannot be read: their digest does not matter
        known = "0" * 64
    torch.save({"tensors": tensors, "json": text, "sha256": known}, path)


def with_another_tensor(tensors, rng):
    room = tensors
    while True:
        keys = list(room) if isinstance(room, dict) else list(range(len(room)))
        key = keys[rng.integers(len(keys))]
        if not isinstance(room[key], dict | list) or not room[key] or rng.integers(4) == 0:
            break
        room = room[key]
    some = torch.ones(3)
    others = (
        "text", None, 7, 1e300, some, some.double(), some.bool(), some.expand(5, 3),
        torch.ones(1).expand(2**50), torch.empty(0), torch.full((3,), torch.nan), {}, [],
        [some], {"\x1b": some}, torch.ones(3, dtype=torch.complex64), some.to_sparse(),
        torch.empty(2**50, device="meta"), b"bytes", (1, 2), torch.ones(()), {1: 2},
    )  # fmt: skip
    if rng.integers(5) == 0:
        del room[key]
    else:
        room[key] = others[rng.integers(len(others))]
    return tensors


def deflated(path, rng):
    """The same zip, compressed; or one with a bomb in it."""
    with zipfile.ZipFile(path) as old:
        every = {name: old.read(name) for name in old.namelist()}
    bomb = rng.integers(2)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
        for name, data in every.items():
            new.writestr(name, bytes(2**29) if bomb and name.endswith("/0") else data)


def pickled(path, rng):
    """Another pickle in its place: sizes, offsets and strides are numbers in it."""
    with zipfile.ZipFile(path) as old:
        every = {name: old.read(name) for name in old.namelist()}
    with zipfile.ZipFile(path, "w") as new:
        for name, data in every.items():
            spoilt = bytearray(data)
            if name.endswith("data.pkl"):
                for _ in range(rng.integers(1, 4)):
                    flipped(spoilt, rng)
            new.writestr(name, bytes(spoilt))


STRUCTURED = {
    **dict.fromkeys(
        ("dataset", "observations", "foreign", "posterior", "latents"), (edited_hdf5,)
    ),
    **dict.fromkeys(("checkpoint", "network", "resume"), (edited_tensors, pickled, deflated)),
    **dict.fromkeys(("metrics", "calibration", "comparison"), (edited_json, edited_json_only)),
    "job": (edited_json_only,),
    "history": (edited_json,),
    "binning": (),
}
RESEALED = {edited_tensors, edited_json}
UNSEALED = {"observations", "foreign", "binning", "history", "job"}  # no digest


@dataclass
class Mutant:
    """One spoilt file, and what became of it."""

    kind: str
    how: str
    number: int
    outcome: str
    line: str = ""


def spoil(path, kind, number, seed):
    """Change a file; returns how, and whether what it then says may be another thing."""
    rng = np.random.default_rng([seed, number, *kind.encode()])
    structured = STRUCTURED[kind]
    if structured and number % 3 == 0:
        how = structured[number // 3 % len(structured)]
        before = path.read_bytes()
        with contextlib.suppress(Exception):  # HDF5 refuses some changes, torch to write some
            how(path, rng)
        return how.__name__, how in RESEALED or kind in UNSEALED, path.read_bytes() == before
    how = BYTES_OF[rng.integers(len(BYTES_OF))]
    data = bytearray(path.read_bytes())
    before = bytes(data)
    how(data, rng)
    path.write_bytes(data)
    return how.__name__, kind in UNSEALED, data == before


def bytes_used():
    """The most memory that this process has had."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def judged(path, kind, want, free, verifies):
    """What becomes of a mutant, by this process."""
    before = bytes_used()
    try:
        found = READERS[kind](path)
        if (grown := bytes_used() - before) > BYTES:
            return "FAULT bloat", f"{grown} bytes"
        if found == want:
            return "equal", ""
        if verifies:
            physgen.inspect(path, verify=True)
        return ("another", "") if free else ("FAULT silent", "")
    except PhysgenError as error:
        line = str(error)
        if (grown := bytes_used() - before) > BYTES:
            return "FAULT bloat", f"{grown} bytes: {line}"
        if "\n" in line:
            return "FAULT lines", line
        return "noticed" if "found" in locals() else "refused", line
    except BaseException as error:
        return "FAULT traceback", f"{type(error).__name__}: {error}"[:300]


def in_child(act):
    """What a function returns, computed by a fork that may die."""
    read, write = os.pipe()
    if not (pid := os.fork()):
        os.close(read)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        signal.alarm(SECONDS)
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.dup2(null, 2)
        with os.fdopen(write, "w") as out:
            json.dump(act(), out)
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as answer:
        text = answer.read()
    _, status = os.waitpid(pid, 0)
    if text and not status:
        return json.loads(text)
    code = os.waitstatus_to_exitcode(status)
    return ["FAULT hang" if code == -signal.SIGALRM else "FAULT crash", f"code {code}"]


def quietened():
    """Pages without ink, and no warnings."""
    warnings.simplefilter("ignore")
    from physgen.reporting import sheet

    sheet.svg = lambda draw, size: b"<svg/>"


def spoilt(kind, original, place, n, seed):
    """Some mutants of one file, each made in a fresh copy of its folder, and judged."""
    folder = place.parent / "originals"

    def fresh():
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(folder, place)
        return place / original.relative_to(folder)

    with contextlib.redirect_stdout(io.StringIO()):
        want = READERS[kind](fresh())  # here, so that forks need not import what it needs
    if (again := in_child(lambda: judged(fresh(), kind, want, False, False))) != ["equal", ""]:
        raise SystemExit(f"{kind}: its original does not read as before: {again}")
    verifies = in_child(lambda: judged(fresh(), kind, "", True, True))[0] == "another"
    for number in range(n):
        path = fresh()
        how, free, same = spoil(path, kind, number, seed)
        if not same:
            found = in_child(lambda: judged(path, kind, want, free, verifies))  # noqa: B023
            yield Mutant(kind, how, number, *found)


def main(folder, n, seed, *kinds):
    """Spoil every kind n times, and print what became of the mutants."""
    source = Path(folder) / "originals"
    source.mkdir()
    quietened()
    torch.set_num_threads(1)
    mutants = [
        mutant
        for kind, path in originals(source, kinds or tuple(READERS)).items()
        for mutant in spoilt(kind, path, Path(folder) / "spoilt", int(n), int(seed))
    ]
    table = {m.kind: Counter(o.outcome for o in mutants if o.kind == m.kind) for m in mutants}
    faults = [asdict(m) for m in mutants if m.outcome.startswith("FAULT")]
    others = Counter(f"{m.kind} {m.how}" for m in mutants if m.outcome == "another")
    found = {"mutants": len(mutants), "counts": table, "faults": faults, "another": others}
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
