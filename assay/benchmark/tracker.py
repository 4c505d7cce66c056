"""Where results go beside the store: Weights & Biases, or nowhere.

A tracker never fails the run: what goes wrong is said in one line, and the results in the store are not touched.
"""

from __future__ import annotations

import contextlib
import io
import netrc
import os
import shlex
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any, Literal, Protocol
from urllib.parse import urlsplit

from assay.benchmark.cell import Cell
from assay.benchmark.progress import say
from assay.benchmark.store import Store
from assay.errors import AssayError, near_matches

Mode = Literal["online", "offline", "disabled"]
MODES = ("auto", "online", "offline", "disabled")
_OF_AGENTS = ("WANDB_SWEEP_ID", "WANDB_RUN_ID", "WANDB_SWEEP_PARAM_PATH")
ONLINE_SECONDS = 30.0
"""How long to wait for W&B to answer; ten times that for files to go up."""


class Tracker(Protocol):
    """What a run tells of its cells, and of a leaderboard made of them."""

    def log(self, fresh: Sequence[Cell], all_cells: Sequence[Cell], config: Mapping[str, Any]) -> None:
        """Report cells that were just computed; `all_cells` are those of the same job, controls included."""

    def log_leaderboard(self, out: Path, results: str | Path | None = None) -> None:
        """Report a leaderboard that was written to a folder, and the results that it was made of."""


class NoTracker:
    """Tells nobody."""

    def log(self, fresh: Sequence[Cell], all_cells: Sequence[Cell], config: Mapping[str, Any]) -> None:
        """Do nothing."""

    def log_leaderboard(self, out: Path, results: str | Path | None = None) -> None:
        """Do nothing."""


@dataclass
class _Session:
    """How one process talks to W&B about one folder; kept over the jobs of a sweep, so that nothing is said twice.

    Attributes:
        folder: where W&B's own files go, in `wandb`.
        mode: `online`, `offline` or `disabled`; None until it is known.
        lines: what is to be said once wandb, whose own words are swallowed, is done.
    """

    folder: Path
    mode: Mode | None = None
    lines: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Agent:
    """The agent of a W&B sweep that has started this process.

    Attributes:
        sweep: the sweep's id.
        run: the id of the one run that the sweep wants to hear of.
        project: of the sweep, and `entity`, its user or team; None where the agent does not say.
    """

    sweep: str
    run: str
    project: str | None
    entity: str | None

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Agent | None:
        """The agent that an environment tells of, if there is one."""
        sweep, run = (environment.get(f"WANDB_{name}", "").strip() for name in ("SWEEP_ID", "RUN_ID"))
        if not sweep or not run:
            return None
        return cls(sweep, run, environment.get("WANDB_PROJECT") or None, environment.get("WANDB_ENTITY") or None)


