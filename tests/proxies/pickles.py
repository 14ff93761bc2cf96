"""Tiny copies of official dataset files, as Python 2 and 3 and NumPy 1 and 2 have written them."""

import pickle
from pathlib import Path

import numpy as np

WRITERS = ["python2", "numpy1", *(f"protocol{p}" for p in range(2, pickle.HIGHEST_PROTOCOL + 1))]


def write(path: Path, content: dict, writer: str = "python2") -> None:
    """Write a mapping with text keys, its arrays uint8, as ``writer`` would."""
    if writer == "python2":
        path.write_bytes(_python2(content))
    elif writer == "numpy1":
        path.write_bytes(pickle.dumps(content, 2).replace(b"numpy._core", b"numpy.core"))
    else:
        path.write_bytes(pickle.dumps(content, int(writer.removeprefix("protocol"))))


def examples(seed: int, count: int, classes: int, side: int, first: int = 0) -> dict:
    """``count`` random pictures, labelled in turn from ``first``."""
    rng = np.random.default_rng(seed)
    data = rng.integers(0, 256, (count, 3 * side**2), np.uint8)
    return {"data": data, "labels": [first + i % classes for i in range(count)]}


def cifar10(folder: Path, writer: str = "python2", count: int = 20) -> Path:
    folder.mkdir()
    for i in range(1, 6):
        content = examples(i, count, 10, 32)
        names = [f"picture_{n}.png" for n in range(count)]
        content |= {"batch_label": f"training batch {i} of 5", "filenames": names}
        write(folder / f"data_batch_{i}", content, writer)
    return folder


def cifar100(folder: Path, writer: str = "python2", count: int = 200) -> Path:
    folder.mkdir()
    content = examples(0, count, 100, 32)
    fine = content.pop("labels")
    content |= {"fine_labels": fine, "coarse_labels": [label // 5 for label in fine]}
    write(folder / "train", content, writer)
    return folder


def imagenet16(folder: Path, writer: str = "protocol3", count: int = 150, name="train") -> Path:
    """Labels 1 to ``count`` in every file, of which 121 and more are left out."""
    folder.mkdir()
    files = [f"train_data_batch_{i}" for i in range(1, 11)] if name == "train" else ["val_data"]
    for i, file in enumerate(files, 1):
        write(folder / file, examples(i, count, 1000, 16, first=1), writer)
    return folder


def _python2(content: dict) -> bytes:
    """Pickle as Python 2 did with protocol 2: every text and all data are byte strings."""

    def of(value) -> bytes:
        if isinstance(value, dict):
            return b"}" + b"".join(of(k) + of(v) + b"s" for k, v in value.items())
        if isinstance(value, list):
            return b"](" + b"".join(map(of, value)) + b"e"
        if isinstance(value, int):
            return b"J" + value.to_bytes(4, "little", signed=True)
        if isinstance(value, str):
            return of(value.encode())
        if isinstance(value, bytes):
            return b"T" + len(value).to_bytes(4, "little") + value
        kind = (
            b"cnumpy\ndtype\n(U\x02u1K\x00K\x01tR(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xff"
        )
        kind += b"K\x00tb"
        rows, columns = value.shape
        empty = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tU\x01btR"
        state = b"(K\x01" + of(rows) + of(columns) + b"\x86" + kind + b"\x89" + of(value.tobytes())
        return empty + state + b"tb"

    return b"\x80\x02" + of(content) + b"."
