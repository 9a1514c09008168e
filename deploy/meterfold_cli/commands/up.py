"""`meterfold up`: the local stack, its tables and topics, and one worker of each kind, until Ctrl-C."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from meterfold_cli import console, exits
from meterfold_cli.installation import JsonOption

if TYPE_CHECKING:
    from meterfold_cli.local_run import LocalRun
    from meterfold_local.stack import LocalStack


def up(
    data: Annotated[Path, typer.Option("--data", metavar="DIR", help="Folder of the stack.")] = Path(".meterfold"),
    brokers: Annotated[
        int | None,
        typer.Option(min=1, max=3, help="Number of brokers, 1 or 3. [default: as the folder was created, or 1]"),
    ] = None,
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Kafka port. If it is in use, the next free one; 0: a random one.")
    ] = 9092,
    clickhouse_port: Annotated[
        int,
        typer.Option(min=0, max=65535, help="ClickHouse port. If it is in use, the next free one; 0: a random one."),
    ] = 8123,
    http_port: Annotated[
        int,
        typer.Option(min=0, max=65535, help="Port of the console and the HTTP API; otherwise as the others."),
    ] = 8888,
    no_migrate: Annotated[bool, typer.Option("--no-migrate", help="Do not create tables and topics.")] = False,
    no_workers: Annotated[bool, typer.Option("--no-workers", help="Start Kafka and ClickHouse only.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Run the local stack on this machine: Apache Kafka, ClickHouse's engine, a fold worker, a checker and the console.

    DIR keeps the data. Ctrl-C stops all processes in order (exit code 0), a second Ctrl-C kills them. The first start
    on a machine downloads Kafka (43 MB).

    Example: meterfold up --data /srv/meterfold --brokers 3
    """
    from meterfold_cli.local_run import CURL_SETTINGS, LocalRun, kill_all
    from meterfold_cli.logs import configure
    from meterfold_cli.signals import ShutdownSignals
    from meterfold_local.stack import LocalStack

    configure(as_json=as_json)
    _refuse_foreign(data)
    _refuse_running(data, as_json)
    with ShutdownSignals(starting=True, kill=lambda: kill_all(data)) as ending:
        with console.progress("starting Kafka and ClickHouse") as tell:
            stack = LocalStack(
                data,
                brokers=brokers,
                kafka_port=port,
                clickhouse_port=clickhouse_port,
                http_port=http_port,
                progress=lambda done, total: tell(done, total, "downloading Kafka, once per machine"),
            )
            stack.start()
        try:
            run = LocalRun(stack, migrate=not no_migrate, workers=not no_workers)
            run.start()
            _tell(stack, run, as_json)
            ending.starting = False
            run.hold(ending.event)
            if not as_json:
                console.note("stopping; press Ctrl-C again to kill all processes")
        finally:
            ending.starting = False
            stack.stop()
            (stack.data_dir / CURL_SETTINGS).unlink(missing_ok=True)
    if not as_json:
        console.note(f"stopped; the data is in {data}")


def _refuse_foreign(data: Path) -> None:
    """Raises WrongInput unless the folder is missing, empty, or was created by `up`."""
    from meterfold_local.stack_state import LOCK_FILE

    try:
        if not data.exists() or (data / LOCK_FILE).is_file() or not any(data.iterdir()):
            return
    except NotADirectoryError:
        raise exits.WrongInput(f"--data {data} is a file; give a folder") from None
    except OSError as error:
        raise exits.WrongInput(f"--data {data} cannot be used: {error.strerror}; give another folder") from None
    raise exits.WrongInput(
        f"--data {data} contains other files and was not created by `meterfold up`; give a new folder, such as "
        f"{data / '.meterfold'}"
    )


def _refuse_running(data: Path, as_json: bool) -> None:
    from meterfold_local.stack_state import running_stack

    state = running_stack(data.absolute())
    if state is None:
        return
    if as_json:
        console.emit(
            {"event": "already_running", "pid": state.supervisor.pid, **_places(data, state.bootstrap_servers)}
        )
    else:
        console.fail(
            f"a local stack is already running in {data} (pid {state.supervisor.pid}); use it, or stop it with Ctrl-C"
        )
        _say_places(data, state.bootstrap_servers, state.clickhouse_url, ())
    raise typer.Exit(exits.FAILED)


def _tell(stack: LocalStack, run: LocalRun, as_json: bool) -> None:
    settings, workers, link = stack.clickhouse_settings(), run.workers, run.sign_in_link()
    if as_json:
        places = _places(stack.data_dir, stack.kafka.bootstrap_servers)
        console_places = {"console_url": stack.http_url if workers else None, "sign_in_link": link}
        console.emit({"event": "ready", **places, "clickhouse_url": settings.url, **console_places, "workers": workers})
        return
    _say_places(stack.data_dir, stack.kafka.bootstrap_servers, settings.url, workers)
    if workers:
        console.say(f"console     {stack.http_url}")
    if link is not None:
        console.say(f"            {link}  (signs in once, within 15 minutes; `meterfold token link` makes another)")
    console.say("ready; Ctrl-C stops it", "green")


def _places(data: Path, bootstrap_servers: str) -> dict[str, object]:
    return {"data": data, "bootstrap_servers": bootstrap_servers, "settings": data / "meterfold.toml"}


def _say_places(data: Path, bootstrap_servers: str, clickhouse_url: str, workers: tuple[str, ...]) -> None:
    shown = _short(data)
    console.say(f"Kafka       {bootstrap_servers}  (SASL/PLAIN, as in the settings file)")
    console.say(f"ClickHouse  {clickhouse_url}  (database meterfold, user default)")
    console.say(f"settings    {shown / 'meterfold.toml'}  (with the passwords; commands in this folder find it)")
    console.say(f"curl        curl -sK {shown / 'curl.conf'} --data-binary @query.sql")
    console.say(f"logs        {shown / 'logs'}")
    console.say("Set this variable for applications:")
    console.say(f"export METERFOLD_CONFIG={shlex.quote(str(data.absolute() / 'meterfold.toml'))}")
    if workers:
        console.say(f"workers     {', '.join(workers)}")


def _short(path: Path) -> Path:
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path
