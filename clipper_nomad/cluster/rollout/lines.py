"""What a rollout tells, as the line of its job. Pure; the command line and the manager show them."""

from __future__ import annotations

from clipper_nomad.cluster.rollout.events import (
    BecameHealthy,
    Gone,
    Progress,
    Registered,
    RollingBack,
    RolloutEvent,
    Stopping,
    Unchanged,
)

DOTS = 8
_STEPS = 3  # an allocation is placed, runs, is healthy


def dots(done: int, of: int) -> str:
    """Return a bar of eight; it is full only when all is done, and not empty once something is."""
    full = DOTS if done >= of else min(DOTS - 1, max(1 if done else 0, DOTS * done // of))
    return "●" * full + "○" * (DOTS - full)


def rollout_line(event: RolloutEvent) -> str:
    """Return what is shown of a job after `event`."""
    match event:
        case Registered(version=version, warnings=warnings):
            said = f"registered, version {version}"
            return f"{dots(0, 1)} {said}" + (f"; Nomad warns: {' '.join(warnings.split())}" if warnings else "")
        case Progress():
            done = event.placed + event.running + event.healthy
            return f"{dots(done, _STEPS * event.wanted)} waits for {event.waiting_for}  {event.elapsed_s:.0f} s"
        case Unchanged():
            return f"{dots(1, 1)} unchanged"
        case BecameHealthy(elapsed_s=elapsed_s):
            return f"{dots(1, 1)} healthy  {elapsed_s:.0f} s"
        case RollingBack(to_version=None):
            return "failed; it is removed again"
        case RollingBack(to_version=version):
            return f"failed; it goes back to version {version}"
        case Stopping():
            return "stops; what is under way is finished"
        case Gone(elapsed_s=elapsed_s):
            return f"removed  {elapsed_s:.0f} s"
