"""An exercise over a real store: what it runs, where it stops, how it is gone on with, and what it comes to. Only the hosts are made up."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import xmlschema
from hypothesis import given, settings
from hypothesis import strategies as some
from pydantic import ValidationError

from relevo import entries, exercise, exercise_report, exercising, policy_file, request, signature, wording
from relevo.clock import utc
from relevo.entries import Entry, Speaker
from relevo.errors import Exit, StoreError, UsageError
from relevo.paths import Place
from relevo.policy import Cluster, Exercise, ExerciseStep
from relevo.record import Record, canonical, parse
from relevo.report import Form
from relevo.store import Store
from relevo.verdict import Verdict
from tests.unit.runner.past import run
from tests.unit.runner.sheets import paper_text

JUNIT = xmlschema.XMLSchema(str(Path(__file__).parents[2] / "fixtures" / "junit" / "suite.xsd"))
WORDS = ["dr_target_site=b", "dr_participants=Ana, Bo", "dr_observers=Eva", "dr_ticket=CHG-4711"]
DECLARED = {"a-db1": {"dr_cluster": "minimarket", "dr_keys_paths": [{"name": "safe"}], "dr_approval": "dual"}}
RUNG = {"R2": "pass", "R3": "pass", "R4": "pass", "R5": "pass", "R6": "pass", "R7": "pass"}
MEASURED: dict[str, dict[str, Any]] = {
    "restore_test": {"restore_tests": [{"rungs": [{"id": name, "verdict": "pass"} for name in RUNG]}]},
    "recover_keys": {"keys": {"recovered": "pass", "decrypted": "pass", "intact": "pass"}},
}
FULL = ["check", "verify_backup", "restore_test", "recover_keys", *["failover", "failback", "switchover"] * 2]
QUARTERLY = FULL[:-3]
RECORDED = run("20260101T000000Z-failover-0001", "2026-01-31T12:00:00Z")


@dataclass
class Hosts:
    """What would answer. answers: by number of the run what its record says otherwise; site: where production is."""

    store: Store
    place: Place
    answers: dict[int, dict[str, Any]] = field(default_factory=dict)
    site: str | None = "a"
    ran: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    told: list[str] = field(default_factory=list)
    lost: set[int] = field(default_factory=set)
    started: datetime = field(default_factory=lambda: datetime.now(UTC))

    def run(self, runbook: str, inputs: Mapping[str, str]) -> Record:
        number = len(self.ran)
        self.ran.append((runbook, dict(inputs)))
        request.require(runbook, request.judge(inputs))
        record = self._record(number, runbook, inputs)
        document = canonical(record.document())
        self.store.add(record, document, signature.sign(signature.ready_key(self.place.keys), document))
        if runbook in {"failover", "switchover"} and record.verdict in exercise.CAME_THROUGH:
            self.site = inputs["dr_target_site"]
        if number in self.lost:
            raise KeyboardInterrupt
        return record

    def _record(self, number: int, runbook: str, inputs: Mapping[str, str]) -> Record:
        said = {
            "source_site": self.site,
            "target_site": inputs.get("dr_target_site"),
            **{name: inputs.get(f"dr_{name}") for name in request.CONTEXT},
        }
        fields: dict[str, Any] = {"runbook": runbook, "mode": inputs.get("dr_mode"), "scope": inputs.get("dr_scope"), "run": said}
        fields |= {
            "verdict": "passed",
            "verdict_reasons": [],
            "measures": {},
            **self.answers.get(number, {}),
        }
        measures = {**RECORDED.measures, **MEASURED.get(runbook, {}), **fields.pop("measures")}
        times = {
            "opened_at": utc(self.started + timedelta(minutes=number)),
            "closed_at": utc(self.started + timedelta(minutes=number + 1)),
        }
        name = f"20260101T0000{number:02d}Z-{runbook}-{number:04x}"
        return Record.model_validate({**RECORDED.model_dump(), "run_id": name, **times, "measures": measures, **fields})

    def look(self) -> Mapping[str, Any]:
        if self.site is None:
            return {"primary": None, "hosts": {}}
        name = f"{self.site}-db1"
        return {"primary": name, "hosts": {name: {"site": self.site}}}

    def heard(self) -> Sequence[Entry]:
        return [entries.parse(one.document) for one in entries.read(self.store, exercise.KIND)]

    def say(self, subject: str, event: str, said: dict[str, Any]) -> None:
        speaker = Speaker("mira", "ctl", self.started)
        entries.append(self.store, entries.make(speaker, exercise.KIND, subject, event, said), signature.ready_key(self.place.keys))

    def tell(self, sentence: str) -> None:
        self.told.append(sentence)

    @property
    def runbooks(self) -> list[str]:
        return [runbook for runbook, _ in self.ran]


@pytest.fixture
def hosts(tmp_path: Path) -> Hosts:
    place = Place(tmp_path, f"sqlite:///{tmp_path}/relevo.db")
    return Hosts(Store(place), place)


BUILT_IN = policy_file.Loaded(policy_file.parse(None, "policy.yml"), "policy.yml", None)


def with_quarterly(**changes: Any) -> policy_file.Loaded:
    """The built-in policy with another quarterly exercise."""
    tree = {**BUILT_IN.policy.exercises["quarterly"].model_dump(), **changes}
    named = {"exercises": {"quarterly": Exercise.model_validate(tree)}}
    return replace(BUILT_IN, policy=BUILT_IN.policy.model_copy(update=named))


def order(name: str = "quarterly", pairs: Sequence[str] = WORDS, variables: Mapping[str, Any] = DECLARED) -> exercising.Order:
    return exercising.Order(name, "minimarket", pairs, variables)


def begin(hosts: Hosts, name: str = "quarterly", policy: policy_file.Loaded = BUILT_IN, **more: Any) -> exercise.Exercise:
    return exercising.begin(hosts, policy, order(name, **more))


def lead(hosts: Hosts, begun: exercise.Exercise, policy: policy_file.Loaded = BUILT_IN) -> tuple[exercise.Exercise, Exit]:
    return exercising.lead(hosts, hosts.store, policy, begun)


def resume(hosts: Hosts, policy: policy_file.Loaded = BUILT_IN, pairs: Sequence[str] = ()) -> tuple[exercise.Exercise, Exit]:
    begun = exercising.unfinished(hosts, "minimarket")
    assert begun is not None
    return lead(hosts, exercising.take_up(hosts, hosts.store, policy, begun, pairs), policy)


def test_a_full_exercise_runs_all_tests_of_the_matrix_comes_home_and_passes(hosts: Hosts) -> None:
    ended, code = lead(hosts, begin(hosts, "full"))
    assert hosts.runbooks == FULL
    assert (ended.verdict, code, ended.reasons) == (Verdict.PASSED, Exit.PASSED, ())
    proven = {name for one in ended.ran for name, verdict in one.tests.items() if verdict == "passed"}
    assert proven == set(BUILT_IN.policy.tests)
    assert (hosts.site, ended.production, ended.home_site) == ("a", "a", "a")
    assert exercising.unfinished(hosts, "minimarket") is None


def test_each_run_says_of_which_exercise_it_is_who_takes_part_and_who_observes(hosts: Hosts) -> None:
    ended, _ = lead(hosts, begin(hosts))
    assert (ended.participants, ended.observers) == (("Ana", "Bo"), ("Eva",))
    for runbook, inputs in hosts.ran:
        said = {name: inputs[f"dr_{name}"] for name in ("exercise", "participants", "observers", "ticket")}
        assert said == {"exercise": ended.id, "participants": "Ana, Bo", "observers": "Eva", "ticket": "CHG-4711"}, runbook


def test_production_is_moved_in_words_that_say_so_and_home_in_the_same_scope(hosts: Hosts) -> None:
    lead(hosts, begin(hosts, "full"))
    moved = [inputs for _, inputs in hosts.ran[4:]]
    assert [inputs["dr_confirm"] for inputs in moved[:3]] == [
        "drill production minimarket to b",
        "failback minimarket to a",
        "drill production minimarket to a",
    ]
    assert [inputs.get("dr_scope") for inputs in moved] == ["database", None, "database", "site", None, "site"]
    assert {inputs.get("dr_mode") for inputs in moved} == {"drill", None}


def test_what_the_operator_accepts_is_accepted_on_the_way_out_alone(hosts: Hosts) -> None:
    lead(hosts, begin(hosts, pairs=[*WORDS, "dr_accept_loss_seconds=5"]))
    assert [runbook for runbook, inputs in hosts.ran if "dr_accept_loss_seconds" in inputs] == ["failover"]


@pytest.mark.parametrize(
    ("verdict", "code", "words"),
    [
        ("failed", Exit.FAILED, "docs/runbooks/failback.md"),
        ("interrupted", Exit.INTERRUPTED, "relevo status minimarket"),
        ("refused", Exit.REFUSED, "relevo results show"),
    ],
)
def test_a_run_that_does_not_come_through_stops_it_and_tells_where_production_is(
    hosts: Hosts, verdict: str, code: Exit, words: str
) -> None:
    hosts.answers[5] = {"verdict": verdict}
    stopped, ended = lead(hosts, begin(hosts))
    assert hosts.runbooks == QUARTERLY[:6]
    assert (ended, stopped.verdict, stopped.production) == (code, None, "b")
    assert "Production now: b-db1 at site b." in hosts.told
    assert words in hosts.told[-1]
    assert stopped.words[-1].said["seen"] == "Production now: b-db1 at site b."


def test_the_same_command_goes_on_where_it_stopped(hosts: Hosts) -> None:
    hosts.answers[5] = {"verdict": "failed"}
    stopped, _ = lead(hosts, begin(hosts))
    ended, code = resume(hosts)
    assert hosts.runbooks == [*QUARTERLY[:6], *QUARTERLY[5:]]
    assert ended.id == stopped.id
    # What came through at a second attempt is not as if nothing had been.
    assert (ended.verdict, code) == (Verdict.PARTIAL, Exit.PARTIAL)
    assert "ended as failed before it came through" in ended.reasons[0]
    assert hosts.site == "a"


def test_a_run_whose_command_was_killed_before_it_could_say_so_is_found_and_not_repeated(hosts: Hosts) -> None:
    hosts.lost = {4}
    with pytest.raises(KeyboardInterrupt):
        lead(hosts, begin(hosts))
    assert hosts.site == "b"
    ended, code = resume(hosts)
    assert hosts.runbooks == QUARTERLY
    assert (ended.verdict, code) == (Verdict.PASSED, Exit.PASSED)
    assert [word.event for word in ended.words] == [exercise.TAKEN_UP]


def test_a_run_of_another_exercise_or_out_of_order_is_not_taken_for_its_own(hosts: Hosts) -> None:
    begun = begin(hosts)
    hosts.run("restore_test", {"dr_exercise": begun.id})
    hosts.run("check", {"dr_exercise": "E-000000"})
    ended, _ = resume(hosts)
    assert [one.runbook for one in ended.ran] == QUARTERLY
    assert hosts.runbooks[2:] == QUARTERLY


@pytest.mark.parametrize(
    ("changed", "taken"),
    [({}, True), ({"dr_scope": "site"}, False), ({"dr_target_site": "c"}, False), ({"dr_exercise": "E-000000"}, False)],
)
def test_a_move_by_hand_is_taken_for_the_step_only_if_it_is_that_move(hosts: Hosts, changed: dict[str, str], taken: object) -> None:
    policy = with_quarterly(steps=[{"runbook": "failover", "scope": "database"}])
    begun = begin(hosts, policy=policy)
    hosts.run("failover", {"dr_mode": "drill", "dr_scope": "database", "dr_target_site": "b", "dr_exercise": begun.id, **changed})
    resume(hosts, policy)
    assert (hosts.runbooks[1:] == ["failback", "switchover"]) is taken


def gate(name: str) -> dict[str, Any]:
    return {
        "id": name,
        "title": name,
        "phase": "PREFLIGHT",
        "host": "controller",
        "observed": "nothing",
        "expected": "a word",
        "verdict": "fail",
    }


def test_it_pauses_for_the_second_persons_word_which_is_no_failed_attempt(hosts: Hosts) -> None:
    for number in (4, 6):
        hosts.answers[number] = {"verdict": "refused", "gates": [gate("APPROVAL")]}
    _, code = lead(hosts, begin(hosts))
    assert code is Exit.REFUSED
    assert f"relevo approve {hosts.store.newest(1)[0].run_id}" in hosts.told[-1]
    assert resume(hosts)[1] is Exit.REFUSED
    ended, _ = resume(hosts)
    assert ended.verdict is Verdict.PASSED
    assert hosts.runbooks == [*QUARTERLY[:4], "failover", "failover", "failback", "failback", "switchover"]


def test_a_refusal_for_more_than_the_word_is_a_failed_attempt(hosts: Hosts) -> None:
    hosts.answers[4] = {"verdict": "refused", "gates": [gate("APPROVAL"), gate("G05")]}
    lead(hosts, begin(hosts))
    assert "relevo approve" not in hosts.told[-1]
    assert resume(hosts)[0].verdict is Verdict.PARTIAL


SLOW = {"measures": {"application": {"login": "pass", "p95_seconds": 0.9}}}


def test_a_test_that_failed_brings_production_home_first_and_is_repeated_then(hosts: Hosts) -> None:
    hosts.answers[4] = SLOW
    stopped, code = lead(hosts, begin(hosts, "full"))
    assert (code, hosts.runbooks, hosts.site) == (Exit.FAILED, FULL[:7], "a")
    assert stopped.verdict is None
    assert "P95" in hosts.told[-3]
    ended, _ = resume(hosts)
    assert hosts.runbooks == [*FULL[:7], *FULL[4:]]
    assert ended.verdict is Verdict.PARTIAL
    assert any("failed its test before it was repeated" in reason for reason in ended.reasons)


def test_what_nobody_measured_is_not_proven(hosts: Hosts) -> None:
    hosts.answers[4] = {"measures": {"application": {}}}
    ended, code = lead(hosts, begin(hosts))
    assert (ended.verdict, code) == (Verdict.PARTIAL, Exit.PARTIAL)
    assert "does not prove partial_failover" in ended.reasons[0]


@pytest.mark.parametrize(("met", "wanted", "verdict"), [(False, True, "failed"), (None, True, "partial"), (False, False, "passed")])
def test_objectives_count_where_the_policy_wants_them(hosts: Hosts, met: object, wanted: object, verdict: str) -> None:
    policy = with_quarterly(require_objectives=wanted)
    hosts.answers[4] = {"objectives_met": met}
    assert lead(hosts, begin(hosts, policy=policy), policy)[0].verdict == verdict


def test_production_that_did_not_come_home_is_no_pass(hosts: Hosts) -> None:
    hosts.answers[6] = {}
    begun = begin(hosts)
    real = hosts.look
    hosts.look = lambda: {"primary": "b-db1", "hosts": {"b-db1": {"site": "b"}}} if len(hosts.ran) == 7 else real()  # type: ignore[method-assign]
    ended, code = lead(hosts, begun)
    assert (ended.verdict, code) == (Verdict.FAILED, Exit.FAILED)
    assert ended.reasons == ("Production is at site b; expected a, where it was.",)


def test_production_that_nobody_sees_at_the_end_is_a_doubt(hosts: Hosts) -> None:
    begun = begin(hosts)
    hosts.look = dict  # type: ignore[method-assign]
    ended, _ = lead(hosts, begun)
    assert (ended.verdict, ended.production) == (Verdict.PARTIAL, None)
    assert "was not seen" in hosts.told[-1]


def test_keys_that_nobody_declared_are_left_out_and_said(hosts: Hosts) -> None:
    ended, _ = lead(hosts, begin(hosts, variables={"a-db1": {"dr_cluster": "minimarket"}}))
    assert "recover_keys" not in hosts.runbooks
    assert ended.verdict is Verdict.PARTIAL
    assert "the inventory declares no dr_keys_paths" in ended.reasons[0]


def test_what_the_policy_does_not_ask_of_a_cluster_is_no_part_and_no_doubt(hosts: Hosts) -> None:
    clusters = {"minimarket": Cluster(tests=["backup_restoration"])}
    policy = replace(BUILT_IN, policy=BUILT_IN.policy.model_copy(update={"clusters": clusters}))
    ended, _ = lead(hosts, begin(hosts, policy=policy, pairs=WORDS[1:]), policy)
    assert hosts.runbooks == QUARTERLY[:3]
    assert (ended.verdict, ended.home_site) == (Verdict.PASSED, None)


@pytest.mark.parametrize(
    ("pairs", "words"),
    [
        (WORDS[:2], "dr_observers is missing"),
        ([WORDS[0], WORDS[2]], "dr_participants is missing"),
        (WORDS[1:], "dr_target_site is missing"),
        ([*WORDS, "dr_confirm=x"], "dr_confirm is not for an exercise"),
        ([*WORDS, "dr_exercise=E-1f3a9c"], "dr_exercise is not for an exercise"),
        ([*WORDS, "dr_mode=disaster"], "dr_mode is not for an exercise"),
        ([*WORDS, "dr_reason={{ x }}"], "holds a template"),
        (["dr_target_site=a", *WORDS[1:]], "nothing to move to site a"),
    ],
)
def test_what_cannot_begin_begins_nothing(hosts: Hosts, pairs: list[str], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        begin(hosts, pairs=pairs)
    assert (hosts.ran, hosts.heard()) == ([], [])


def test_it_begins_only_where_one_primary_is_seen(hosts: Hosts) -> None:
    for state in ({}, {"primary": None}, {"primary": "a-db1", "primaries": ["a-db1", "b-db1"], "hosts": {"a-db1": {"site": "a"}}}):
        hosts.look = lambda state=state: state  # type: ignore[method-assign,misc]
        with pytest.raises(UsageError, match="begins where one primary is seen"):
            begin(hosts)
    assert hosts.heard() == []


def test_other_words_than_its_first_ones_do_not_go_on(hosts: Hosts) -> None:
    hosts.answers[0] = {"verdict": "failed"}
    lead(hosts, begin(hosts))
    with pytest.raises(UsageError, match="another dr_target_site"):
        resume(hosts, pairs=["dr_target_site=c"])
    assert resume(hosts, pairs=WORDS)[0].ended_at


def test_one_that_is_given_up_says_how_far_it_came(hosts: Hosts) -> None:
    hosts.answers[2] = {"verdict": "failed"}
    stopped, _ = lead(hosts, begin(hosts))
    exercising.give_up(hosts, stopped)
    (ended,) = exercise.fold(hosts.heard())
    assert ended.verdict is Verdict.FAILED
    assert ended.reasons[-1] == "It ended before step 3, restore_test."
    # The first word holds: nobody goes on with it, or ends it better.
    hosts.say(ended.id, exercise.ENDED, {"verdict": "passed", "reasons": []})
    assert exercise.fold(hosts.heard())[0].verdict is Verdict.FAILED


def test_a_policy_that_changes_meanwhile_changes_no_exercise_that_has_begun(hosts: Hosts) -> None:
    hosts.answers[2] = {"verdict": "failed"}
    lead(hosts, begin(hosts))
    ended, _ = resume(hosts, with_quarterly(steps=[{"runbook": "check"}]))
    assert [one.runbook for one in ended.ran] == [*QUARTERLY[:3], *QUARTERLY[2:]]


def test_an_approval_that_the_policy_wants_and_the_inventory_does_not_ask_for_is_refused(hosts: Hosts) -> None:
    policy = with_quarterly(steps=[{"runbook": "failover", "scope": "site", "approval": "dual"}])
    with pytest.raises(UsageError, match=r"expected dr_approval: dual in the inventory, observed nothing"):
        begin(hosts, policy=policy, variables={"a-db1": {"dr_cluster": "minimarket"}})
    assert begin(hosts, policy=policy).steps[0].runbooks == ("failover", "failback", "switchover")


@pytest.mark.parametrize(
    ("step", "words"),
    [
        ({"runbook": "failback"}, "brought home by itself"),
        ({"runbook": "failover"}, "expected scope: database or site"),
        ({"runbook": "check", "scope": "site"}, "expected no scope"),
        ({"runbook": "check", "approval": "dual"}, "only where production moves"),
        ({"runbook": "check", "inputs": {"dr_confirm": "x"}}, "observed dr_confirm among the inputs"),
        ({"runbook": "check", "inputs": {"dr_reason": "{{ x }}"}}, "holds a template"),
        ({"runbook": "check", "needs": "password"}, "needs"),
    ],
)
def test_a_step_that_nobody_could_run_is_a_mistake_in_the_policy(step: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        ExerciseStep.model_validate(step)


def test_two_commands_do_not_lead_at_once(hosts: Hosts) -> None:
    with exercising.alone(hosts.place, "minimarket"):
        with exercising.alone(hosts.place, "other"):
            pass
        with pytest.raises(UsageError, match="Another command leads"), exercising.alone(hosts.place, "minimarket"):
            pass
    assert os.listdir(hosts.place.state / "exercises")


def test_an_entry_that_is_none_is_said_and_not_guessed(hosts: Hosts) -> None:
    hosts.say("E-000001", exercise.BEGUN, {"steps": []})
    with pytest.raises(StoreError, match="begins no exercise"):
        exercise.fold(hosts.heard())


def records(hosts: Hosts, of: exercise.Exercise) -> dict[str, Record]:
    found = hosts.store.documents([one.run_id for one in of.ran])
    return {run_id: parse(document) for run_id, document in found.items()}


def test_the_report_has_each_run_with_what_it_measured_beside_its_objective(hosts: Hosts) -> None:
    ended, _ = lead(hosts, begin(hosts, "full"))
    told = {form: exercise_report.render(ended, records(hosts, ended), form) for form in Form}
    for form in (Form.HTML, Form.MARKDOWN, Form.JUNIT):
        for one in ended.ran:
            assert one.run_id in told[form]
        assert ("Ana, Bo" in told[form], "Eva" in told[form]) == (True, True)
        for item in records(hosts, ended)[ended.ran[4].run_id].objectives:
            assert form is Form.JUNIT or wording.judged(item) in told[form]
        assert not re.search(r"None|{{|{'|undefined", told[form])
    assert json.loads(told[Form.JSON])["verdict"] == "passed"
    page = exercise_report.contents(ended, records(hosts, ended), Form.PDF)
    assert ended.id in paper_text(page)


def test_a_report_of_one_that_stopped_says_why_and_what_is_next(hosts: Hosts) -> None:
    hosts.answers[3] = {"verdict": "failed", "objectives": []}
    stopped, _ = lead(hosts, begin(hosts, variables={"a-db1": {"dr_cluster": "minimarket"}}))
    for form in (Form.HTML, Form.MARKDOWN, Form.JUNIT):
        told = exercise_report.render(stopped, records(hosts, stopped), form)
        for words in (
            "not finished",
            "Production now: a-db1 at site a.",
            "Next: relevo status minimarket",
            "the inventory declares no",
        ):
            assert words in told, form


def test_junit_counts_what_did_not_hold_and_fits_the_schema(hosts: Hosts) -> None:
    hosts.answers[4] = {"measures": {"application": {}}}
    ended, _ = lead(hosts, begin(hosts))
    told = exercise_report.render(ended, records(hosts, ended), Form.JUNIT)
    JUNIT.validate(told)
    failed = re.findall(r'name="([^"]*)" time="[0-9.]+">\n +<failure', told)
    assert failed == ["quarterly passes", f"partial_failover by run {ended.ran[4].run_id}"]
    assert 'failures="2" errors="0"' in told


@settings(max_examples=60)
@given(some.lists(some.sampled_from(["passed", "partial", "failed", "refused", "interrupted"]), max_size=12))
def test_whatever_happens_nothing_is_run_twice_that_came_through_and_home_follows_out(verdicts: list[str]) -> None:
    """The law of the order: each run follows the one before it that came through, and production is never moved out from the other site."""
    steps = (
        exercise.Step("look", ("check",)),
        exercise.Step("move", ("failover", "failback", "switchover"), "site"),
        exercise.Step("again", ("switchover", "switchover"), "database"),
    )
    about: dict[str, Any] = {
        "id": "E-1",
        "name": "x",
        "title": "x",
        "goal": "x",
        "cluster": "x",
        "home_site": "a",
        "target_site": "b",
    }
    about |= {
        "participants": (),
        "observers": (),
        "given": {},
        "require_objectives": True,
        "policy": {},
        "begun_at": "",
        "begun_by": "",
    }
    begun = exercise.Exercise(steps=steps, controller="", **about)
    order = [(number, part) for number, step in enumerate(steps) for part in range(len(step.runbooks))]
    through: list[tuple[int, int]] = []
    for verdict in verdicts:
        due = exercise.next_run(begun)
        if due is None:
            break
        assert (due.step, due.part) == order[len(through)]
        ran = exercise.Ran(due.step, due.part, due.runbook, f"run-{len(begun.ran)}", Verdict(verdict), "")
        begun = replace(begun, ran=(*begun.ran, ran))
        if ran.came_through:
            through.append((due.step, due.part))
    decision = exercise.judge(begun)
    assert (decision.verdict in {Verdict.PASSED, Verdict.PARTIAL}) <= (through == order)
