"""What a file is by its first bytes, whoever made it."""

from __future__ import annotations

from pathlib import Path

from physgen.dataset.files import storage

__all__ = ["OTHER", "content_of"]

READ = {
    b"\x89HDF\r\n\x1a\n": "HDF5",
    b"\x93NUMPY": "npy",
    b"PK\x03\x04": "npz",
    b"PK\x05\x06": "npz",
    b"PAR1": "parquet",
    b"CDF\x01": "netCDF",
    b"CDF\x02": "netCDF",
    b"root": "ROOT",
    b"\x1f\x8b": "text",
}
"""First bytes → kind of file whose arrays can be read."""

PICKLE = "a pickle, which can run code; save the arrays with numpy.savez"
IMAGE = "image; save its pixels as an array, in npy or npz"
FOREIGN = {
    b"\x80\x02": PICKLE,
    b"\x80\x03": PICKLE,
    b"\x80\x04": PICKLE,
    b"\x80\x05": PICKLE,
    b"MATLAB 5.0": "a MATLAB file of version 7 or less; save it with -v7.3, or as text",
    b"CDF\x05": "netCDF of the kind CDF-5; save it as netCDF-4, as by nccopy -k 4",
    b"ARROW1": "an Arrow or Feather file; save it as parquet",
    b"SIMPLE  =": "a FITS file; save its table as text or npz",
    b"BZh": "compressed by bzip2; use gzip",
    b"\xfd7zXZ": "compressed by xz; use gzip",
    b"\x28\xb5\x2f\xfd": "compressed by zstd; use gzip",
    b"{": "JSON; save its numbers as CSV or npz",
    b"<": "HTML or XML; save its numbers as CSV or npz",
    b"%PDF": "a PDF file; save its numbers as CSV or npz",
    b"\xd0\xcf\x11\xe0": "an Excel file; save it as CSV",
    b"\x89PNG": f"a PNG {IMAGE}",
    b"\xff\xd8\xff": f"a JPEG {IMAGE}",
    b"GIF8": f"a GIF {IMAGE}",
    b"II*\x00": f"a TIFF {IMAGE}",
    b"MM\x00*": f"a TIFF {IMAGE}",
    b"\x7fELF": "a program; to simulate with one see physgen simulate command --help",
}
"""First bytes → what a file is whose arrays are not read, and how to mend it."""

OTHER = "a file of another kind"


def content_of(path: Path) -> tuple[str, str]:
    """What a file is by its content: the kind if its arrays can be read, else empty; and words.

    Raises:
        StorageError: the file cannot be read.
    """
    with storage(path), path.open("rb") as file:
        head = file.read(2**12)
    for magic, what in FOREIGN.items():
        if head.startswith(magic):
            return "", what
    for magic, kind in READ.items():
        if head.startswith(magic):
            return kind, kind
    if not head:
        return "", "empty; expected arrays"
    return ("", OTHER) if b"\0" in head else ("text", "text")
