"""Keys and TLS: who a process is on the bus, and that it speaks to the right one."""

import asyncio
import json
import os
import signal
import stat
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from nats.aio.msg import Msg

from contracts import subjects
from contracts.channels import CLIENT
from contracts.permissions import MONITOR, PROVISIONER, ROLES
from contracts.subjects import GATEWAY
from services._runtime import credentials, service
from services._runtime.bus import Bus
from services._runtime.errors import BusUnavailable, Misconfigured
from services._runtime.health import trouble
from services._runtime.provision import provision, repair
from services._runtime.settings import Settings
from services.gateway import cli
from tests.certificates import Authority
from tests.conftest import fast_settings
from tests.following import eventually
from tests.server import NatsServer

SEED_LENGTH = 58


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    """A directory with a key for each role, and the server's part."""
    credentials.make_seeds(tmp_path / "keys")
    return tmp_path / "keys"


def config_of(keys: Path) -> str:
    """The permissions for the keys in a directory."""
    return credentials.authorization({role: seed[1] for role, seed in credentials.make_seeds(keys).items()})


@pytest.fixture
def guarded(tmp_path: Path, keys: Path) -> Iterator[NatsServer]:
    """A server that knows the keys, without streams."""
    server = NatsServer(tmp_path / "guarded", config=config_of(keys))
    server.start()
    yield server
    server.stop()


def settings_of(url: str, keys: Path, role: str, **given: object) -> Settings:
    """Settings of a process in a role."""
    return fast_settings(url, keys.parent, **{"nkey_file": keys / role / f"{role}.nk", **given})


@asynccontextmanager
async def connected(settings: Settings, name: str) -> AsyncGenerator[Bus]:
    """A bus for the block."""
    bus = await Bus.connect(settings, name)
    try:
        yield bus
    finally:
        await bus.close()


# Keys.


