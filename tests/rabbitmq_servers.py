"""RabbitMQ for tests, as `tests.servers` has Redis: nodes of their own, or the shared one."""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import resource
import shutil
import signal
import socket
import subprocess
import tempfile
from pathlib import Path
from typing import Final, Self

import pika
import psutil
from pika.adapters.utils.connection_workflow import AMQPConnectorException
from pika.exceptions import AMQPError

from tests.servers import Server, missing
from tests.waiting import until

SHARED_RABBITMQ: Final = os.environ.get("TASKQ_TEST_RABBITMQ", "amqp://guest:guest@127.0.0.1:5672")
_PLACE: Final = "/usr/lib/rabbitmq/bin"
"""Where packages keep the programs themselves; in the PATH they put a wrapper,
which only root may run, and which changes to the user and the folder of the system's server."""
_CONFIG: Final = (
    "loopback_users = none",
    "log.file = false",
    "log.console = true",
    "log.console.use_colors = off",
)
_PRELOAD: Final = """
%% Of tests that are killed nobody is left to close it.
Tests = filename:join("/proc", os:getenv("TASKQ_TEST_PID")),
Watch = fun Watch() ->
                timer:sleep(1000),
                case filelib:is_dir(Tests) of
                    true -> Watch();
                    false -> halt()
                end
        end,
filelib:is_dir(Tests) andalso spawn(Watch),
%% What the server is made of is loaded at once and by all processors. Left to
%% itself it loads one of some 850 modules after the other, and looks for each
%% in the folders of all plugins: two thirds of the time that it takes to start.
Closure = fun Closure([App | More], Found) when is_map_key(App, Found) ->
                  Closure(More, Found);
              Closure([App | More], Found) ->
                  File = code:where_is_file(atom_to_list(App) ++ ".app"),
                  {ok, [{application, App, Facts}]} = file:consult(File),
                  Modules = proplists:get_value(modules, Facts, []),
                  Needed = proplists:get_value(applications, Facts, []),
                  Closure(Needed ++ More, Found#{App => {filename:dirname(File), Modules}});
              Closure([], Found) ->
                  lists:unzip(maps:values(Found))
          end,
{Folders, Modules} = Closure([rabbit], #{}),
code:add_pathsa(Folders),
code:ensure_modules_loaded(lists:append(Modules)),
%% Of all plugins it would read the description and the schema, to use none.
Home = code:lib_dir(rabbit),
file:make_symlink(Home, filename:join("plugins", filename:basename(Home))),
os:putenv("RABBITMQ_PLUGINS_DIR", filename:absname("plugins")).
"""
"""Runs in the server before it boots; if it fails, the server only starts more slowly."""


@functools.cache
def find_rabbitmq() -> str | None:
    """Return the URL of a RabbitMQ server for tests that only use it.

    It is the one that listens already, else one started for this run, else None.
    """
    if _answers(SHARED_RABBITMQ):
        return SHARED_RABBITMQ
    if _program("rabbitmq-server") is None:
        return None
    server = RabbitmqServer().__enter__()
    atexit.register(server.close)
    return server.url


def shared_rabbitmq() -> str:
    """Return what `find_rabbitmq` finds; skip the test, or fail it, if that is nothing."""
    reason = f"no server at {SHARED_RABBITMQ}, no rabbitmq-server program"
    return find_rabbitmq() or missing("rabbitmq", reason)


