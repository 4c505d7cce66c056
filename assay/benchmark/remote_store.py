"""The objects of a results store at a URL: listed, fetched and put one by one, each whole or not at all."""

from __future__ import annotations

import hashlib
import os
import time
import uuid
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urlsplit

from assay.benchmark.packed_folder import MOST_BYTES
from assay.benchmark.whole_folder import Damaged
from assay.errors import AssayError
from assay.plain_text import clean

WAITS = (0.5, 2.0, 8.0)
"""Seconds before each further attempt, where the network fails."""

_PACKAGES = {"s3": "assay[s3]", "s3a": "assay[s3]", "gs": "gcsfs", "gcs": "gcsfs", "az": "adlfs", "abfs": "adlfs"}
# What says that an object is another than before, by what the protocols call it.
_STAMPS = ("ETag", "etag", "md5Hash", "content_md5", "mtime", "LastModified", "created")
_DENIED = ("Credential", "Token", "Auth", "ProfileNotFound", "Forbidden")
Result = TypeVar("Result")


class Entry(NamedTuple):
    """An object as a listing has it.

    Attributes:
        stamp: changes with the object's content.
        size: in bytes.
    """

    stamp: str
    size: int


class Remote:
    """The objects under a URL. Their names are relative to it, `/` between the parts."""

    def __init__(self, url: str) -> None:
        """Find what the URL's protocol needs; nothing is asked over the network yet.

        Raises:
            AssayError: an unknown protocol, a package that is missing, or a URL that cannot be used.
        """
        import fsspec

        self.url = url.rstrip("/")
        if "::" in url or urlsplit(url).password is not None:
            raise AssayError(
                f"results={urlsplit(url).scheme}://… holds a password or a chain of protocols. Give a plain one, "
                "such as s3://bucket/folder, and credentials where the protocol's own tools look for them."
            )
        if not urlsplit(url).netloc and urlsplit(url).scheme != "memory":
            raise AssayError(f"results={url} names no bucket or host. Give a URL such as s3://bucket/folder.")
        try:
            self._files, root = fsspec.core.url_to_fs(self.url)
        except ImportError as error:
            raise AssayError(f"results={self.url} needs {_package(self.url)}: {clean(error)}.") from error
        except Exception as error:
            raise AssayError(f"results={self.url} cannot be used: {clean(error)}.") from error
        self._root = str(root).rstrip("/")
        self._writable = False

    def check(self) -> None:
        """See once that objects can be put and removed.

        Raises:
            AssayError: no such bucket, no credentials, no right to write, or no connection.
        """
        if self._writable:
            return
        probe = self._path(f".partial/probe-{uuid.uuid4().hex[:8]}")
        try:
            self._patiently("be written", lambda: self._files.pipe_file(probe, b"assay"))
            self._patiently("be written", lambda: self._files.rm_file(probe))
        except FileNotFoundError as error:
            raise AssayError(f"The results at {self.url} cannot be written: {clean(error)}.") from error
        self._writable = True

    def folders(self, folder: str = "") -> list[str]:
        """The names of the folders in a folder; none where there is no such folder."""
        found = self._patiently("be listed", lambda: self._listed(self._files.ls, folder))
        return sorted(name for name, info in found.items() if info["type"] == "directory")

    def entries(self, folder: str) -> dict[str, Entry]:
        """All objects in a folder and below, by name; none where there is no such folder."""
        found = self._patiently("be listed", lambda: self._listed(self._files.find, folder))
        return {name: _entry(info) for name, info in found.items() if info["type"] == "file"}

    def entry(self, name: str) -> Entry | None:
        """What is said of one object; None where there is none."""
        try:
            return self._patiently("be read", lambda: _entry(self._files.info(self._path(name))))
        except FileNotFoundError:
            return None

    def download(self, name: str, target: Path) -> Entry:
        """Write an object into a file.

        Raises:
            FileNotFoundError: there is none.
            Damaged: it is larger than any result.
        """

        def attempt() -> Entry:
            self._files.invalidate_cache()
            entry = _entry(self._files.info(self._path(name)))
            if entry.size > MOST_BYTES:
                raise Damaged(f"{self.url}/{name} has {entry.size:,} bytes; at most {MOST_BYTES:,} are read")
            self._files.get_file(self._path(name), str(target))
            # A connection that broke, or another object meanwhile, is no damage: it is asked for again.
            if target.stat().st_size != entry.size:
                raise ConnectionError(f"{name} came with {target.stat().st_size:,} of {entry.size:,} bytes")
            return entry

        return self._patiently("be read", attempt)

    def upload(self, source: Path, name: str) -> Entry | None:
        """Put a file as an object, in one go, in place of an older one; what is there then."""
        self._patiently("be written", lambda: self._files.put_file(str(source), self._path(name)))
        return self.entry(name)

    def remove(self, names: list[str]) -> None:
        """Remove some objects; those that are gone already are no fault."""
        if names:
            try:
                self._patiently("be written", lambda: self._files.rm([self._path(name) for name in names]))
            except FileNotFoundError:
                return

    def move(self, name: str, target: str) -> None:
        """Give an object another name; nothing if it is gone."""
        try:
            self._patiently("be written", lambda: self._files.cp_file(self._path(name), self._path(target)))
        except FileNotFoundError:
            return
        self.remove([name])

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}".rstrip("/")

    def _listed(self, list_them: Callable[..., Any], folder: str) -> dict[str, Mapping[str, Any]]:
        # What was listed before is no answer: others write here too.
        self._files.invalidate_cache()
        try:
            found = list_them(self._path(folder), detail=True)
        except FileNotFoundError:
            return {}
        infos = found.values() if isinstance(found, Mapping) else found
        start = len(self._root) + 1
        return {str(info["name"]).rstrip("/")[start:]: info for info in infos}

    def _patiently(self, aim: str, attempt: Callable[[], Result]) -> Result:
        """Do something over the network, a few times if need be.

        Raises:
            FileNotFoundError: there is no such object.
            AssayError: it is not allowed, or has failed every time.
        """
        for wait in (*WAITS, None):
            try:
                return attempt()
            except (FileNotFoundError, Damaged):
                raise
            except Exception as error:
                told = f"The results at {self.url} cannot {aim}: {clean(error) or type(error).__name__}"
                if isinstance(error, PermissionError) or any(mark in type(error).__name__ for mark in _DENIED):
                    raise AssayError(f"{told.rstrip('.')}. Check the credentials and what they allow.") from error
                if wait is None or isinstance(error, NotImplementedError):
                    raise AssayError(
                        f"{told.rstrip('.')}. What is finished is kept there; run the same command again to go on."
                    ) from error
                time.sleep(wait)
        raise AssertionError


@cache
def remote_at(url: str) -> Remote:
    """The objects under a URL, the same for whoever asks in this process."""
    return Remote(url)


def mirror_of(url: str) -> Path:
    """The local folder in which work on the results at a URL goes on: in ASSAY_MIRROR, else in the user's cache."""
    cache_home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    place = Path(os.environ.get("ASSAY_MIRROR") or cache_home / "assay" / "results")
    return place.absolute() / hashlib.sha256(url.rstrip("/").encode()).hexdigest()[:16]


def _package(url: str) -> str:
    scheme = urlsplit(url).scheme
    package = _PACKAGES.get(scheme, f"the package for {scheme}://")
    return f"{package} (pip install '{package}')" if scheme in _PACKAGES else package


def _entry(info: Mapping[str, Any]) -> Entry:
    size = int(info.get("size") or 0)
    stamp = next((info[name] for name in _STAMPS if info.get(name)), "")
    # Some protocols list a time as text, and tell it of a single object as a time.
    stamp = str(stamp.isoformat() if isinstance(stamp, datetime) else stamp)
    return Entry(f"{size}-{hashlib.sha256(stamp.encode()).hexdigest()[:16]}", size)