class WandbTracker:
    """Tells Weights & Biases: each cell is a run of its own, and so is a leaderboard.

    Online when the user is logged in, else offline; `WANDB_MODE` is respected. No question is ever asked. W&B's own
    files go to the folder `wandb` beside the results.
    """

    def __init__(self, project: str = "assay", entity: str | None = None, mode: str = "auto") -> None:
        """Remember where to; wandb is imported when there is something to log.

        Args:
            project: the W&B project.
            entity: the W&B user or team; None for the user's default.
            mode: `auto`, `online`, `offline` or `disabled`.

        Raises:
            AssayError: an unknown mode.
        """
        if mode not in MODES:
            raise AssayError(f"Unknown tracker.mode {mode!r}. {near_matches(str(mode), MODES)}")
        self.project = project
        self.entity = entity
        self.mode = mode

    def log(self, fresh: Sequence[Cell], all_cells: Sequence[Cell], config: Mapping[str, Any]) -> None:
        """Log each fresh cell as a run named `explainer · task · model`, grouped by sweep or else by protocol.

        Logging a cell again replaces its run, because the run's id is the cell's key. A job that an agent of a W&B
        sweep has started is one run more, which is the sweep's: W&B knows of a single run for each.

        Args:
            fresh: what to log.
            all_cells: the cells of the same job; scores are read as skill against the controls among them.
            config: the job's resolved configuration; `results` and `sweep` are used, and `worker`, if it has one: the
                run of an agent is logged by the first of several.
        """
        agent = Agent.of(os.environ)

        def work(session: _Session) -> None:
            from assay.benchmark import wandb_content
            from assay.benchmark.summary import overall, summarise

            scores, skills = summarise(all_cells), overall(all_cells)
            group = config.get("sweep") or (agent.sweep if agent else None)
            for cell in fresh:
                own = [frame[frame["key"] == cell.key] if len(frame) else frame for frame in (scores, skills)]
                about = wandb_content.about_cell(cell, group)
                fill = partial(wandb_content.fill_cell, cell=cell, scores=own[0], skills=own[1])
                self._send(session, agent, about, fill)
            if agent is not None and not config.get("worker"):
                about = wandb_content.about_job(all_cells, agent.run, group)
                fill = partial(wandb_content.fill_job, cells=all_cells, scores=scores, skills=skills)
                self._send(session, agent, about, fill, sweep=agent.sweep)

        if fresh or agent:
            self._safely(Store(config["results"]).root, work)

    def log_leaderboard(self, out: Path, results: str | Path | None = None) -> None:
        """Log a leaderboard as a run, with the cells that it was made of; the same leaderboard again replaces it.

        Args:
            out: the folder that `assay leaderboard build` wrote. W&B's own files go beside it.
            results: the folder or URL that it was built from.
        """

        def work(session: _Session) -> None:
            from assay.benchmark import wandb_content

            cells = [] if results is None else Store(results).cells()
            about = wandb_content.about_leaderboard(Path(out))
            fill = partial(wandb_content.fill_leaderboard, out=Path(out), cells=cells)
            self._send(session, None, about, fill)

        self._safely(Path(out).absolute().parent, work)

    def _safely(self, folder: Path, work: Callable[[_Session], None]) -> None:
        """Do some logging; whatever goes wrong is one line, and the end of logging to this folder."""
        session = _session(folder.absolute(), self.project, self.entity, self.mode)
        if session.mode == "disabled" or wanted_mode(self.mode, os.environ) == "disabled":
            return
        try:
            with _apart(session.folder / "wandb"):
                session.mode = session.mode or _begin(session, self.mode)
                if session.mode != "disabled":
                    work(session)
        except Exception as error:
            session.mode = "disabled"
            _let_go()
            session.lines.append(
                f"Warning: W&B: {_reason(error)}; nothing more is logged there. The results are stored all the same."
            )
        while session.lines:
            say(session.lines.pop(0))

    def _send(
        self,
        session: _Session,
        agent: Agent | None,
        about: Mapping[str, Any],
        fill: Callable[[Any], None],
        sweep: str | None = None,
    ) -> None:
        """Make one run; offline from here on if W&B cannot be reached."""
        where = {"project": self.project, "entity": self.entity}
        if agent is not None:
            # As W&B does: in a sweep, everything belongs where the sweep is.
            where = {"project": agent.project or self.project, "entity": agent.entity or self.entity}
        if session.mode == "online":
            try:
                self._make_run(session, {**where, **about}, fill, sweep)
                return
            except Exception as error:
                session.mode = "offline"
                _let_go()
                session.lines.append(f"Warning: W&B online: {_reason(error)}; offline from here on. {_upload(session)}")
        self._make_run(session, {**where, **about}, fill, sweep)

    def _make_run(
        self, session: _Session, about: Mapping[str, Any], fill: Callable[[Any], None], sweep: str | None
    ) -> None:
        import wandb

        wanted = {
            "silent": True,
            "console": "off",
            "disable_code": True,
            "disable_git": True,
            "init_timeout": ONLINE_SECONDS,
            "finish_timeout": 10 * ONLINE_SECONDS,
            "finish_timeout_raises": True,
            "symlink": False,
            "sweep_id": sweep,
            "x_disable_machine_info": True,
            "x_disable_meta": True,
            "x_disable_stats": True,
            "x_save_requirements": False,
        }
        # Other versions of wandb lack some of these.
        known = {name: value for name, value in wanted.items() if name in wandb.Settings.model_fields}
        with wandb.init(
            mode=session.mode,
            dir=str(session.folder),
            reinit="create_new",  # a run that the user has going is left alone
            settings=wandb.Settings(**known),
            **about,
        ) as run:
            fill(run)
            here = Path(run.dir).parent
        for older in (session.folder / "wandb").glob(f"*run-*-{about['id']}*"):
            if older != here:
                shutil.rmtree(older, ignore_errors=True)


