"""The machines of a Ray cluster as an executor of jobs.

Ray only starts a process on a machine that is free, and returns what it printed. What crosses
between machines is a request as JSON, and the bytes of an archive with records.
"""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from harness.errors import HarnessError
from harness.fleet.jobs import Ended, Job
from harness.fleet.requests import Reply

CONFIGURATION = "configuration"
"""The label of a machine: the configuration that sessions use there."""

REMOVED_VARIABLES = ("OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "RAY_JOB_ID")
"""What Ray sets in its workers, so that libraries use the CPUs that a task asked for."""

MISSING_RAY = "`wattbench fleet` needs Ray. Run: pip install 'wattbench[fleet]'"

STDERR_BYTES = 800
CONNECT_SECONDS = 10.0
STOP_SECONDS = 10.0
POLL_SECONDS = 1.0
WAIT_SECONDS = 5.0
DEATH_SECONDS = 30.0
"""How long it may take until a cluster has noticed that a machine died."""


def run_request(request: str) -> tuple[str, bytes]:
    """Handle a request in a process of its own, on the machine where Ray calls this.

    Args:
        request: as JSON.

    Returns:
        The reply as JSON, and the archive with the records of a session.
    """
    environment = {
        name: value for name, value in os.environ.items() if name not in REMOVED_VARIABLES
    }
    with tempfile.TemporaryDirectory() as temporary:
        archive = Path(temporary) / "records.zip"
        printed, errors = Path(temporary) / "reply", Path(temporary) / "errors"
        with printed.open("wb") as stdout, errors.open("wb") as stderr:
            process = subprocess.Popen(
                [sys.executable, "-m", "harness.fleet.node", str(archive)],
                env=environment,
                stdin=subprocess.PIPE,
                stdout=stdout,  # a file: of a pipe the end would come with that of all children
                stderr=stderr,
                text=True,
                start_new_session=True,
            )
        try:
            process.communicate(request)
        except BaseException:  # the task was cancelled
            _stop_group(process, signal.SIGTERM)
            raise
        finally:
            _stop_group(process, signal.SIGKILL)  # a process that was killed may leave children
        reply = printed.read_text()
        if process.returncode:
            tail = errors.read_text(errors="replace")[-STDERR_BYTES:]
            reason = f"its process ended with status {process.returncode}. {tail}"
            reply = Reply(error=reason, killed=process.returncode < 0).model_dump_json()
        return reply, archive.read_bytes() if archive.is_file() else b""


def _stop_group(process: subprocess.Popen[str], number: signal.Signals) -> None:
    """Send a signal to a process and its children, and wait a while for the process."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)
    with suppress(subprocess.TimeoutExpired):
        process.wait(STOP_SECONDS)


def read_reply(job: str, text: str, archive: bytes) -> Ended:
    """Return how a job ended, from what `run_request` returned."""
    try:
        reply = Reply.model_validate_json(text)
    except ValidationError:
        return Ended(job, error=f"its machine returned no reply: {text[:STDERR_BYTES]!r}")
    if reply.killed:
        return Ended(job)
    if reply.refused:
        return Ended(job, refusal=f"{reply.host}: {reply.error}")
    return Ended(job, (reply, archive), reply.error)


class RayMachines:
    """The machines of a cluster.

    Args:
        address: of the cluster, or `auto`.
        handle: handles a request, on the machine.

    Raises:
        HarnessError: Ray is not installed, or there is no cluster.
    """

    def __init__(
        self, address: str, handle: Callable[[str], tuple[str, bytes]] = run_request
    ) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        try:
            import ray
        except ModuleNotFoundError:
            raise HarnessError(MISSING_RAY) from None
        self._ray = ray
        _check_address(address)
        try:
            ray.init(
                address=address, log_to_driver=False, logging_level="ERROR", configure_logging=False
            )
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise _report_no_cluster(address, error) from None
        self._run = ray.remote(handle)
        self._running: dict[Any, tuple[Job, str]] = {}
        self._tried: dict[str, set[str]] = defaultdict(set)
        self._refusing: set[str] = set()

    def submit(self, job: Job) -> bool:
        """Begin a job on a machine that is free, and return whether there is one."""
        node = self._find_node(job)
        if node is None:
            return False
        strategy = self._ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(
            node["NodeID"], soft=False
        )
        task = self._run.options(
            num_cpus=_count_cpus(node), max_retries=0, scheduling_strategy=strategy, name=job.name
        )
        self._running[task.remote(job.request.model_dump_json())] = job, node["NodeID"]
        self._tried[job.name].add(node["NodeID"])
        return True

    def _find_node(self, job: Job) -> dict[str, Any] | None:
        """Return the largest machine without a job that a job may run on, which then has it all.

        One where the job has not been begun yet comes first.
        """
        taken = {node for _, node in self._running.values()} | self._refusing
        nodes = [
            node
            for node in self._list_nodes()
            if node["NodeID"] not in taken and _admits(node, job)
        ]
        tried = self._tried.get(job.name, set())

        def rank(node: dict[str, Any]) -> tuple[bool, float, str]:
            return node["NodeID"] not in tried, _count_cpus(node), node["NodeID"]

        return max(nodes, key=rank, default=None)

    def wait(self) -> Sequence[Ended]:
        """Return jobs that have ended, after waiting a while for one; there may be none.

        A worker may outlive the Ray node that started it, and its task would seem to run on. So a
        job counts as lost as soon as the cluster has noticed that its machine is gone.
        """
        deadline = time.monotonic() + WAIT_SECONDS
        while time.monotonic() < deadline:  # Ctrl-C is noticed between two calls
            ready, waiting = self._ray.wait(
                list(self._running), num_returns=1, timeout=POLL_SECONDS
            )
            if ready:
                return [self._read(task) for task in ready]
            alive = {node["NodeID"] for node in self._list_nodes()}
            lost = [task for task in waiting if self._running[task][1] not in alive]
            if lost:
                return [Ended(self._running.pop(task)[0].name) for task in lost]
        return []

    def _read(self, task: Any) -> Ended:
        job, node_id = self._running.pop(task)
        try:
            text, archive = self._ray.get(task)
        except self._ray.exceptions.RayTaskError as error:
            return Ended(job.name, error=" ".join(str(error).split())[-400:])
        except self._ray.exceptions.RayError:  # the machine or its worker died
            self._wait_for_death(node_id)
            return Ended(job.name)
        ended = read_reply(job.name, text, archive)
        if ended.refusal:
            self._refusing.add(node_id)
        return ended

    def _wait_for_death(self, node_id: str) -> None:
        """Wait until the cluster has noticed that a machine died, or it seems to be alive."""
        deadline = time.monotonic() + DEATH_SECONDS
        while time.monotonic() < deadline:
            if node_id not in {node["NodeID"] for node in self._list_nodes()}:
                return
            time.sleep(0.2)

    def cancel(self) -> None:
        """Stop all jobs."""
        for task in self._running:
            self._ray.cancel(task)
        self._ray.wait(list(self._running), num_returns=len(self._running), timeout=STOP_SECONDS)

    def _list_nodes(self) -> list[dict[str, Any]]:
        return [node for node in self._ray.nodes() if node["Alive"]]

    def list_configurations(self) -> set[str]:
        """Return the labels of the machines that take jobs."""
        return {_get_label(node) for node in self._list_nodes() if _count_cpus(node) >= 1}

    def close(self) -> None:
        """Leave the cluster, which goes on."""
        self._ray.shutdown()


def _check_address(address: str) -> None:
    """Check that something answers there, which Ray itself would try for minutes.

    Raises:
        HarnessError: nothing does, or it is no address.
    """
    if address == "auto":
        return
    host, _, port = address.rpartition(":")
    if not host or "/" in host or not port.isdigit():
        raise HarnessError(f"--address {address}: give auto, or HOST:PORT of the first machine.")
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise _report_no_cluster(address, error) from None


def _report_no_cluster(address: str, error: Exception) -> HarnessError:
    reason = " ".join(str(error).split())[:200]
    return HarnessError(
        f"--address {address}: there is no cluster ({reason}). Run `ray start --head` on one "
        "machine first."
    )


def _get_label(node: dict[str, Any]) -> str:
    return str(node.get("Labels", {}).get(CONFIGURATION, ""))


def _count_cpus(node: dict[str, Any]) -> float:
    return float(node["Resources"].get("CPU", 0.0))


def _admits(node: dict[str, Any], job: Job) -> bool:
    return _count_cpus(node) >= 1 and job.configuration in ("", _get_label(node))


HEALTH_CHECK = {"health_check_period_ms": 500, "health_check_failure_threshold": 6}
"""A local node is noticed to be dead after three seconds."""


class LocalCluster:
    """A cluster of Ray nodes on this machine, to try a fleet or to build side by side.

    Args:
        cores: the CPUs of each.
        configuration: the label of each.

    Raises:
        HarnessError: Ray is not installed.
    """

    def __init__(self, cores: int, configuration: str = "") -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        try:
            from ray.cluster_utils import Cluster
        except ModuleNotFoundError:
            raise HarnessError(MISSING_RAY) from None
        os.environ.setdefault("RAY_worker_niceness", "0")
        labels = {CONFIGURATION: configuration} if configuration else {}
        self._settings = {"num_cpus": cores, "labels": labels}
        head = {"num_cpus": 0, "include_dashboard": False, "_system_config": HEALTH_CHECK}
        self._cluster = Cluster(initialize_head=True, head_node_args=head)

    def add_node(self, **variables: str) -> Any:
        """Start a node, with some environment variables of its own, and return it."""
        node = self._cluster.add_node(**self._settings, env_vars=variables)
        self._cluster.wait_for_nodes()
        return node

    def remove_node(self, node: Any) -> None:
        """Kill a node."""
        self._cluster.remove_node(node)

    @property
    def address(self) -> str:
        """What `RayMachines` takes."""
        return str(self._cluster.address)

    def close(self) -> None:
        """Stop all nodes."""
        self._cluster.shutdown()
