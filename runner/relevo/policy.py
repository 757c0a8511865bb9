"""The policy as data: objectives, tests with their criteria, contacts and the checklist, in the form in which a user edits it."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    StringConstraints,
    WithJsonSchema,
    model_validator,
)

from relevo import drill, measurement, period, request
from relevo.errors import InputRefusedError
from relevo.measurement import Measurement
from relevo.period import Period

SCHEMA: Literal["relevo-policy/1"] = "relevo-policy/1"

Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_-]*$", max_length=64)]
# Inputs that follow from how an exercise was started.
_OF_THE_EXERCISE = frozenset(
    {"dr_confirm", "dr_mode", "dr_scope", "dr_target_site", "dr_approver"} | {f"dr_{name}" for name in request.CONTEXT}
)
_FILE_NAME = r"^[A-Za-z0-9_][\w.-]{0,63}$"


def _secret_name(value: object) -> str:
    """Whatever else stands there may be the secret itself, so it is not shown."""
    if not (isinstance(value, str) and re.match(_FILE_NAME, value)):
        message = (
            "observed something else than a name; expected the name of a file in dr_secrets_directory, never a URL or a password"
        )
        raise ValueError(message)
    return value


SecretName = Annotated[str, PlainValidator(_secret_name), WithJsonSchema({"type": "string", "pattern": _FILE_NAME})]
Words = Annotated[str, StringConstraints(min_length=1, strip_whitespace=True)]
Seconds = Annotated[
    float,
    BeforeValidator(period.parse_duration),
    WithJsonSchema({"type": "string", "pattern": period.DURATION, "examples": ["4 h"]}),
]
Every = Annotated[
    Period,
    PlainValidator(period.parse_period),
    PlainSerializer(str),
    WithJsonSchema({"type": "string", "pattern": period.PERIOD, "examples": ["3 months"]}),
]
PathIn = Annotated[
    Measurement,
    PlainValidator(measurement.parse),
    PlainSerializer(str),
    WithJsonSchema({"type": "string", "examples": ["measures.ledger.lost", "gates[id=G13].verdict"]}),
]


class Part(BaseModel):
    """A part of the policy: unknown keys are mistakes."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class Comparison(StrEnum):
    """How a measurement is held against its threshold."""

    EQUALS = "equals"
    ONE_OF = "one_of"
    BELOW = "below"
    AT_MOST = "at_most"
    ABOVE = "above"
    AT_LEAST = "at_least"


class Criterion(Part):
    """A measurement, a comparison, a threshold. A threshold of a time may be written with its unit."""

    name: Words
    measurement: PathIn
    comparison: Comparison = Field(alias="is")
    threshold: bool | float | str | list[bool | float | str]

    @model_validator(mode="after")
    def _fits(self) -> Self:
        """Numbers are ordered, words are not."""
        if self.comparison is Comparison.ONE_OF and not (isinstance(self.threshold, list) and self.threshold):
            message = f"observed {self.threshold!r}; expected a list of the values that are good"
            raise ValueError(message)
        if self.comparison not in {Comparison.EQUALS, Comparison.ONE_OF}:
            if isinstance(self.threshold, str):
                object.__setattr__(self, "threshold", period.parse_duration(self.threshold))
            elif isinstance(self.threshold, (bool, list)):
                message = f"observed {self.threshold!r}; expected a number to compare with"
                raise ValueError(message)
        return self


class Run(Part):
    """Which runs count: of a runbook, in a mode and a scope, or in any."""

    runbook: Name
    mode: Literal["drill", "disaster"] | None = None
    scope: Literal["database", "site"] | None = None


class Test(Part):
    """A test of the matrix."""

    title: Words
    goal: Words
    every: Every
    limit_seconds: Seconds = Field(alias="limit")
    counts: list[Run] = Field(min_length=1)
    criteria: list[Criterion] = Field(min_length=1)