@cache
def _session(folder: Path, project: str, entity: str | None, mode: str) -> _Session:
    return _Session(folder)


def wanted_mode(mode: str, environment: Mapping[str, str]) -> str:
    """What the user asked for: the tracker's own setting, else `WANDB_MODE`, else `auto`."""
    if mode != "auto":
        return mode
    named = environment.get("WANDB_MODE", "").strip().lower()
    return {"": "auto", "dryrun": "offline", "run": "online", "shared": "online"}.get(named, named)


def logged_in(url: str, api_key: str | None, environment: Mapping[str, str]) -> bool:
    """Whether there are credentials for a W&B server; they are not tried, so nothing is asked of the network.

    Args:
        url: the server.
        api_key: the one in W&B's settings, if any.
        environment: of the process.
    """
    if api_key or environment.get("WANDB_API_KEY") or environment.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    named = environment.get("NETRC")
    candidates = [Path(named)] if named else [Path("~/.netrc"), Path("~/_netrc")]
    for path in candidates:
        with contextlib.suppress(OSError, RuntimeError, netrc.NetrcParseError):
            found = netrc.netrc(str(path.expanduser())).authenticators(urlsplit(url).netloc)
            return bool(found and found[2])
    return False


def _begin(session: _Session, mode: str) -> Mode:
    """How to log; and see that W&B's files can be written where they belong, because wandb would go elsewhere.

    Raises:
        OSError: they cannot.
    """
    import wandb

    settings = wandb.setup().settings
    wanted = wanted_mode(mode, os.environ)
    # `wandb offline` and `wandb disabled` leave their mode in a file of settings.
    if wanted == "auto" and settings.mode in ("offline", "disabled", "dryrun"):
        wanted = "disabled" if settings.mode == "disabled" else "offline"
    if wanted == "disabled":
        return "disabled"
    if wanted not in MODES:
        raise ValueError(f"WANDB_MODE={wanted} is not known")
    folder = session.folder / "wandb"
    folder.mkdir(parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(f"{folder} cannot be written")
    if wanted == "offline":
        return "offline"
    if logged_in(settings.base_url, settings.api_key, os.environ):
        return "online"
    session.lines.append(f"W&B: not logged in, so runs are kept offline. {_upload(session)}")
    return "offline"


def _let_go() -> None:
    """End wandb's service, which still holds the id of a run that failed; not if the user has a run in it."""
    import wandb

    if wandb.run is None:
        # A service that has died cannot be told to end.
        with contextlib.suppress(Exception):
            wandb.teardown()


def _upload(session: _Session) -> str:
    folder = session.folder
    with contextlib.suppress(ValueError):
        folder = folder.relative_to(Path.cwd())
    return f"Upload them with: wandb sync {shlex.quote(str(folder / 'wandb'))}/offline-run-*"


@contextmanager
def _apart(folder: Path) -> Iterator[None]:
    """Keep what wandb does to the process from the user: its words, its hooks, and files outside `folder`."""
    ours = {
        "WANDB_SILENT": "true",
        "WANDB_ERROR_REPORTING": "false",
        "WANDB_CACHE_DIR": str(folder / ".cache"),
        "WANDB_DATA_DIR": str(folder / ".data"),
    }
    added = {name: value for name, value in ours.items() if name not in os.environ}
    # wandb leaves there how its own process is reached.
    left = {*added, "WANDB_SERVICE"} - set(os.environ)
    # With these in sight wandb would let all cells of a job write into the one run of a sweep.
    hidden = {name: os.environ.pop(name) for name in _OF_AGENTS if name in os.environ}
    hooks = sys.exit, sys.excepthook
    os.environ.update(added)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        for name in left:
            os.environ.pop(name, None)
        os.environ.update(hidden)
        sys.exit, sys.excepthook = hooks


def _reason(error: Exception) -> str:
    told = str(error).strip()
    if told in ("", "<no message>"):
        told = f"it refuses or cannot be used ({type(error).__name__}); see `wandb login --verify`"
    return told.splitlines()[0].rstrip(".")