class RabbitmqServer(Server):
    """A RabbitMQ node of a test's own, in a temporary folder of its own.

    `config` are lines for its rabbitmq.conf, such as "consumer_timeout = 10000". It
    takes nothing from the machine's own configuration, has no plugins, and neither
    needs nor starts epmd, Erlang's directory of nodes: that would outlive it.

    Whether a consumer is late it looks up once a minute. For channels opened later
    `ctl("eval", "application:set_env(rabbit, channel_tick_interval, 1000).")` makes
    that once a second.
    """

    def __init__(self, *config: str) -> None:
        self._server = _program("rabbitmq-server") or _absent("rabbitmq-server")
        self._ctl = _program("rabbitmqctl") or _absent("rabbitmqctl")
        self._call = _program("erl_call") or _absent("erl_call")
        super().__init__(Path(tempfile.mkdtemp(prefix="taskq-tests-")))
        (self._folder / "plugins").mkdir()
        self._write("enabled_plugins", "[].")
        self._write("preload", _PRELOAD)
        self._write("rabbitmq.conf", "\n".join((*_CONFIG, *config, "")))

    @property
    def url(self) -> str:
        return f"amqp://guest:guest@127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        try:
            return super().__enter__()
        except BaseException:
            self.close()
            raise

    def _launch(self) -> bool:
        # It keeps two files in reserve for each quorum queue, and stands still without.
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        try:
            return super()._launch()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    def stop(self) -> None:
        self._signal(signal.SIGTERM)
        self._await_end()

    def kill(self) -> None:
        """End it as a power cut of the process would.

        RabbitMQ 3.10 forgets durable queues, with all that is in them, if they were
        declared shortly before, some 3 s: of quorum queues it writes the list
        with a delay, and of others the last word of the transaction, though it
        mostly comes in time. `flush` first where a test is not about that.
        """
        super().kill()

    def flush(self) -> None:
        """Let it write down at once which queues there are, so that it survives `kill`."""
        # The process that logs how transactions ended answers once it has done so.
        logged = "sys:get_state(mnesia_recover), ok = mnesia:sync_log()"
        self._evaluate(f"{logged}, [ok = dets:sync(Each) || Each <- dets:all()]")

    def bounce(self) -> None:
        """Stop and start the broker inside the process, as `rabbitmqctl stop_app` does."""
        self.ctl("stop_app")
        self.ctl("start_app")
        until(self._answers, f"{self.name} answers after a bounce")

    def empty(self) -> None:
        self._evaluate(
            'Everything = <<".*">>, Tests = <<"tests">>,'
            'rabbit_vhost:delete(<<"/">>, Tests), rabbit_vhost:add(<<"/">>, Tests),'
            "rabbit_auth_backend_internal:set_permissions("
            '    <<"guest">>, <<"/">>, Everything, Everything, Everything, Tests)'
        )

    def ctl(self, *arguments: str) -> str:
        """Return what `rabbitmqctl` prints, without headings; it takes half a second."""
        # It listens to nobody: the port that it would listen to is the server's.
        settings = {**self._environment(), "RABBITMQ_CTL_ERL_ARGS": "-dist_listen false"}
        return self._run(settings, self._ctl, "--silent", "--node", self._node, *arguments)

    def cut(self) -> int:
        """Close the connections of all its clients without a word; return how many."""
        return self._for_each_connection("exit(Reader, kill)")

    def close_all_connections(self) -> int:
        """Tell all its clients CONNECTION_FORCED, as an operator does; return how many."""
        return self._for_each_connection('rabbit_networking:close_connection(Reader, "cut")')

    def raise_alarm(self) -> None:
        """Let it believe that it is out of memory: who publishes is blocked."""
        self._evaluate("vm_memory_monitor:set_vm_memory_high_watermark(0)")

    def clear_alarm(self) -> None:
        """End `raise_alarm`."""
        self._evaluate("vm_memory_monitor:set_vm_memory_high_watermark(0.4)")

    def cpu(self) -> float:
        """Return how many seconds of processor time it has used since it was started."""
        assert self._process is not None, "the server was not started"
        times = psutil.Process(self._process.pid).cpu_times()
        return times.user + times.system

    def close(self) -> None:
        family = self._descendants()
        super().close()
        # They end by themselves, but not at once.
        for process in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def _node(self) -> str:
        return f"taskq{self.port}@localhost"

    @property
    def _link(self) -> int:
        """The port at which it answers `rabbitmqctl`: the other one of a pair."""
        return self.port ^ 1

    def _environment(self) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "LANG": "C.UTF-8",
            # There it keeps the secret that it shares with `rabbitmqctl`.
            "HOME": f"{self._folder}",
            # Also of what it starts: once a minute it wants to start epmd.
            "ERL_FLAGS": f"-start_epmd false -erl_epmd_port {self._link}",
            "ERL_CRASH_DUMP_SECONDS": "0",
            # If the machine has one, it is not told either: nobody listens there.
            "ERL_EPMD_PORT": "1",
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_NODENAME": self._node,
        }

    def _command(self) -> list[str]:
        arguments = [
            f"-sname {self._node} -kernel inet_dist_use_interface {{127,0,0,1}}",
            # Control-C is for the tests, which close it.
            "+sbwt none +B i",
            "-run file eval preload -s rabbit boot",
        ]
        settings = {
            **self._environment(),
            "TASKQ_TEST_PID": f"{os.getpid()}",
            # Else a shell stays between, which takes the signals, and whose end is no end.
            "RUNNING_UNDER_SYSTEMD": "true",
            # It is told to boot in the arguments, so that something can come before.
            "RABBITMQ_NODE_ONLY": "true",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": f"{self.port}",
            "RABBITMQ_DIST_PORT": f"{self._link}",
            "RABBITMQ_MNESIA_BASE": f"{self._folder / 'data'}",
            "RABBITMQ_LOG_BASE": f"{self._folder / 'log'}",
            "RABBITMQ_CONFIG_FILE": f"{self._folder / 'rabbitmq.conf'}",
            "RABBITMQ_CONFIG_FILES": f"{self._folder / 'none'}",
            "RABBITMQ_ADVANCED_CONFIG_FILE": f"{self._folder / 'advanced.config'}",
            "RABBITMQ_ENABLED_PLUGINS_FILE": f"{self._folder / 'enabled_plugins'}",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": " ".join(arguments),
        }
        return [*_with(settings), self._server]

    def _answers(self) -> bool:
        return _answers(self.url)

    def _descendants(self) -> list[psutil.Process]:
        if self._process is None:
            return []
        with contextlib.suppress(psutil.NoSuchProcess):
            return psutil.Process(self._process.pid).children(recursive=True)
        return []

    def _for_each_connection(self, action: str) -> int:
        readers = "Readers = rabbit_networking:connections()"
        return int(self._evaluate(f"{readers}, [{action} || Reader <- Readers], length(Readers)"))

    def _evaluate(self, expressions: str) -> str:
        """Return what `rabbitmqctl eval` would, within a fiftieth of its time."""
        address = ("-address", f"127.0.0.1:{self._link}")
        said = self._run(self._environment(), self._call, *address, "-e", told=f"{expressions}.\n")
        assert said.startswith("{ok, "), f"{expressions}:\n{said}"
        return said.removeprefix("{ok, ").removesuffix("}")

    def _run(self, settings: dict[str, str], *command: str, told: str = "") -> str:
        done = subprocess.run(
            [*_with(settings), *command],
            input=told,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=self._folder,
            check=False,
            timeout=60,
        )
        assert not done.returncode, f"{' '.join(command)}:\n{done.stdout}"
        return done.stdout

    def _write(self, name: str, text: str) -> None:
        (self._folder / name).write_text(text)


def _answers(url: str) -> bool:
    """Say whether it opens a connection for whom the URL names."""
    parameters = pika.URLParameters(url)
    parameters.socket_timeout = parameters.stack_timeout = 5
    # Pika would write pages about it into the log that nobody is there yet.
    with contextlib.suppress(OSError, AMQPError, AMQPConnectorException):
        socket.create_connection((parameters.host, parameters.port), timeout=5).close()
        pika.BlockingConnection(parameters).close()
        return True
    return False


def _with(settings: dict[str, str]) -> list[str]:
    """Return the start of a command that gets these variables and no others."""
    return ["env", "-i", *(f"{name}={value}" for name, value in settings.items())]


def _program(name: str) -> str | None:
    return shutil.which(name, path=os.pathsep.join((_PLACE, os.environ["PATH"])))


def _absent(name: str) -> str:
    missing("rabbitmq", f"{name} not found")
