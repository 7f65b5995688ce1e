"""Every exception that clipper-nomad raises on purpose.

* ClipperException            the root; has `msg` (Clipper's attribute) and, where there is one, a `hint`
  + UnconnectedException      a method that needs a cluster was called before `connect` or `start_clipper`
  + AdminRefused              the admin service answered with an error status
  + AdminUnreachable          the admin service did not answer
  + ImageError                an image could not be built, pushed or found
  + InvalidName               a name, version or label breaks the naming rules
  + InvalidSpec               what a job is to be made from is not possible; nothing was rendered or registered
  + NotOurs                   a job, or a route of Fabio, that is needed belongs to somebody else; nothing was changed
  + BundleError               a closure cannot be packed, or a bundle of it cannot be run
  + DeployFailed              a model version did not become ready; nothing of it is left behind
  + PredictionFailed          a query got no answer; has the HTTP `status` (None: nobody answered) and the `cause`
  + StackError                the local stack could not be started, found or stopped
  + DockerHostError           a Docker host did not do what it was asked, or a container there does not run
  + StoreError                the store cannot be reached, or holds what it should not
  + InvalidSetting             an address or another setting from the environment or an argument cannot be used
  + JobspecError              Nomad cannot read a jobspec, or understood it differently than it was meant
  + NomadUnreachable          Nomad did not answer
  + NomadRefused              Nomad answered with an error status; has the HTTP `status` and the `body`
    + NomadConflict           somebody else changed the job or variable since it was read
  + RolloutFailed             a job did not become healthy; has the `cause`, the `log_tail` and the `outcome`
  + ConsulUnreachable         Consul did not answer
  + ConsulRefused             Consul answered with an error
  + DiscoveryError            no DNS server answered a question about a service
    + ServiceNotFound         DNS knows no healthy instance of a service
  + FabioUnreachable          one of Fabio's ports does not answer
  + DownloadFailed            a release of Consul, Nomad or Fabio could not be fetched, or is not what was signed
  + DevClusterError           the cluster of this machine could not be started, found or stopped
"""

from __future__ import annotations


class ClipperException(Exception):  # Clipper's public name, kept
    """What happened, what was expected, and in `hint` what to do next."""

    def __init__(self, msg: str, *args: object, hint: str | None = None) -> None:
        super().__init__(msg, *args)
        self.msg = msg
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.msg}\n{self.hint}" if self.hint else self.msg


class UnconnectedException(ClipperException):
    """A method that needs a cluster was called before there was a connection to one."""

    def __init__(self) -> None:
        super().__init__("Not connected to a Clipper cluster. Call connect() or start_clipper() first.")
        self.message = self.msg


class AdminRefused(ClipperException):
    """The admin service answered with an error status. `status` is HTTP's, `body` its text."""

    def __init__(self, status: int, body: str) -> None:
        super().__init__(f"Received error status code: {status} and message: {body}")
        self.status = status
        self.body = body


class AdminUnreachable(ClipperException):
    """The admin service did not answer."""


class InvalidName(ClipperException, ValueError):
    """A name, version or label breaks the naming rules."""


class InvalidSpec(ClipperException, ValueError):
    """What a job is to be made from is not possible; nothing was rendered or registered. `problems`: one line each."""

    def __init__(self, subject: str, problems: tuple[str, ...]) -> None:
        super().__init__("\n  ".join((f"{subject} cannot be made:", *problems)))
        self.problems = problems


class NotOurs(ClipperException):
    """A job, or a route of Fabio, that is needed belongs to somebody else; nothing was changed."""


class BundleError(ClipperException):
    """A closure cannot be packed, or its bundle cannot be run: damaged, too large, for another Python, lacking a wheel."""


class ImageError(ClipperException):
    """An image could not be built, pushed or found; the message has the cause.

    `is_missing`: whoever was asked for it says that it is not there. Else nobody could say.
    """

    is_missing = False


class DeployFailed(ClipperException):
    """A model version did not become ready; nothing of it is left behind."""


class PredictionFailed(ClipperException):
    """A query got no answer. `status`: HTTP's, None if the query frontend did not answer; `request_id` finds it in logs."""

    def __init__(self, msg: str, *, status: int | None, cause: str, request_id: str, hint: str | None = None) -> None:
        super().__init__(msg, hint=hint)
        self.status = status
        self.cause = cause
        self.request_id = request_id


class StackError(ClipperException):
    """The local stack could not be started, found or stopped."""


class DockerHostError(ClipperException):
    """A Docker host did not do what it was asked, or a container there does not run. `log_tail`: the end of its log."""

    def __init__(self, msg: str, *, hint: str | None = None, log_tail: str = "") -> None:
        super().__init__(msg, hint=hint)
        self.log_tail = log_tail


class StoreError(ClipperException):
    """The store cannot be reached, or holds what it should not."""


class InvalidSetting(ClipperException):
    """An address or another setting, from the environment or an argument, cannot be used."""


class JobspecError(ClipperException):
    """Nomad cannot read a jobspec, or understood it differently than it was meant. Nothing was registered."""


class NomadUnreachable(ClipperException):
    """Nomad did not answer: refused, timed out, or its certificate is not trusted."""


class NomadRefused(ClipperException):
    """Nomad answered with an error. `status` is HTTP's, `body` its text."""

    def __init__(self, msg: str, *, status: int, body: str, hint: str | None = None) -> None:
        super().__init__(msg, hint=hint)
        self.status = status
        self.body = body


class NomadConflict(NomadRefused):
    """Somebody else changed the job or variable since it was read. `body` is empty for a variable: it holds secrets."""


class RolloutFailed(ClipperException):
    """A job did not become healthy. `cause` is why, `log_tail` the end of its log, `outcome` what became of the job."""

    def __init__(self, job_id: str, *, cause: str, outcome: str, log_tail: str = "", hint: str | None = None) -> None:
        super().__init__(f"Job {job_id!r} failed: {cause}. {outcome}", hint=hint)
        self.job_id = job_id
        self.cause = cause
        self.outcome = outcome
        self.log_tail = log_tail


class ConsulUnreachable(ClipperException):
    """Consul did not answer: refused, timed out, or its certificate is not trusted."""


class ConsulRefused(ClipperException):
    """Consul answered with an error."""


class DiscoveryError(ClipperException):
    """No DNS server answered a question about a service."""


class ServiceNotFound(DiscoveryError):
    """DNS knows no healthy instance of a service."""


class FabioUnreachable(ClipperException):
    """One of Fabio's ports does not answer, or not as Fabio does."""


class DownloadFailed(ClipperException):
    """A release of Consul, Nomad or Fabio could not be fetched, or is not what its makers signed. Nothing was installed."""


class DevClusterError(ClipperException):
    """The Consul, Nomad and Fabio of this machine (`clipper-nomad dev`) could not be started, found or stopped."""
