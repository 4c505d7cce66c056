"""The local folder in which work on the results at a URL goes on: it holds what was asked for, as it is there."""

from __future__ import annotations

import hashlib
import shutil
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from assay.benchmark import packed_folder
from assay.benchmark.remote_store import Entry, mirror_of, remote_at
from assay.benchmark.whole_folder import Damaged, put, staged, verify

_CONNECTIONS = 16


class Mirror:
    """Folders below a local root, each of which is one object, a ZIP, at a URL.

    What stands at the URL is what counts. The mirror may be deleted whenever nobody works in it.
    """

    def __init__(self, url: str) -> None:
        """Name the URL; nothing is asked over the network yet.

        Raises:
            AssayError: the URL cannot be used.
        """
        self.remote = remote_at(url)
        self.root = mirror_of(url)
        self._listed: dict[str, dict[str, Entry]] = {}

    def bring(self, path: Path, ask: bool = False) -> bool:
        """Make a local folder what stands at the URL in its place, and say whether there is anything, undamaged.

        Args:
            path: the local folder.
            ask: ask about it also where it was there when its neighbours were listed.

        Raises:
            Damaged: what stands at the URL is not what was written.
            AssayError: the network.
        """
        entry = self._entry(self._name(path), ask)
        if entry is None:
            shutil.rmtree(path, ignore_errors=True)
            return False
        if self._mark(path, entry) == self._marked(path):
            # A fault of the local copy is no fault of the store.
            with suppress(Damaged):
                verify(path)
                return True
        return self._download(path)

    def bring_all(self) -> None:
        """Bring every finished cell; what is no longer at the URL goes.

        Raises:
            Damaged: one of them is not what was written.
            AssayError: the network.
        """
        self._listed = {}
        places = []
        for task in self.remote.folders():
            if task.startswith("."):
                continue
            for name, entry in self.remote.entries(task).items():
                folders = name.removesuffix(".zip").split("/")
                # Whoever may write there may have named an object anything.
                if name.endswith(".zip") and len(folders) == 3 and not any(one[:1] in ("", ".") for one in folders):
                    self._listed.setdefault("/".join(folders[:2]), {})[name] = entry
                    places.append(self.root.joinpath(*folders))
        known = set(places)
        gone = [path for path in self.root.glob("[!.]*/*/*") if path not in known]
        with ThreadPoolExecutor(_CONNECTIONS) as pool:
            list(pool.map(self.bring, places))
            # Another process may have finished one since.
            list(pool.map(lambda path: self.bring(path, ask=True), gone))

    def upload(self, folder: Path, path: Path) -> Entry | None:
        """Put a folder at the URL, in the place of the local `path`."""
        with staged(self.root / ".partial") as temporary:
            packed_folder.pack(folder, temporary / "packed")
            return self.remote.upload(temporary / "packed", self._name(path))

    def uploaded(self, path: Path, entry: Entry | None) -> None:
        """Remember that a local folder is what was uploaded."""
        if entry is not None:
            name = self._name(path)
            self._listed.get(name.rpartition("/")[0], {})[name] = entry
            self._remember(path, entry)

    def drop(self, folder: Path) -> None:
        """Remove all that stands in a folder, here and at the URL."""
        place = folder.relative_to(self.root).as_posix()
        self.remote.remove(list(self.remote.entries(place)))
        self._listed.pop(place, None)
        shutil.rmtree(self.root / ".stamps" / place, ignore_errors=True)

    def set_aside(self, path: Path) -> str:
        """Move an object that is damaged out of the way; where to."""
        name = self._name(path)
        target = f".damaged/{path.name}-{uuid.uuid4().hex[:8]}.zip"
        known = self._listed.get(name.rpartition("/")[0], {}).pop(name, None)
        # Another process may have put a good one there since.
        if known is None or self.remote.entry(name) == known:
            self.remote.move(name, target)
        return f"{self.remote.url}/{target}"

    def _download(self, path: Path) -> bool:
        name = self._name(path)
        shutil.rmtree(path, ignore_errors=True)
        with staged(self.root / ".partial") as temporary:
            folder = temporary / "folder"
            folder.mkdir()
            try:
                entry = self.remote.download(name, temporary / "packed")
                self._listed.get(name.rpartition("/")[0], {})[name] = entry
                packed_folder.unpack(temporary / "packed", folder)
            except FileNotFoundError:
                self._listed.get(name.rpartition("/")[0], {}).pop(name, None)
                return False
            except Damaged as damage:
                raise Damaged(f"{self.remote.url}/{name} is damaged: {damage}") from damage
            put(folder, path)
        self._remember(path, entry)
        return True

    def _entry(self, name: str, ask: bool) -> Entry | None:
        folder = name.rpartition("/")[0]
        if folder not in self._listed:
            self._listed[folder] = self.remote.entries(folder)
            return self._listed[folder].get(name)
        known = self._listed[folder].get(name)
        if known is None or ask:
            known = self.remote.entry(name)
            if known is not None:
                self._listed[folder][name] = known
            else:
                self._listed[folder].pop(name, None)
        return known

    def _name(self, path: Path) -> str:
        return f"{path.relative_to(self.root).as_posix()}.zip"

    def _stamp_path(self, path: Path) -> Path:
        return self.root / ".stamps" / path.relative_to(self.root)

    def _mark(self, path: Path, entry: Entry) -> str | None:
        """What ties a local folder to an object: the object's stamp, and a digest of the folder's checksums."""
        try:
            return f"{entry.stamp} {hashlib.sha256((path / 'checksums.json').read_bytes()).hexdigest()}"
        except OSError:
            return None

    def _marked(self, path: Path) -> str:
        try:
            return self._stamp_path(path).read_text("utf-8")
        except OSError:
            return ""

    def _remember(self, path: Path, entry: Entry) -> None:
        place = self._stamp_path(path)
        mark = self._mark(path, entry)
        # The parts of a cell that another process has just finished are gone, and so is what was known of them.
        with suppress(FileNotFoundError), staged(self.root / ".partial") as temporary:
            place.parent.mkdir(parents=True, exist_ok=True)
            # Whoever works in the same mirror reads it whole or not at all.
            (temporary / "mark").write_text(mark or "", "utf-8")
            (temporary / "mark").replace(place)