def test_keys_are_made_once_and_for_their_owner_alone(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Running it again keeps every key and changes nothing; no seed is ever shown."""
    words = ["provision", "--keys", str(tmp_path / "keys"), "--json"]

    codes = [cli.main(words), cli.main(words)]
    shown = capfd.readouterr()
    first, second = (json.loads(line) for line in shown.out.splitlines())

    files = {role: Path(first["roles"][role]["seed_file"]) for role in ROLES}
    seeds = [file.read_text() for file in files.values()]
    assert codes == [0, 0]
    assert {stat.S_IMODE(file.stat().st_mode) for file in files.values()} == {0o600}
    assert {stat.S_IMODE(file.parent.stat().st_mode) for file in files.values()} == {0o700}
    assert ([len(seed) for seed in seeds], len(set(seeds))) == ([SEED_LENGTH] * len(ROLES), len(ROLES))
    assert [seed for seed in seeds if seed in shown.out + shown.err + Path(first["nats_conf"]).read_text()] == []
    assert (first["changed"], second["changed"]) == (True, False)
    assert second["roles"] == {role: {**made, "made": False} for role, made in first["roles"].items()}


def test_a_key_that_is_removed_is_made_anew_and_the_others_are_kept(tmp_path: Path) -> None:
    """How a key is changed: remove its file, run it again, let the server read its configuration."""
    before = credentials.make_seeds(tmp_path)
    before[CLIENT][0].unlink()

    after = credentials.make_seeds(tmp_path)

    assert {role for role in ROLES if after[role][1] != before[role][1]} == {CLIENT}


def test_permissions_without_keys_are_a_wrong_command_line(capfd: pytest.CaptureFixture[str]) -> None:
    """Said before anything is made."""
    assert cli.main(["provision", "--nats-conf", "x"]) == 2
    assert "give --keys DIR too" in capfd.readouterr().err


def test_streams_without_a_bus_are_a_wrong_command_line(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """An embedded mesh makes its own."""
    monkeypatch.delenv("NATS_URL", raising=False)

    assert cli.main(["provision"]) == 2
    assert "set NATS_URL" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (None, "cannot be read"),
        ("hello", "holds no seed"),
        ("\u00e9", "holds no seed"),
        ("", "holds no seed"),
    ],
)
async def test_a_key_file_that_is_none_is_told_without_its_content(
    tmp_path: Path, content: str | None, why: str
) -> None:
    """The process ends at its start, and says what to do."""
    file = tmp_path / "gateway.nk"
    if content is not None:
        file.write_text(content)

    with pytest.raises(Misconfigured, match=why) as told:
        await Bus.connect(fast_settings("nats://127.0.0.1:1", tmp_path, nkey_file=file), GATEWAY)

    assert "mlmesh provision --keys" in str(told.value)
    assert not content or content not in str(told.value)


@pytest.mark.parametrize("known", [False, True])
async def test_who_has_no_key_or_another_one_is_refused_at_once(
    guarded: NatsServer, tmp_path: Path, known: bool
) -> None:
    """Not after the time that a missing server is waited for, and saying why."""
    stranger = credentials.make_seeds(tmp_path / "other", [CLIENT])[CLIENT][0] if known else None
    began = time.monotonic()

    with pytest.raises(Misconfigured, match="the bus refuses this process: set MLMESH_NKEY_FILE"):
        await Bus.connect(fast_settings(guarded.url, tmp_path, nkey_file=stranger, connect_timeout_s=20.0), CLIENT)

    assert time.monotonic() - began < 30


async def test_a_key_is_changed_without_a_restart(tmp_path: Path, keys: Path) -> None:
    """The server reads its configuration, drops whoever signed in with the old one, and knows the new one."""
    permissions = tmp_path / "nats" / "authorization.conf"
    credentials.write_whole(permissions, config_of(keys))
    server = NatsServer(tmp_path / "nats", config='include "authorization.conf"\n')
    server.start()
    settings = settings_of(server.url, keys, MONITOR)
    async with connected(settings, MONITOR) as bus:
        (keys / MONITOR / f"{MONITOR}.nk").unlink()
        credentials.write_whole(permissions, config_of(keys))
        os.kill(server.pid, signal.SIGHUP)

        async def again() -> bool:
            return bus.connections > 0 and bus.client.is_connected

        await eventually(again)
        assert (await bus.api("INFO", {}))["streams"] == 0
    server.stop()


async def test_a_key_file_names_the_inbox_whoever_connects(guarded: NatsServer, keys: Path) -> None:
    """The probe of a container has its service's key, and a person who acts as operator has that one."""
    async with connected(settings_of(guarded.url, keys, PROVISIONER), "any-name") as bus:
        made = await provision(bus)

    assert set(made.values()) == {"made"}


# Who makes what the services work on.


async def test_a_service_with_a_key_waits_for_the_provisioner_and_says_so(guarded: NatsServer, keys: Path) -> None:
    """It has no right to make anything: its probe tells what is missing and who makes it."""
    stop = asyncio.Event()
    started = service.load(GATEWAY)
    running = asyncio.create_task(service.serve(GATEWAY, started, settings_of(guarded.url, keys, GATEWAY), stop))

    async with connected(settings_of(guarded.url, keys, MONITOR), "health") as monitor:

        async def waiting() -> str:
            try:
                why = await trouble(monitor, GATEWAY)
            except BusUnavailable:
                return ""
            return why if why != "starting" else ""

        why = await eventually(waiting)
        async with connected(settings_of(guarded.url, keys, PROVISIONER), PROVISIONER) as provisioner:
            await provision(provisioner)

        async def ready() -> bool:
            return not await trouble(monitor, GATEWAY)

        await eventually(ready)
    stop.set()
    await running

    assert why.startswith("the bus lacks TASKS, ")
    assert why.endswith("run `mlmesh provision` in the provisioner's role")


async def test_a_lost_stream_is_not_made_anew_by_who_may_not(
    guarded: NatsServer, keys: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The supervisor's repair says who has to, and goes on."""
    async with connected(settings_of(guarded.url, keys, GATEWAY), GATEWAY) as bus:
        await repair(bus)

    told = capfd.readouterr().out
    assert "provision.needed" in told
    assert "run `mlmesh provision`" in told


def test_streams_are_made_kept_and_changed_by_the_command(
    guarded: NatsServer, keys: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """`mlmesh provision` may run at any time; a stream of another shape gets the mesh's."""
    monkeypatch.setenv("NATS_URL", guarded.url)
    monkeypatch.setenv("MLMESH_NKEY_FILE", str(keys / PROVISIONER / f"{PROVISIONER}.nk"))

    async def other_shape() -> None:
        async with connected(settings_of(guarded.url, keys, PROVISIONER), PROVISIONER) as bus:
            config = (await bus.api(f"STREAM.INFO.{subjects.SYSTEMS}", {}))["config"]
            await bus.api(f"STREAM.UPDATE.{subjects.SYSTEMS}", {**config, "subjects": ["mesh.system.old"]})

    codes = [cli.main(["provision", "--json"]), cli.main(["provision", "--json"])]
    asyncio.run(other_shape())
    codes.append(cli.main(["provision", "--json"]))
    made, kept, changed = (json.loads(line)["streams"] for line in capfd.readouterr().out.splitlines())

    assert codes == [0, 0, 0]
    assert (set(made.values()), set(kept.values())) == ({"made"}, {"kept"})
    assert {name for name, change in changed.items() if change != "kept"} == {subjects.SYSTEMS}


def test_another_role_makes_no_streams(
    guarded: NatsServer, keys: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The command says which subject its role lacks."""
    monkeypatch.setenv("NATS_URL", guarded.url)
    monkeypatch.setenv("MLMESH_NKEY_FILE", str(keys / CLIENT / f"{CLIENT}.nk"))

    code = cli.main(["provision", "--json"])

    assert (code, json.loads(capfd.readouterr().out)["exit"]) == (1, 1)


# TLS.


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Signs for the server and its clients."""
    return Authority(tmp_path_factory.mktemp("ours"))


@pytest.fixture
def over_tls(tmp_path: Path, authority: Authority, request: pytest.FixtureRequest) -> Iterator[NatsServer]:
    """A server that speaks TLS; with the parameter `mutual`, to those alone whom our authority knows."""
    certificate, key = authority.sign("server")
    asks = "true" if getattr(request, "param", "") == "mutual" else "false"
    config = (
        f'tls {{ cert_file: "{certificate}", key_file: "{key}", ca_file: "{authority.ca}", verify: {asks},'
        f" timeout: 5 }}\n"
    )
    server = NatsServer(tmp_path / "tls", config=config)
    server.start()
    yield server
    server.stop()


async def echoed(bus: Bus) -> bool:
    """Whether a message goes there and back."""
    heard: asyncio.Queue[Msg] = asyncio.Queue()
    await bus.subscribe("echo", heard.put)
    await bus.send("echo", b"1")
    return (await asyncio.wait_for(heard.get(), 30)).data == b"1"


async def test_the_bus_is_spoken_to_over_tls(over_tls: NatsServer, authority: Authority, tmp_path: Path) -> None:
    """With the authority that signed the server's certificate."""
    async with connected(fast_settings(over_tls.url, tmp_path, tls_ca=authority.ca), CLIENT) as bus:
        assert await echoed(bus)


async def test_a_server_that_somebody_else_signed_for_is_not_spoken_to(over_tls: NatsServer, tmp_path: Path) -> None:
    """At once, and saying what to set."""
    other = Authority(tmp_path / "other")

    with pytest.raises(Misconfigured, match="the bus's certificate is not trusted"):
        await Bus.connect(fast_settings(over_tls.url, tmp_path, tls_ca=other.ca, connect_timeout_s=20.0), CLIENT)


async def test_tls_that_is_wanted_is_not_left_out(server: NatsServer, authority: Authority, tmp_path: Path) -> None:
    """A server without it, or somebody between who says so, gets nothing in the clear."""
    with pytest.raises(Misconfigured, match="offers no TLS"):
        await Bus.connect(fast_settings(server.url, tmp_path, tls_ca=authority.ca, connect_timeout_s=20.0), CLIENT)


@pytest.mark.parametrize("over_tls", ["mutual"], indirect=True)
async def test_a_server_may_ask_for_a_certificate(over_tls: NatsServer, authority: Authority, tmp_path: Path) -> None:
    """Who has one is let in, who has none is told what to set."""
    certificate, key = authority.sign("client")
    known = fast_settings(over_tls.url, tmp_path, tls_ca=authority.ca, tls_cert=certificate, tls_key=key)

    async with connected(known, CLIENT) as bus:
        assert await echoed(bus)
    with pytest.raises(Misconfigured, match="set MLMESH_TLS_CERT and MLMESH_TLS_KEY"):
        await Bus.connect(fast_settings(over_tls.url, tmp_path, tls_ca=authority.ca, connect_timeout_s=5.0), CLIENT)


async def test_a_certificate_file_that_is_none_is_told(tmp_path: Path) -> None:
    """Before anything is connected to."""
    (tmp_path / "ca.pem").write_text("no certificate")

    with pytest.raises(Misconfigured, match="name PEM files that this process may read"):
        await Bus.connect(fast_settings("nats://127.0.0.1:1", tmp_path, tls_ca=tmp_path / "ca.pem"), CLIENT)
