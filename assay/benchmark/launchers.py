"""Hydra's launchers, by which jobs come to other processes and machines: what each needs, and workers that die."""

from __future__ import annotations

import os
import shlex
import shutil
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from hydra._internal.core_plugins import basic_launcher
from hydra._internal.hydra import Hydra
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, JobStatus, env_override, run_job
from hydra.experimental.callback import Callback
from hydra.types import HydraContext
from omegaconf import DictConfig, OmegaConf, read_write

from assay.benchmark.progress import say
from assay.errors import AssayError

SERIAL = "basic"
"""Hydra's own launcher: one job after another, in this process."""

NEEDS = {
    "joblib": ("joblib", ("hydra_plugins.hydra_joblib_launcher", "joblib")),
    "ray": ("ray", ("hydra_plugins.hydra_ray_launcher", "ray")),
    "submitit_local": ("slurm", ("hydra_plugins.hydra_submitit_launcher", "submitit")),
    "submitit_slurm": ("slurm", ("hydra_plugins.hydra_submitit_launcher", "submitit")),
}
"""For each preset the extra that installs what it needs, and what that is."""

RESTARTS = 3
"""How often jobs are launched again after a worker has died."""

_DEATHS = ("TerminatedWorkerError", "BrokenProcessPool", "UncompletedJobError")


class Forgetting(Callback):
    """Lets go of a job's configuration when it ends: Hydra would keep those of a whole sweep, a megabyte a job."""

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **_: Any) -> None:
        """Keep what the job returned, and nothing else of it."""
        job_return.cfg = job_return.hydra_cfg = None


class WorkerDied(Exception):
    """Workers have died so often that the jobs are not launched again."""


@dataclass(frozen=True)
class Home:
    """Where a command was given, for its jobs that run elsewhere.

    Attributes:
        machine: its name.
        process: its number.
        folder: relative paths begin here, and modules of the user's own are found here.
        threads: how many a worker has on a processor.
    """

    machine: str
    process: int
    folder: str
    threads: int

    @classmethod
    def here(cls) -> Home:
        """The present process; one thread a worker, unless `OMP_NUM_THREADS` asks for more."""
        asked = os.environ.get("OMP_NUM_THREADS", "")
        return cls(socket.gethostname(), os.getpid(), os.getcwd(), int(asked) if asked.isdigit() and int(asked) else 1)

    @property
    def left(self) -> bool:
        """Whether this process is another."""
        return (self.machine, self.process) != (socket.gethostname(), os.getpid())

    def enter(self) -> None:
        """Make this process see the files and modules that the command saw.

        Raises:
            AssayError: the folder is not there.
        """
        try:
            os.chdir(self.folder)
        except OSError as error:
            raise AssayError(
                f"{socket.gethostname()} does not see the folder {self.folder!r}, where the command was given on "
                f"{self.machine}. Give it in a folder that all machines share."
            ) from error
        if self.folder not in sys.path:
            sys.path.insert(0, self.folder)


def use_own_presets() -> None:
    """Forget what the plugins say of themselves: Hydra would match Assay's presets, which are whole, against it."""
    known = ConfigStore.instance().repo.get("hydra", {}).get("launcher", {})
    for name in NEEDS:
        known.pop(f"{name}.yaml", None)


def chosen(config: DictConfig) -> str:
    """The name of the launcher that a composed configuration has."""
    return str(config.hydra.runtime.choices["hydra/launcher"])


def prepare(config: DictConfig, workers: int) -> list[str]:
    """See that the launcher can be used, and prepare this process for it.

    Args:
        config: composed, Hydra's part included.
        workers: how many there are to be.

    Returns:
        Overrides to add.

    Raises:
        AssayError: something that the launcher needs is not there.
    """
    name, added = chosen(config), []
    if name == SERIAL and workers > 1:
        name, added = "joblib", ["hydra/launcher=joblib"]
    if name in NEEDS:
        extra, packages = NEEDS[name]
        if not all(_installed(package) for package in packages):
            raise AssayError(f"hydra/launcher={name} needs further packages: pip install 'assay[{extra}]'.")
    if name == "submitit_slurm" and not (shutil.which("sbatch") and shutil.which("srun")):
        raise AssayError(
            "hydra/launcher=submitit_slurm: there is no sbatch and srun here. Start it where SLURM takes jobs; "
            "hydra/launcher=joblib uses this machine."
        )
    if name == "ray":
        # Ray reads these when it is imported or started: nobody is told of its use, and every worker's lines are shown.
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_DEDUP_LOGS", "0")
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        if config.hydra.launcher.ray.remote.num_gpus is None:
            wanted = str(config.model.device if "model" in config else "auto")
            gpus = int((wanted == "auto" or wanted.startswith("cuda")) and torch.cuda.is_available())
            added.append(f"hydra.launcher.ray.remote.num_gpus={gpus}")
    if name != SERIAL:
        # Processes on other machines may stand elsewhere.
        place = os.path.abspath(str(config.hydra.sweep.dir)).replace("\\", "\\\\").replace("'", "\\'")
        added.append(f"hydra.sweep.dir='{place}'")
        if name.startswith("submitit"):
            say(f"The lines of the workers go to {os.path.join(place, '.submitit')}.")
    return added