class ExerciseStep(Part):
    """One run of an exercise; what it proves is told by the tests that count such a run.

    needs: a variable that the inventory must hold, else the step does not apply; approval: the inventory must ask for a second person;
    inputs: what `-e` would carry. A step that moves production is followed by the runs that bring it home.
    """

    runbook: Name
    scope: Literal["database", "site"] | None = None
    needs: Annotated[str, StringConstraints(pattern=r"^dr_[a-z0-9_]{1,60}$")] | None = None
    approval: Literal["dual"] | None = None
    inputs: dict[str, str] = {}

    @property
    def moves(self) -> bool:
        """Whether production is somewhere else after it."""
        return self.runbook in drill.MOVES

    @model_validator(mode="after")
    def _fits(self) -> Self:
        """Only what moves production has a scope and may need an approval; the way home is no step of its own."""
        if self.runbook in drill.COMES_HOME:
            message = f"observed {self.runbook!r}; expected no such step: what moves production is brought home by itself"
            raise ValueError(message)
        if self.moves != (self.scope is not None):
            wanted = "scope: database or site" if self.moves else "no scope"
            message = f"observed {self.runbook} with the scope {self.scope}; expected {wanted}"
            raise ValueError(message)
        if self.approval and not self.moves:
            message = f"observed an approval of {self.runbook}; expected it only where production moves ({', '.join(drill.MOVES)})"
            raise ValueError(message)
        taken = sorted({*self.inputs} & _OF_THE_EXERCISE)
        if taken:
            message = (
                f"observed {', '.join(taken)} among the inputs; expected others: these are said by whoever starts the exercise"
            )
            raise ValueError(message)
        try:
            request.judge(self.inputs)
        except InputRefusedError as error:
            raise ValueError(str(error)) from error
        return self


class Exercise(Part):
    """What `relevo drill NAME` runs, in this order. require_objectives: a recovery that missed or never measured one is none that passed."""

    title: Words
    goal: Words
    steps: list[ExerciseStep] = Field(min_length=1)
    require_objectives: bool = True

    @property
    def moves(self) -> bool:
        """Whether it moves production."""
        return any(step.moves for step in self.steps)


class Tier(Part):
    """How quickly systems of this tier must serve again."""

    rto_seconds: Seconds = Field(alias="rto")


class LossObjectives(Part):
    """How much of each kind may be lost, in time. null: nobody asks that of this kind."""

    database_seconds: Seconds = Field(alias="database")
    keys_seconds: Seconds | None = Field(default=None, alias="keys")
    configuration_seconds: Seconds | None = Field(default=None, alias="configuration")
    application_seconds: Seconds | None = Field(default=None, alias="application")

    def of_files(self) -> dict[str, float]:
        """Of what is no database, by kind."""
        kinds = {"keys": self.keys_seconds, "configuration": self.configuration_seconds, "application": self.application_seconds}
        return {kind: seconds for kind, seconds in kinds.items() if seconds is not None}


class Cluster(Part):
    """A cluster that must be tested, also when it never ran. tests: which of them; without, all."""

    tier: Name = "critical"
    tests: list[Name] | None = None


class Change(Part):
    """What a test proved something about: when it is another now, the test must be repeated.

    measurements: the first one that is known both then and now. by_share: a number counts as changed only beyond this share.
    """

    what: Words
    measurements: list[PathIn] = Field(min_length=1)
    by_share: float | None = Field(default=None, gt=0)


class Contact(Part):
    """A person or a desk. How to reach them is no secret: who can read this file reads it."""

    name: Words
    role: Words
    mail: Words | None = None
    phone: Words | None = None


class Step(Part):
    """A step of the escalation: who is called when nobody has answered for so long."""

    after_seconds: Seconds = Field(alias="after")
    contacts: list[Name] = Field(min_length=1)
    then: Words


class Targets(Part):
    """Where word goes, by the name of a file of apprise URLs in dr_secrets_directory. Never a URL: it may hold a password."""

    reports: SecretName | None = None
    alerts: SecretName | None = None


class Team(Part):
    """Who can lead a run: distinct operators of passed tests within a time. machines: accounts that are no person."""

    within: Every
    operators_min: int = Field(ge=1)
    machines: list[str] = []


class EscapePack(Part):
    """The archive from which a controller starts at the other site. clusters_in_clear: whether its clear label names them."""

    fresh_for: Every
    clusters_in_clear: bool


class TestEvidence(Part):
    """Rests on a test of the matrix that is passed and not due; within: passed in that time."""

    kind: Literal["test"]
    test: Name
    within: Every | None = None


