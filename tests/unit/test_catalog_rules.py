"""What requests change in the catalog. Clipper's words are checked in tests/process/test_admin_calls.py."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from clipper_nomad.admin import catalog_rules, version_rules
from clipper_nomad.admin.catalog_rules import AddApp, Link, Refused
from clipper_nomad.admin.version_rules import AddVersion, WhichVersion
from clipper_nomad.state.commit import Commit
from clipper_nomad.state.records import Model, Snapshot, field_of, snapshot, to_json

EMPTY = Snapshot(store_id="s", revision=0)
DIGITS = AddApp(name="digits", input_type="doubles", default_output="-1.0", slo_micros=100_000)
V1 = AddVersion(name="m", version="1", uid="u1", input_type="doubles")
V2 = replace(V1, version="2", uid="u2")
STAGED = replace(V2, staged=True)


def apply(catalog: Snapshot, commit: Commit) -> Snapshot:
    """What store.py does with a commit."""
    hash_ = {field_of(record): to_json(record) for record in catalog.records}
    hash_ |= {field_of(record): to_json(record) for record in commit.put}
    for field in commit.delete:
        del hash_[field]
    return snapshot(catalog.store_id, catalog.revision + 1, hash_)


def catalog_of(*requests: AddApp | AddVersion | Link) -> Snapshot:
    catalog = EMPTY
    for request in requests:
        catalog = apply(catalog, commit_of(catalog, request))
    return catalog


def commit_of(catalog: Snapshot, request: AddApp | AddVersion | Link) -> Commit:
    match request:
        case AddApp():
            return catalog_rules.add_app(catalog, request)
        case AddVersion():
            return version_rules.add_version(catalog, request)
        case Link():
            return catalog_rules.add_model_links(catalog, request)


def which(request: AddVersion, *, uid: str | None = None) -> WhichVersion:
    return WhichVersion(name=request.name, version=request.version, uid=uid)


LINK = Link(app_name="digits", model_names=("m",))


def test_a_registered_version_is_current() -> None:
    catalog = catalog_of(V1, V2)

    assert catalog.models == {"m": Model(name="m", current_version="2")}


def test_a_staged_version_leaves_the_current_one_current() -> None:
    catalog = catalog_of(V1, STAGED)

    assert catalog.models == {"m": Model(name="m", current_version="1")}
    assert catalog.versions["m:2"].staged


def test_activating_makes_current_and_unstages_in_one_commit() -> None:
    catalog = apply(catalog_of(V1, STAGED), version_rules.activate(catalog_of(V1, STAGED), which(STAGED, uid="u2")))

    current = catalog.current_version("m")
    assert current is not None
    assert (current.version, current.staged, current.uid) == ("2", False, "u2")


def test_activating_what_is_current_changes_nothing() -> None:
    assert version_rules.activate(catalog_of(V1), which(V1)).put == ()


def test_a_staged_version_left_over_is_replaced_and_its_deploy_cannot_activate_it() -> None:
    catalog = catalog_of(STAGED, replace(STAGED, uid="later"))

    assert catalog.versions["m:2"].uid == "later"
    with pytest.raises(Refused, match="registered anew meanwhile") as caught:
        version_rules.activate(catalog, which(STAGED, uid="u2"))
    assert caught.value.status == 409
    with pytest.raises(Refused, match="registered anew meanwhile"):
        version_rules.delete_version(catalog, which(STAGED, uid="u2"), only_staged=True)


def test_discarding_a_version_that_was_activated_is_refused() -> None:
    with pytest.raises(Refused, match="not staged any more") as caught:
        version_rules.delete_version(catalog_of(V1), which(V1), only_staged=True)

    assert caught.value.status == 409


def test_clipper_s_calls_do_not_see_a_staged_version() -> None:
    catalog = catalog_of(DIGITS, STAGED)

    with pytest.raises(Refused, match="does not exist"):
        version_rules.delete_versioned_model(catalog, which(STAGED))
    with pytest.raises(Refused, match="nonexistent model 'm'"):
        version_rules.set_model_version(catalog, which(STAGED))
    with pytest.raises(Refused, match="No model with name 'm' exists"):
        catalog_rules.add_model_links(catalog, LINK)


def test_deleting_the_current_version_leaves_none_current() -> None:
    catalog = catalog_of(V1, V2)

    catalog = apply(catalog, version_rules.delete_version(catalog, which(V2)))

    assert catalog.models == {"m": Model(name="m", current_version=None)}
    assert set(catalog.versions) == {"m:1"}


def test_deleting_another_version_leaves_the_current_one() -> None:
    catalog = catalog_of(V1, V2)

    assert version_rules.delete_version(catalog, which(V1)).put == ()


def test_deleting_the_last_version_deletes_the_model_and_keeps_its_links() -> None:
    catalog = catalog_of(DIGITS, V1, LINK)

    catalog = apply(catalog, version_rules.delete_version(catalog, which(V1)))

    assert (dict(catalog.models), dict(catalog.versions)) == ({}, {})
    assert catalog.apps["digits"].linked_models == ("m",)


@pytest.mark.parametrize("staged", [False, True])
def test_a_new_version_must_have_the_type_of_the_apps_it_is_linked_to(*, staged: bool) -> None:
    catalog = catalog_of(DIGITS, V1, LINK)

    with pytest.raises(Refused, match="already linked to app 'digits' using input type 'doubles'"):
        version_rules.add_version(catalog, replace(V2, input_type="strings", staged=staged))


def test_a_version_of_another_type_cannot_be_set_under_a_linked_app() -> None:
    strings = replace(V1, input_type="strings")
    catalog = catalog_of(DIGITS, strings, V2, LINK)

    with pytest.raises(Refused, match="'strings', is not compatible"):
        version_rules.set_model_version(catalog, which(strings))


def test_a_version_that_is_not_there_cannot_be_set() -> None:
    with pytest.raises(Refused, match="Cannot set non-existent version '2' for model with name 'm'"):
        version_rules.set_model_version(catalog_of(V1), which(V2))


# Clipper's order of checks: the first that fails speaks
@pytest.mark.parametrize(
    ("models", "cause"),
    [
        (("m", "nobody"), "No model with name 'nobody' exists."),
        (("m", "texts"), "Model with name 'texts' has incompatible input_type 'strings'. Requested app to link to has"),
        (("m", "other"), "Applications must be linked with at most one model. Attempted to add links to 2 models."),
        ((), "Please provide the name of the model"),
        (("m",), "The model with name 'm' is already linked to 'digits'"),
        (("other",), "A model with name m is already linked to 'digits'."),
    ],
)
def test_links_are_checked_in_clipper_s_order(models: tuple[str, ...], cause: str) -> None:
    texts = replace(V1, name="texts", input_type="strings")
    catalog = catalog_of(DIGITS, V1, texts, replace(V1, name="other"), LINK)

    with pytest.raises(Refused, match=cause):
        catalog_rules.add_model_links(catalog, Link(app_name="digits", model_names=models))


def test_ending_no_link_is_a_success_that_writes_nothing() -> None:
    commit = catalog_rules.delete_model_links(catalog_of(DIGITS), Link(app_name="digits", model_names=()))

    assert (commit.put, commit.reply) == ((), "Success!")


class Catalog(RuleBasedStateMachine):
    """Any order of requests leaves a catalog that makes sense."""

    apps: Bundle[str] = Bundle("apps")
    versions: Bundle[tuple[str, str]] = Bundle("versions")

    def __init__(self) -> None:
        super().__init__()
        self.catalog = EMPTY
        self.count = 0

    def attempt(self, decide: Callable[[], Commit]) -> None:
        with contextlib.suppress(Refused):
            self.catalog = apply(self.catalog, decide())

    @rule(target=apps, name=st.sampled_from("ab"), kind=st.sampled_from(["doubles", "strings"]))
    def add_app(self, name: str, kind: str) -> str:
        request = AddApp(name=name, input_type=kind, default_output="", slo_micros=1)
        self.attempt(lambda: catalog_rules.add_app(self.catalog, request))
        return name

    @rule(name=apps)
    def delete_app(self, name: str) -> None:
        self.attempt(lambda: catalog_rules.delete_app(self.catalog, name))

    @rule(
        target=versions,
        name=st.sampled_from("mn"),
        version=st.sampled_from("123"),
        kind=st.sampled_from(["doubles", "strings"]),
        staged=st.booleans(),
    )
    def add_version(self, *, name: str, version: str, kind: str, staged: bool) -> tuple[str, str]:
        self.count += 1
        request = AddVersion(name=name, version=version, uid=f"u{self.count}", input_type=kind, staged=staged)
        self.attempt(lambda: version_rules.add_version(self.catalog, request))
        return name, version

    @rule(key=versions)
    def activate(self, key: tuple[str, str]) -> None:
        self.attempt(lambda: version_rules.activate(self.catalog, WhichVersion(name=key[0], version=key[1])))

    @rule(key=versions)
    def delete_version(self, key: tuple[str, str]) -> None:
        self.attempt(lambda: version_rules.delete_version(self.catalog, WhichVersion(name=key[0], version=key[1])))

    @rule(app=apps, key=versions)
    def link(self, app: str, key: tuple[str, str]) -> None:
        request = Link(app_name=app, model_names=(key[0],))
        self.attempt(lambda: catalog_rules.add_model_links(self.catalog, request))

    @rule(app=apps, key=versions)
    def unlink(self, app: str, key: tuple[str, str]) -> None:
        request = Link(app_name=app, model_names=(key[0],))
        self.attempt(lambda: catalog_rules.delete_model_links(self.catalog, request))

    @invariant()
    def the_current_version_is_registered_and_live(self) -> None:
        for model in self.catalog.models.values():
            if model.current_version is not None:
                current = self.catalog.current_version(model.name)
                assert current is not None
                assert not current.staged

    @invariant()
    def every_live_version_has_a_model(self) -> None:
        for version in self.catalog.versions.values():
            assert version.staged or version.name in self.catalog.models

    @invariant()
    def an_app_and_the_current_version_it_leads_to_have_one_type(self) -> None:
        for app in self.catalog.apps.values():
            for name in app.linked_models:
                current = self.catalog.current_version(name)
                assert current is None or current.input_type == app.input_type


TestAnyOrderOfRequests = Catalog.TestCase
TestAnyOrderOfRequests.settings = settings(max_examples=25, stateful_step_count=20, deadline=None)
