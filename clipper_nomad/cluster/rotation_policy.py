"""What comes next while the frontends' key is changed, given what is seen and the time. Pure: key_rotation.py acts.

    tell     everybody who dials a frontend knows both public keys: replicas and frontends, in files that Nomad writes
    make     a frontend that starts from now on has the new one
    replace  the frontends, all new ones beside all old ones, as by any change of theirs
    retire   the old public key is taken away from everybody, once no frontend has it any more

The step follows from what is there, not from what was done: a change that was interrupted goes on from where it was.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

TOLD_WITHIN_S = 120.0  # Nomad writes a file within two seconds, unless a client is away
REPLACED_WITHIN_S = 120.0  # of the rollout: old frontends end what they have, at most their kill_timeout


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What was seen at one moment; keys are public halves.

    `known`: by job, the keys that its Variable tells; `starting`: the key that a frontend has which starts now; `told`: by
    "job/allocation", the keys in the file of each allocation that runs; `frontends`: the key of each query frontend that
    runs, by its name: None while it has not said (it starts, or is away); "" if it is of a build that says none."""

    known: Mapping[str, Sequence[str]]
    starting: str
    told: Mapping[str, Sequence[str]]
    frontends: Mapping[str, str | None]


class Step(StrEnum):
    """What to do now."""

    TELL = "tell"
    MAKE = "make"
    REPLACE = "replace"
    RETIRE = "retire"
    DONE = "done"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """Nothing can be done yet."""

    waiting_for: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenUp:
    """It does not go on. `reason` and `hint` are whole sentences."""

    reason: str
    hint: str


Verdict = Step | Wait | GivenUp


@dataclass(slots=True, kw_only=True)
class RotationPolicy:
    """Judges one change to the key `new`. Every `now` on one monotonic clock, in seconds."""

    new: str
    _is_replaced: bool = False  # by this call
    _since: dict[Step, float] = field(default_factory=dict)  # when a step was first found not to be possible yet

    def judge(self, view: View, *, now: float) -> Verdict:
        """Return what to do. A step that it returns is taken before it is asked again."""
        frontends = view.frontends
        if frontends and view.starting == self.new and set(frontends.values()) == {self.new}:
            is_told = all(list(keys) == [self.new] for keys in view.known.values())
            return Step.DONE if is_told else Step.RETIRE
        if silent := sorted(name for name, key in frontends.items() if key == ""):
            return GivenUp(
                reason=f"{silent[0]} does not say which key it has, so its image is of another clipper-nomad.",
                hint="`clipper-nomad up` brings it up to date; then begin again.",
            )
        if any(self.new not in keys for keys in view.known.values()):
            return Step.TELL
        if untold := sorted(place for place, keys in view.told.items() if self.new not in keys):
            said = f"{len(untold)} of {len(view.told)} allocations were not told of the new key, the first is {untold[0]}."
            hint = "See that their clients reach Nomad's servers; then begin again: it goes on."
            return self._wait(Step.TELL, said, hint, within_s=TOLD_WITHIN_S, now=now)
        if view.starting != self.new:
            return Step.MAKE
        if not self._is_replaced:
            self._is_replaced = True
            return Step.REPLACE
        have = sum(key == self.new for key in frontends.values())
        said = f"{have} of the {len(frontends)} query frontends that run have the new key. Both are known to everybody."
        hint = "`clipper-nomad status` says how they are; then begin again: it goes on."
        return self._wait(Step.REPLACE, said, hint, within_s=REPLACED_WITHIN_S, now=now)

    def _wait(self, step: Step, said: str, hint: str, *, within_s: float, now: float) -> Verdict:
        if now - self._since.setdefault(step, now) >= within_s:
            return GivenUp(reason=f"Gave up after {within_s:g} s: {said}", hint=hint)
        return Wait(waiting_for=said)
