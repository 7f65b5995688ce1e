"""Which cluster a verb is about: of this machine or on Nomad, and how a printed command says so."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from clipper_nomad.cli.app import app
from clipper_nomad.cli.command_line import command
from clipper_nomad.cli.finding import is_on_nomad
from clipper_nomad.cli.on_nomad.reaching import fabio_of
from clipper_nomad.cli.option_groups import expanded
from clipper_nomad.cli.options import Shape, Where, WrongUsage

ADDRESS = "http://10.0.0.9:4646"


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NOMAD_ADDR", "CLIPPER_FABIO", "CLIPPER_REGISTRY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CLIPPER_HOME", "/tmp/cn-no-cluster")  # noqa: S108  # never made: nothing starts here


def test_without_a_word_the_cluster_is_of_this_machine() -> None:
    assert not is_on_nomad(Where())


def test_a_nomad_that_is_named_or_in_the_environment_is_meant(monkeypatch: pytest.MonkeyPatch) -> None:
    assert is_on_nomad(Where(nomad="10.0.0.5"))

    monkeypatch.setenv("NOMAD_ADDR", ADDRESS)

    assert is_on_nomad(Where())


def test_local_goes_before_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOMAD_ADDR", ADDRESS)

    assert not is_on_nomad(Where(local=True))


@pytest.mark.parametrize("more", [{"nomad": "a"}, {"consul": "a"}, {"fabio": "a"}, {"namespace": "a"}])
def test_local_and_an_option_of_nomads_are_wrong_usage(more: dict[str, str]) -> None:
    with pytest.raises(WrongUsage, match="--local is a cluster of this machine"):
        is_on_nomad(Where(local=True, **more))


def test_a_printed_command_repeats_what_was_said() -> None:
    where = Where(cluster="b", nomad="10.0.0.5", fabio="lb:80", namespace="ml")

    assert command("status", where) == "clipper-nomad status --cluster b --nomad 10.0.0.5 --fabio lb:80 --namespace ml"
    assert command("status", Where()) == "clipper-nomad status"


def test_a_printed_command_says_local_only_where_it_would_be_misread(monkeypatch: pytest.MonkeyPatch) -> None:
    assert command("status", Where(local=True)) == "clipper-nomad status"

    monkeypatch.setenv("NOMAD_ADDR", ADDRESS)

    assert command("status", Where(local=True)) == "clipper-nomad status --local"
    assert command("up --local", Where(local=True)) == "clipper-nomad up --local"


@pytest.mark.parametrize(
    ("where", "shape", "http", "tcp"),
    [
        (Where(nomad="10.0.0.5"), Shape(), "10.0.0.5:9999", "10.0.0.5:7000"),
        (Where(nomad="https://nomad.example"), Shape(tcp_port=7001), "nomad.example:9999", "nomad.example:7001"),
        (Where(fabio="lb"), Shape(http_port=80), "lb:80", "lb:7000"),
        (Where(fabio="lb:8080"), Shape(), "lb:8080", "lb:7000"),
        (Where(fabio="[fd00::1]:80"), Shape(), "[fd00::1]:80", "[fd00::1]:7000"),
    ],
)
def test_fabio_is_where_it_was_said_or_beside_nomad(where: Where, shape: Shape, http: str, tcp: str) -> None:
    fabio = fabio_of(where, shape)

    assert (fabio.http(), fabio.tcp()) == (http, tcp)


def test_replicas_reach_fabio_where_it_was_said_for_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLIPPER_FABIO_TCP", "fabio.service.consul:7005")

    fabio = fabio_of(Where(fabio="lb.example:80"), Shape())

    assert (fabio.http(), fabio.tcp(), fabio.listener(7001)) == (
        "lb.example:80",
        "fabio.service.consul:7005",
        "fabio.service.consul:7001",
    )
    assert fabio.at("192.0.2.1").tcp() == "fabio.service.consul:7005"


@pytest.mark.parametrize(
    ("text", "said"),
    [("fabio:7001", "TCP port was given twice, as 7001 and 7005"), ("fabio:x", "Fabio's address is 'fabio:x'")],
)
def test_a_fabio_of_replicas_that_cannot_be_read_is_wrong_usage(
    text: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLIPPER_FABIO_TCP", text)

    with pytest.raises(WrongUsage, match=said):
        fabio_of(Where(fabio="lb.example"), Shape(tcp_port=7005))


@pytest.mark.parametrize(("text", "shape"), [("lb:x", Shape()), ("lb/path", Shape()), ("lb:80", Shape(http_port=81))])
def test_a_fabio_that_cannot_be_read_is_wrong_usage(text: str, shape: Shape) -> None:
    with pytest.raises(WrongUsage):
        fabio_of(Where(fabio=text), shape)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("up", "--local", "--registry", "r"), "--registry is of a cluster on Nomad."),
        (("up", "--local", "--datacenter", "x"), "--datacenter is of a cluster on Nomad."),
        (("up", "--local", "--plan"), "--plan is of a cluster on Nomad."),
        (("up", "--nomad", "10.0.0.5", "--port", "80"), "--port is of a cluster of this machine."),
        (("deploy", "m.py:f", "--name", "m", "--rpc-mode", "proxy"), "--rpc-mode is of a cluster on Nomad."),
        (("plan",), "it is not said which Nomad"),
        (("render", "--local"), "it is not said which Nomad"),
        (("render", "other", "--nomad", "10.0.0.5"), "There is no part 'other'."),
        (("doctor", "--local"), "doctor is about a cluster on Nomad."),
    ],
)
def test_an_option_of_the_other_place_is_wrong_usage(words: tuple[str, ...], said: str) -> None:
    done = CliRunner().invoke(app, list(words), prog_name="clipper-nomad")

    assert done.exit_code == 2
    assert said in done.stderr


@pytest.mark.parametrize(
    ("words", "expect"),
    [
        (("status",), 1),
        (("down", "--yes"), 1),
        (("logs",), 1),
        (("predict", "a", "[1]"), 1),
        (("scale", "a", "1"), 1),
        (("up",), 1),
        (("up", "--plan"), 255),
        (("plan",), 255),
    ],
)
def test_a_nomad_that_does_not_answer_is_named_with_its_fix(words: tuple[str, ...], expect: int) -> None:
    more = ("--registry", "") if words[0] in {"up", "plan"} else ()

    done = CliRunner().invoke(app, [*words, "--nomad", "127.0.0.1:9", "--fabio", "127.0.0.1:9", *more], prog_name="c")

    assert done.exit_code == expect
    assert done.stderr.startswith("✖ ") or "\n✖ " in done.stderr
    assert "  fix  " in done.stderr


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    width: Annotated[int, typer.Option("--width", help="In m.")] = 1
    height: Annotated[int, typer.Option("--height", help="In m.")]


def test_a_group_of_options_becomes_an_option_for_each_field_and_one_value() -> None:
    seen = []

    def build(*, size: Size, loud: bool = False) -> None:
        """Build."""
        seen.append((size, loud))

    verb = expanded(build)
    verb(width=2, height=3, loud=True)

    assert list(inspect.signature(verb).parameters) == ["width", "height", "loud"]
    assert inspect.signature(verb).parameters["height"].default is inspect.Parameter.empty
    assert seen == [(Size(width=2, height=3), True)]