class RunEvidence(Part):
    """Rests on the newest run of a kind that passed and fulfils criteria."""

    kind: Literal["run"]
    counts: list[Run] = Field(min_length=1)
    within: Every
    criteria: list[Criterion] = []


class ObjectiveEvidence(Part):
    """Rests on the newest measured value against its objective."""

    kind: Literal["objective"]
    measure: Literal["rto_seconds", "rpo_seconds"]
    counts: list[Run] = Field(min_length=1)
    within: Every


class DocumentEvidence(Part):
    """Rests on pages of runbooks that exist and match their playbooks."""

    kind: Literal["documents"]
    runbooks: list[Name] = Field(min_length=1)


class SignOffEvidence(Part):
    """Rests on a person's word about a subject, in the store with its date."""

    kind: Literal["sign_off"]
    subject: Name
    within: Every


class StateEvidence(Part):
    """Rests on what the store and this policy hold now.

    contacts: each has acknowledged in time. escalation: steps are defined, with contacts that exist. records: each verifies.
    findings: none is open beyond its due date.
    """

    kind: Literal["contacts", "escalation", "records", "findings"]


Evidence = Annotated[
    TestEvidence | RunEvidence | ObjectiveEvidence | DocumentEvidence | SignOffEvidence | StateEvidence, Field(discriminator="kind")
]


class Line(Part):
    """A line of the checklist, what it rests on, and the clauses of standards that it answers."""

    section: Words
    line: Words
    rests_on: list[Evidence] = Field(min_length=1)
    answers: list[Words] = []


class Policy(Part):
    """The whole of it."""

    schema_: Literal["relevo-policy/1"] = Field(alias="schema")
    tiers: dict[Name, Tier]
    rpo: LossObjectives
    clusters: dict[str, Cluster]
    tests: dict[Name, Test]
    exercises: dict[Name, Exercise]
    remind_before: Every
    needs_verified_after: list[Change]
    contacts: dict[Name, Contact]
    contacts_acknowledge_every: Every
    escalation: list[Step]
    targets: Targets
    team: Team
    escape_pack: EscapePack
    checklist: list[Line]

    def tests_of(self, cluster: str) -> dict[str, Test]:
        """The tests that a cluster owes; a cluster that the policy does not name owes all."""
        wanted = self.clusters[cluster].tests if cluster in self.clusters else None
        return {name: test for name, test in self.tests.items() if wanted is None or name in wanted}

    def objectives_of(self, cluster: str) -> dict[str, float]:
        """The targets in seconds, by the names of the measures."""
        tier = self.clusters[cluster].tier if cluster in self.clusters else "critical"
        return {"rto_seconds": self.tiers[tier].rto_seconds, "rpo_seconds": self.rpo.database_seconds}

    def document(self) -> dict[str, Any]:
        """As a JSON tree: times in seconds, with the unit in their name."""
        tree = self.model_dump(mode="json")
        return {"schema": tree.pop("schema_"), **tree}


def dangling(policy: Policy) -> list[tuple[tuple[str | int, ...], str]]:
    """Names that nothing has, each with its place and a sentence."""
    found: list[tuple[tuple[str | int, ...], str]] = []

    def need(place: tuple[str | int, ...], name: str, known: Any, what: str) -> None:
        if name not in known:
            found.append((place, f"observed {name!r}; expected one of the {what}: {', '.join(sorted(known)) or 'there are none'}"))

    need(("tiers",), "critical", policy.tiers, "tiers")
    for cluster, about in policy.clusters.items():
        need(("clusters", cluster, "tier"), about.tier, policy.tiers, "tiers")
        for number, test in enumerate(about.tests or []):
            need(("clusters", cluster, "tests", number), test, policy.tests, "tests")
    for number, step in enumerate(policy.escalation):
        for place, contact in enumerate(step.contacts):
            need(("escalation", number, "contacts", place), contact, policy.contacts, "contacts")
    for number, line in enumerate(policy.checklist):
        for place, evidence in enumerate(line.rests_on):
            if isinstance(evidence, TestEvidence):
                need(("checklist", number, "rests_on", place, "test"), evidence.test, policy.tests, "tests")
    return found