def multirun(hydra: Hydra, config_name: str, job: Any, overrides: Sequence[str]) -> list[Any]:
    """Have Hydra's launcher run jobs; where a worker dies, the jobs are launched again, and go on where they were.

    Returns:
        What the jobs returned.

    Raises:
        WorkerDied: it happened too often.
        AssayError: the cluster cannot be reached.
    """
    restarts = 0
    while True:
        try:
            with patch.object(basic_launcher, "run_job", _run_here):
                batches = hydra.multirun(config_name, job, list(overrides), with_log_configuration=False)
            return [returned.return_value for batch in batches for returned in batch]
        except ConnectionError as error:
            if "Ray" not in str(error):
                raise
            raise AssayError(
                f"{str(error).splitlines()[0]}. Is it running, and reachable from here? A cluster of `ray start` "
                "asks for a token: set RAY_AUTH_MODE=token here; every machine must have the token that it wrote."
            ) from error
        except Exception as error:
            if not _is_death(error):
                raise
            reason = f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"
            # A user who takes jobs out of a queue does not want them back.
            if restarts == RESTARTS or "CANCELLED" in str(error):
                raise WorkerDied(
                    f"Workers died, and were started again {restarts} times ({reason}). What was finished is kept; "
                    "see whether memory was short, then go on with the same command:"
                ) from error
            restarts += 1
            say(f"A worker died ({reason}). What was finished is kept; starting again ({restarts} of {RESTARTS}).")


def _run_here(
    task_function: Any, config: DictConfig, job_dir_key: str, job_subdir_key: str, hydra_context: HydraContext
) -> JobReturn:
    """Hydra's `run_job`, which copies a job's configuration four times: half of what it takes to skip a finished job.

    Who wants more of Hydra than Assay asks of it (callbacks, a folder for each job) gets Hydra's own.
    """
    hydra = config.hydra
    if hydra.output_subdir is not None or hydra.job.chdir or set(hydra.callbacks) - {"forgetting"}:
        return run_job(task_function, config, job_dir_key, job_subdir_key, hydra_context)
    # The job does not see Hydra's part, which refers to all that the job sees: they part without a copy.
    whole = OmegaConf.create({})
    vars(whole)["_content"] = {**vars(config)["_content"]}
    hydra._set_parent(whole)
    del vars(config)["_content"]["hydra"]
    seen: Any = HydraConfig.instance()
    before, seen.cfg = seen.cfg, whole
    try:
        folder = Path(str(OmegaConf.select(whole, job_dir_key)), str(OmegaConf.select(whole, job_subdir_key)))
        folder.mkdir(parents=True, exist_ok=True)
        with read_write(hydra.runtime):
            hydra.runtime.output_dir = os.path.abspath(folder)
        OmegaConf.set_readonly(hydra, True)
        with env_override(hydra.job.env_set):
            done = task_function(config)
        return JobReturn(overrides=list(hydra.overrides.task), status=JobStatus.COMPLETED, _return_value=done)
    finally:
        seen.cfg = before


def spelled(config_name: str, arguments: Sequence[str], sweep: bool) -> str:
    """A command as it was given."""
    return shlex.join(["assay", config_name, *(["-m"] if sweep else []), *arguments])


def _installed(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except ModuleNotFoundError:
        return False


def _is_death(error: BaseException) -> bool:
    """Whether a launcher says that a process ended that should not have, and not that a job failed."""
    kinds = [kind for kind in type(error).__mro__ if kind.__name__ not in ("object", "Exception", "BaseException")]
    names = {kind.__name__ for kind in kinds}
    of_ray = any(kind.__module__.startswith("ray.exceptions") for kind in kinds)
    return bool(names & set(_DEATHS)) or (of_ray and "RayTaskError" not in names)
