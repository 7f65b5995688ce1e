"""The development cluster's ports, state, places, configuration and programs, without any agent."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from clipper_nomad.cli.app import app
from clipper_nomad.cli.finding import is_on_nomad
from clipper_nomad.cli.on_nomad.reaching import dev_ports, fabio_of, with_dev_volumes
from clipper_nomad.cli.options import Shape, Where
from clipper_nomad.dev_cluster.agents import AGENTS, part_of, write_configuration
from clipper_nomad.dev_cluster.place import VOLUMES, DevPlace, find_dev_place, make_dev_place
from clipper_nomad.dev_cluster.ports import STANDARD, Moved, Ports, choose, last_task_port, ports_from
from clipper_nomad.dev_cluster.programs import find_programs, version_in
from clipper_nomad.dev_cluster.releases import PRODUCTS
from clipper_nomad.dev_cluster.running import environment_of, is_at, running_at
from clipper_nomad.dev_cluster.state import AgentState, Program, Settings, State, read_state, write_state
from clipper_nomad.errors import DevClusterError
from clipper_nomad.local_stack.exits import started_at

PROGRAMS = tuple(Program(name=name, path=f"/usr/bin/{name}", version="1.20.1") for name in PRODUCTS)


@pytest.fixture
def place(tmp_path: Path) -> DevPlace:
    found = find_dev_place({"CLIPPER_HOME": str(tmp_path)})
    make_dev_place(found)
    return found


def settings_of(place: DevPlace, ports: Ports = STANDARD) -> Settings:
    return Settings(data=str(place.data), programs=PROGRAMS, ports=ports)


def state_of(place: DevPlace, *, pid: int, pid_started: int, ports: Ports = STANDARD) -> State:
    agents = tuple(
        AgentState(name=name, state="running", pid=1, since=1.0, restarts=2, last_error="it said so") for name in AGENTS
    )
    return State(pid=pid, pid_started=pid_started, since=5.0, settings=settings_of(place, ports), agents=agents)


def test_all_lies_below_clipper_home() -> None:
    found = find_dev_place({"CLIPPER_HOME": "/srv/clipper"})

    assert (found.data, found.cache) == (Path("/srv/clipper/dev"), Path("/srv/clipper/cache"))


def test_without_it_in_the_places_of_the_xdg_rules(tmp_path: Path) -> None:
    found = find_dev_place({"XDG_STATE_HOME": str(tmp_path / "state"), "XDG_CACHE_HOME": str(tmp_path / "cache")})

    assert found.data == tmp_path / "state/clipper-nomad-dev"
    assert found.cache == tmp_path / "cache/clipper-nomad"
    assert find_dev_place({"HOME": str(tmp_path)}).cache == tmp_path / ".cache/clipper-nomad"


def test_the_folder_is_closed_to_others_and_volumes_are_open_to_tasks(place: DevPlace) -> None:
    assert place.data.stat().st_mode & 0o777 == 0o700
    assert all(place.volume(name).stat().st_mode & 0o777 == 0o777 for name in VOLUMES)


def test_a_folder_that_is_open_to_others_is_refused(tmp_path: Path) -> None:
    found = find_dev_place({"CLIPPER_HOME": str(tmp_path)})
    found.data.mkdir()
    found.data.chmod(0o755)

    with pytest.raises(DevClusterError, match="is open to other users"):
        make_dev_place(found)


def test_free_standard_ports_are_taken() -> None:
    assert choose(lambda _: True) == (STANDARD, ())
    assert last_task_port(STANDARD) == 31_999


def test_beside_another_nomad_only_what_is_taken_moves() -> None:
    taken = {4646, 4647, 14_647}

    ports, moved = choose(lambda port: port not in taken)

    assert (ports.nomad_http, ports.nomad_rpc, ports.nomad_serf) == (14_646, 14_648, 4648)
    assert ports.consul_http == 8500
    assert moved == (
        Moved(purpose="Nomad's http", standard=4646, instead=14_646),
        Moved(purpose="Nomad's rpc", standard=4647, instead=14_648),
    )
    assert (ports.tasks, last_task_port(ports)) == (32_000, 32_699)  # neither that Nomad's nor Linux's own


def test_no_port_is_chosen_twice() -> None:
    ports, _ = choose(lambda port: port >= 14_000)

    assert len(set(ports.of_agents.values())) == len(ports.of_agents)


def test_without_any_free_port_it_says_which_were_tried() -> None:
    with pytest.raises(DevClusterError, match="Port 8500 and the ports 18500 to 19499 are all taken"):
        choose(lambda _: False)


def test_ports_are_kept_as_they_were() -> None:
    ports = Ports(nomad_http=14_646, tasks=32_000)

    assert ports_from(ports.to_json()) == ports


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"nomad_http": 4646}', STANDARD.to_json().replace("4646", '"4646"')])
def test_what_are_no_ports_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"ports|Expecting"):
        ports_from(text)


def test_a_state_is_read_as_it_was_told(place: DevPlace) -> None:
    told = state_of(place, pid=os.getpid(), pid_started=started_at(os.getpid()))

    write_state(place.state, told)

    assert read_state(place.state) == told
    assert running_at(place) == told


@pytest.mark.parametrize("damage", ["", "{}", '{"pid": 1}', "[1]"])
def test_a_state_that_cannot_be_read_is_none(place: DevPlace, damage: str) -> None:
    place.state.write_text(damage)

    assert read_state(place.state) is None


def test_a_state_of_a_process_that_ended_or_of_another_one_is_no_cluster(place: DevPlace) -> None:
    write_state(place.state, state_of(place, pid=os.getpid(), pid_started=started_at(os.getpid()) + 1))

    assert running_at(place) is None


def test_the_environment_leads_to_the_ports(place: DevPlace) -> None:
    state = state_of(place, pid=1, pid_started=1, ports=Ports(nomad_http=14_646, fabio_http=19_999))

    assert environment_of(state) == {
        "NOMAD_ADDR": "http://127.0.0.1:14646",
        "CONSUL_HTTP_ADDR": "127.0.0.1:8500",
        "CLIPPER_FABIO": "127.0.0.1:19999",
    }
    assert is_at(state, "http://127.0.0.1:14646")
    assert not is_at(state, "http://127.0.0.1:4646")


def test_configuration_comes_from_the_fragments_of_terraform(place: DevPlace) -> None:
    write_configuration(place, settings_of(place, Ports(nomad_http=14_646, tasks=32_000)))

    nomad = {each.name: each.read_text() for each in (place.config / "nomad-client").iterdir()}
    assert "http = 14646" in (place.config / "nomad/agent.hcl").read_text()
    assert "http = 4649" in nomad["agent.hcl"]
    assert "max_dynamic_port = 32699" in nomad["dynamic-ports.hcl"]
    assert str(place.volume("redis")) in nomad["host-volume-redis.hcl"]
    assert nomad["docker.hcl"].count("\nplugin ") == 1
    assert "image = false" in nomad["docker.hcl"]
    assert "no-grpc.hcl" in {each.name for each in (place.config / "consul").iterdir()}
    fabio = (place.config / "fabio.properties").read_text()
    assert "127.0.0.1:9999;rt=30s;it=75s,127.0.0.1:7000;proto=tcp,127.0.0.1:7001;proto=tcp" in fabio


def test_an_older_consul_gets_no_setting_that_it_does_not_know(place: DevPlace) -> None:
    write_configuration(place, settings_of(place))
    old = tuple(Program(name=name, path="/x", version="1.8.7") for name in PRODUCTS)

    write_configuration(place, Settings(data=str(place.data), programs=old, ports=STANDARD))

    assert "no-grpc.hcl" not in {each.name for each in (place.config / "consul").iterdir()}


def test_agents_get_none_of_the_variables_of_clients(place: DevPlace) -> None:
    environ = {"PATH": "/bin", "CONSUL_HTTP_TOKEN": "x", "NOMAD_ADDR": "x", "CLIPPER_HOME": "x", "FABIO_UI_ADDR": "x"}

    part = part_of("nomad", place, settings_of(place), environ)

    assert part.env == {"PATH": "/bin"}
    assert part.cwd == place.data
    assert part.argv == ("/usr/bin/nomad", "agent", f"-config={place.config / 'nomad'}")


def program(folder: Path, name: str, said: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\necho '{said}'\n")
    (folder / name).chmod(0o755)


def test_programs_on_path_are_taken_with_their_versions(tmp_path: Path) -> None:
    path = tmp_path / "bin"
    program(path, "consul", "Consul v1.8.7")
    program(path, "nomad", "Nomad v1.11.3")

    found = find_programs({"PATH": f"{path}:/bin"}, tmp_path / "cache", download=False)

    assert [(each.name, each.version) for each in found.programs] == [("consul", "1.8.7"), ("nomad", "1.11.3")]
    assert [str(each) for each in found.missing] == [f"Fabio {PRODUCTS['fabio'].pinned}"]


def test_download_passes_over_what_is_on_path_and_takes_what_was_downloaded(tmp_path: Path) -> None:
    path, cache = tmp_path / "bin", tmp_path / "cache"
    program(path, "nomad", "Nomad v1.11.3")
    version = PRODUCTS["nomad"].pinned
    here = cache / "releases/nomad" / version
    here.parent.mkdir(parents=True)
    program(here, "nomad", "")

    found = find_programs({"PATH": str(path)}, cache, download=True)

    assert found.programs == (Program(name="nomad", path=str(here / "nomad"), version=version, downloaded=True),)
    assert [each.product for each in found.missing] == ["consul", "fabio"]


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ("Nomad v1.7.7", r"is Nomad 1\.7\.7; 1\.8 or newer is needed"),
        ("hello", "does not say its version as Nomad does"),
    ],
)
def test_a_program_that_is_too_old_or_another_is_refused(tmp_path: Path, said: str, message: str) -> None:
    program(tmp_path / "bin", "consul", "Consul v1.20.0")
    program(tmp_path / "bin", "nomad", said)

    with pytest.raises(DevClusterError, match=message) as caught:
        find_programs({"PATH": f"{tmp_path / 'bin'}:/bin"}, tmp_path, download=False)

    assert "--download" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("said", "version"),
    [("Consul v1.22.7\nRevision x", "1.22.7"), ("1.7.3 go1.26.8", "1.7.3"), ("Nomad v1.12.0-beta.1", "1.12.0"), ("", None)],
)
def test_versions_are_read_from_what_programs_say(said: str, version: str | None) -> None:
    assert version_in(said) == version


@pytest.fixture
def running_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> State:
    """A development cluster that this process says it is the supervisor of, and an environment that names no cluster."""
    monkeypatch.setenv("CLIPPER_HOME", str(tmp_path))
    for name in ("NOMAD_ADDR", "CONSUL_HTTP_ADDR", "CLIPPER_FABIO"):
        monkeypatch.setenv(name, "")  # so that it is put back
        monkeypatch.delenv(name)
    place = find_dev_place({"CLIPPER_HOME": str(tmp_path)})
    make_dev_place(place)
    ports = Ports(nomad_http=14_646, fabio_http=19_999, fabio_tcp=17_000, fabio_admin=19_998)
    state = state_of(place, pid=os.getpid(), pid_started=started_at(os.getpid()), ports=ports)
    write_state(place.state, state)
    return state


def test_verbs_find_it_where_nothing_else_is_named(running_here: State, capsys: pytest.CaptureFixture[str]) -> None:
    assert is_on_nomad(Where())

    assert os.environ["NOMAD_ADDR"] == "http://127.0.0.1:14646"
    assert os.environ["CONSUL_HTTP_ADDR"] == "127.0.0.1:8500"
    assert capsys.readouterr().err == "on the development cluster of this machine, Nomad at http://127.0.0.1:14646\n"
    fabio = fabio_of(Where())
    assert (fabio.http_proxy_port, fabio.tcp_proxy_port, fabio.admin_port) == (19_999, 17_000, 19_998)


def test_a_new_cluster_on_it_keeps_its_data_in_its_volumes(running_here: State) -> None:
    is_on_nomad(Where())

    kept = with_dev_volumes(Where(), Shape(bundle_cache="mine"))

    assert (kept.redis_volume, kept.bundle_volume, kept.bundle_cache) == ("redis", "bundles", "mine")
    assert with_dev_volumes(Where(nomad="10.0.0.5"), Shape()) == Shape()
    assert with_dev_volumes(Where(), Shape(redis_host="10.0.0.9")).redis_volume is None


def test_local_and_another_nomad_go_before_it(running_here: State, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not is_on_nomad(Where(local=True))
    assert "NOMAD_ADDR" not in os.environ
    assert is_on_nomad(Where(nomad="10.0.0.5"))
    assert "NOMAD_ADDR" not in os.environ
    monkeypatch.setenv("NOMAD_ADDR", "http://10.0.0.6:4646")
    assert is_on_nomad(Where())
    assert dev_ports(Where()) is None


def test_what_does_not_run_is_not_found(running_here: State) -> None:
    find_dev_place(os.environ).state.unlink()

    assert not is_on_nomad(Where())


@pytest.fixture
def nothing_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CLIPPER_HOME", str(tmp_path))
    return tmp_path


def typed(*words: str) -> Result:
    return CliRunner().invoke(app, ["dev", *words], prog_name="clipper-nomad")


def test_status_of_what_does_not_run_ends_with_1(nothing_runs: Path) -> None:
    said, document = typed("status"), typed("status", "--json")

    assert (said.exit_code, document.exit_code) == (1, 1)
    assert said.stdout.splitlines() == ["the development cluster does not run", "  next      clipper-nomad dev up"]
    assert json.loads(document.stdout) == {"state": "stopped", "data": str(nothing_runs / "dev"), "agents": []}


def test_there_is_no_environment_of_what_does_not_run(nothing_runs: Path) -> None:
    said = typed("env")

    assert said.exit_code == 1
    assert said.stderr.startswith("✖ The development cluster does not run.")


def test_to_end_what_does_not_run_is_no_error(nothing_runs: Path) -> None:
    said = typed("down")

    assert said.exit_code == 0
    assert said.stdout.startswith("✔ the development cluster does not run: nothing to stop")


@pytest.mark.parametrize("words", [("up", "--volumes"), ("down", "--download"), ("restart",)])
def test_an_option_of_another_act_and_an_unknown_act_are_wrong_usage(nothing_runs: Path, words: tuple[str, ...]) -> None:
    assert typed(*words).exit_code == 2
