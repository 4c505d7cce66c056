"""The Hugging Face hub where it is not at its best: unreachable, slow, cut off half way, or refusing."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from assay.errors import AssayError

SECONDS_TO_ANSWER = 10.0
"""How long the hub may take to say anything at all before what was downloaded earlier is used in its place."""

# A hub that answered may fall silent at any time; one that did not is not asked again soon.
_SECONDS_REMEMBERED = {True: 10.0, False: 300.0}
# What the hub's own library, by its version, asks the network with.
_CLIENTS = ("httpx", "httpx2", "httpcore", "requests", "urllib3", "aiohttp")
# For each address why it gave no answer (None where it did), and when that was found out.
_asked: dict[str, tuple[str | None, float]] = {}


def is_hub_name(path: str | Path) -> bool:
    """Whether something is to be looked for on the hub: no such file or folder is here, and it is no path to one."""
    place = Path(path)
    is_path = place.is_absolute() or str(path).startswith((".", "~")) or len(place.parts) > 2
    return not is_path and not place.exists()


@contextmanager
def asking(name: str | Path, advice: str) -> Iterator[None]:
    """Load something that may lie on the hub; where the hub does not answer, only what was downloaded before is used.

    What is downloaded gets its name when it is whole, so that nothing broken off is ever taken for it.

    Args:
        name: what is loaded; nothing is done about a file or folder that is here.
        advice: what else the user can do, as a sentence.

    Raises:
        AssayError: the hub does not answer and the thing was not downloaded before, or the download broke off.
    """
    from huggingface_hub.utils import logging as hub_logging

    if not is_hub_name(name):
        yield
        return
    silence = why_silent()
    shown = hub_logging.get_verbosity()
    # Each attempt of several would be told, and what came of them is told here.
    hub_logging.set_verbosity(logging.ERROR)
    try:
        with _downloaded_only(silence is not None):
            yield
    except Exception as error:
        if silence is not None:
            raise AssayError(
                f"The Hugging Face hub does not answer ({silence}), and {str(name)!r} was not downloaded before. "
                f"Check the network, or download it where there is one (hf download {name}). {advice}"
            ) from error
        broken = _network_error(error)
        if broken is None:
            raise
        raise AssayError(
            f"The download of {str(name)!r} from the Hugging Face hub failed ({_first_line(broken)}); nothing that "
            f"came in part is used. Run the same command again, or check the network. {advice}"
        ) from error
    finally:
        hub_logging.set_verbosity(shown)


def why_silent() -> str | None:
    """Why the hub cannot be asked, found out by one request of at most `SECONDS_TO_ANSWER`; None where it answers.

    It is remembered for a while, and told once. A user who has set HF_HUB_OFFLINE is not told of it.
    """
    from http.client import HTTPException
    from urllib.error import HTTPError
    from urllib.request import Request, urlopen

    from huggingface_hub import constants

    if constants.is_offline_mode():
        return "it is not asked: HF_HUB_OFFLINE is set"
    address = str(constants.ENDPOINT)
    if address in _asked:
        before, when = _asked[address]
        if time.monotonic() - when < _SECONDS_REMEMBERED[before is None]:
            return before
    silence = None
    try:
        urlopen(Request(f"{address}/api/models", method="HEAD"), timeout=SECONDS_TO_ANSWER).close()
    except HTTPError as error:
        # Any other answer will do, also that there is no such page.
        silence = f"{address} answers with error {error.code}" if error.code >= 500 else None
    except TimeoutError:
        silence = f"{address} said nothing in {SECONDS_TO_ANSWER:.0f} s"
    except (OSError, HTTPException, ValueError) as error:
        silence = f"{address}: {_first_line(error)}"
    _asked[address] = silence, time.monotonic()
    if silence is not None:
        logging.getLogger(__name__).warning(
            "The Hugging Face hub does not answer (%s); what was downloaded before is used.", silence
        )
    return silence


@contextmanager
def _downloaded_only(wanted: bool) -> Iterator[None]:
    """Have transformers and datasets look at downloaded files alone, as HF_HUB_OFFLINE does for a whole process."""
    from huggingface_hub import constants

    was = {"huggingface_hub.constants": constants.HF_HUB_OFFLINE}
    # It reads what the other says when it is imported.
    was["datasets.config"] = getattr(sys.modules.get("datasets.config"), "HF_HUB_OFFLINE", constants.HF_HUB_OFFLINE)

    def put(offline: Mapping[str, bool]) -> None:
        for place, value in offline.items():
            if place in sys.modules:
                vars(sys.modules[place])["HF_HUB_OFFLINE"] = value

    if wanted:
        put(dict.fromkeys(was, True))
    try:
        yield
    finally:
        put(was)


def _network_error(error: BaseException | None) -> BaseException | None:
    """What went wrong on the way, if that is behind an error."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        # What the hub refuses, such as a page that is not there, is no fault of the way.
        refused = getattr(getattr(error, "response", None), "status_code", 500) < 500
        client = type(error).__module__.partition(".")[0] in _CLIENTS
        if not refused and (client or isinstance(error, ConnectionError | TimeoutError)):
            return error
        error = error.__cause__ or error.__context__
    return None


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
