"""Published files: where they are, how long, their SHA-256; downloaded once, into the user's cache.

Downloads are pooch's: a file appears in the cache whole and with the right SHA-256 or not at all,
and is tried again where the connection broke off or something else came. The SHA-256 of the IDX
files is that of what is in the .gz, which other packing does not change: it is unpacked as far as
the published files are long. An archive is unpacked once it is the published one.
"""

from __future__ import annotations

import functools
import gzip
import os
import shutil
import tarfile
import tempfile
import time
import zlib
from pathlib import Path
from typing import Any

from ntkdyn.errors import InputError

RETRIES = 2
"""how often a failed download is tried again"""

SILENCE, SECONDS = 30, 1800
"""how long a server may say nothing, and all files of a dataset may take, tried again or not"""

LARGEST = 2**28
"""bytes that are downloaded at most: more than the largest archive has"""

ADDRESSES = {
    "mnist": "https://storage.googleapis.com/cvdf-datasets/mnist/",
    "fashion-mnist": "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    "cifar-10": "https://www.cs.toronto.edu/~kriz/",
}
"""dataset -> the folder on the network that its files are in"""

IDX = {
    ("mnist", "train-images-idx3-ubyte"): (
        47_040_016, "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db"),
    ("mnist", "train-labels-idx1-ubyte"): (
        60_008, "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5"),
    ("mnist", "t10k-images-idx3-ubyte"): (
        7_840_016, "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7"),
    ("mnist", "t10k-labels-idx1-ubyte"): (
        10_008, "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"),
    ("fashion-mnist", "train-images-idx3-ubyte"): (
        47_040_016, "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888"),
    ("fashion-mnist", "train-labels-idx1-ubyte"): (
        60_008, "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9"),
    ("fashion-mnist", "t10k-images-idx3-ubyte"): (
        7_840_016, "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b"),
    ("fashion-mnist", "t10k-labels-idx1-ubyte"): (
        10_008, "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34"),
}  # fmt: skip
"""(dataset, unpacked file) -> its size in bytes and its SHA-256"""

ARCHIVES = {
    "cifar-10": (
        "cifar-10-binary.tar.gz",
        "cifar-10-batches-bin",
        "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
    ),
}
"""dataset -> its archive, the folder that this unpacks to, and the archive's SHA-256"""


BATCHES = ((*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin"), 30_730_000)
"""the files of CIFAR-10's archive that hold images, and the size of each in bytes"""


def download(dataset: str) -> Path:
    """The folder of the cache with the dataset's files, which are downloaded if they are not there.

    An `InputError` says in one sentence why they cannot be had.
    """
    import pooch
    import requests

    if dataset not in ADDRESSES:
        raise InputError(
            f"data_dir: must be the folder that holds {dataset}'s files, or NTKDYN_DATA must name "
            f"it; {dataset} is not downloaded"
        )
    address, folder = ADDRESSES[dataset], cache() / dataset
    files = {name: digest for (owner, name), (_, digest) in IDX.items() if owner == dataset}
    deadline = time.monotonic() + SECONDS
    settings: dict[str, Any] = {"downloader": functools.partial(_unzipped, deadline)}
    if dataset in ARCHIVES:
        archive, _, digest = ARCHIVES[dataset]
        files, settings = (
            {archive: digest},
            {
                "downloader": functools.partial(_fetched, deadline),
                "processor": _unpacked,
            },
        )
    store = pooch.create(folder, address, retry_if_failed=RETRIES)
    store.registry.update(files)
    try:
        for name in files:
            store.fetch(name, **settings)
    except requests.HTTPError as error:
        answer = f"{error.response.status_code} {error.response.reason}".strip()
        raise _unavailable(dataset, address, f"the server answered {answer}") from None
    except requests.RequestException:
        raise _unavailable(dataset, address, "there is no connection, or it broke off") from None
    except ValueError:
        raise _unavailable(
            dataset, address, "what came is not the published file, by its SHA-256"
        ) from None
    except TimeoutError:
        raise _unavailable(dataset, address, f"it took longer than {SECONDS} s") from None
    except OSError as error:
        raise _unavailable(dataset, address, f"{folder}: {error.strerror}") from None
    return folder


def cache() -> Path:
    """The user's cache, as the operating system has it."""
    import pooch

    return Path(pooch.os_cache("ntkdyn"))


def _unavailable(dataset: str, address: str, reason: str) -> InputError:
    return InputError(
        f"data: {dataset} cannot be downloaded from {address} ({reason}); with its files at hand, "
        f"name their folder by data_dir, --data-dir or NTKDYN_DATA"
    )


def _fetched(deadline: float, url: str, path: str, store: Any) -> None:
    """Download `url` to `path`, until the deadline."""
    import requests
    import urllib3

    del store
    with requests.get(url, stream=True, timeout=SILENCE) as answer, open(path, "wb") as file:
        answer.raise_for_status()
        try:
            while part := answer.raw.read1(2**16, decode_content=True):
                file.write(part)
                if time.monotonic() > deadline:
                    raise TimeoutError
                if file.tell() > LARGEST:
                    raise ValueError("larger than any published file")  # pooch tries again
        except urllib3.exceptions.HTTPError as error:
            raise requests.ConnectionError(error) from error


def _unzipped(deadline: float, url: str, path: str, store: Any) -> None:
    """Download `url`.gz to `path`, and leave there what is in it."""
    _fetched(deadline, f"{url}.gz", path, store)
    most = max(size for size, _ in IDX.values())
    try:
        with gzip.open(path) as packed:
            content = packed.read(most + 1)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError("not a whole gzip file") from error  # which pooch tries again
    Path(path).write_bytes(content)


def _unpacked(path: str, action: str, store: Any) -> str:
    """Unpack the archive beside itself, whole or not at all."""
    del store
    archive = Path(path)
    inside = next(inside for name, inside, _ in ARCHIVES.values() if name == archive.name)
    unpacked = archive.parent / inside
    if action != "fetch" or not unpacked.is_dir():
        with tempfile.TemporaryDirectory(dir=archive.parent) as unfinished:
            with tarfile.open(archive) as opened:
                opened.extractall(unfinished, filter="data")
            shutil.rmtree(unpacked, ignore_errors=True)
            os.replace(Path(unfinished) / inside, unpacked)
    return path
