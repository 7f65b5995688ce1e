"""What replicas of a model version are started from: an image, built here, or a bundle, kept by admin and fetched.

The catalog has the one text that `publish` returns; `program` reads it again when a job is made.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from clipper_nomad.admin.bundle_client import BundleClient
from clipper_nomad.cluster.bundles.shipping import BundleShipping
from clipper_nomad.cluster.jobs.programs import Image, StoredBundle
from clipper_nomad.cluster.jobs.requirements import Placement
from clipper_nomad.cluster.names import ClusterNames
from clipper_nomad.cluster.nomad_api import NomadApi
from clipper_nomad.cluster.secret_keeper import SecretKeeper
from clipper_nomad.images.image_set import DEFAULT_BASE, ImageSet
from clipper_nomad.images.parts import Part
from clipper_nomad.images.references import parse
from clipper_nomad.protocol.bundle import requirements_of
from clipper_nomad.protocol.bundle_store import fetch_token, parse_reference

LOST_WITH_NODE = (
    "models that have no image are kept on the disk of admin's allocation: if its node is lost, their replicas that run go"
    " on, and no new ones can start. bundle_volume= (up --bundle-volume) keeps them on a host volume"
)


class Publishing:
    """Publishes the models of one cluster. `image`: gives an image of this name its login. `runtime_image`: runs bundles; ""
    for the one that the cluster knows.
    """

    def __init__(
        self,
        names: ClusterNames,
        *,
        images: ImageSet,
        image: Callable[[str], Image],
        runtime_image: str,
        nomad: NomadApi,
        placement: Placement,
        secrets: SecretKeeper,
        admin: Callable[[], str],
        token: Callable[[], str],
    ) -> None:
        self._names = names
        self._images = images
        self._image = image
        self._runtime_image = runtime_image
        self._secrets = secrets
        self._token = token
        self._bundles = BundleShipping(BundleClient(admin, token), nomad, placement, said=images.say)

    def part(self, part: Part, given: str = "") -> Image:
        """Return the image of a part of the cluster: the given one, or what is built of it. Raises: ImageError."""
        return self._image(given or str(self._images.find(part)))

    def runtime(self, *, has_images: bool) -> Image | None:
        """Return the image that a cluster is to run bundles with. `has_images`: this machine has those of the parts.

        Raises: ImageError."""
        return self.part(Part.RUNTIME, self._runtime_image) if has_images or self._runtime_image else None

    def publish(
        self, name: str, version: str, bundle: Path, *, base: str, registry: str | None, packages: Sequence[str]
    ) -> str:
        """Build an image and push it, or, where no registry is named, send the bundle; return what to deploy.

        Raises: InvalidName. ImageError: of an image. BundleError, AdminRefused, AdminUnreachable: of a bundle.
        """
        self._names.model_job(name, version)  # a name that cannot be deployed is refused before anything is made
        if registry is None and not self._images.builds_models:
            is_default = base in {"", DEFAULT_BASE}
            runtime = self._runtime_image if is_default else base
            packages = requirements_of(bundle, packages) if is_default else packages  # a named image has its framework
            return str(self._bundles.publish(bundle, packages=packages, runtime=runtime, title=f"{name}:{version}"))
        cluster = self._names.cluster
        return str(
            self._images.publish_model(cluster, name, version, bundle, base=base, registry=registry, packages=packages)
        )

    def withdraw(self, image: str) -> None:
        """Take back what was published: a bundle from admin's disk, an image's name from this machine's Docker."""
        bundle = parse_reference(image)
        if bundle is not None:
            self._bundles.withdraw(bundle)
        else:
            self._images.forget(parse(image))

    def program(self, image: str, job: str) -> Image | StoredBundle:
        """Return what a job runs; if that is a bundle, what opens it is in the job's Variable then."""
        bundle = parse_reference(image)
        if bundle is None:
            return self._image(image)
        cache = self._bundles.cache_volume()
        self._secrets.keep_bundle_token(job, fetch_token(self._token(), bundle.digest))
        return StoredBundle(runtime=self._image(bundle.runtime), digest=bundle.digest, cache_volume=cache)
