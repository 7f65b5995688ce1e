"""The images of one cluster: its parts', built from what is installed here, and its models', a thin layer each."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from clipper_nomad.errors import ImageError
from clipper_nomad.images.contexts import model_context, part_context
from clipper_nomad.images.docker_images import DockerImages
from clipper_nomad.images.index_settings import read_index_settings
from clipper_nomad.images.parts import Part
from clipper_nomad.images.references import Reference, model_image, parse, part_image
from clipper_nomad.protocol.bundle import packed_by, requirements_of
from clipper_nomad.toolkit import toolkit_version

DEFAULT_BASE = "default"  # Clipper's word
Progress = Callable[[str, str], None]  # (image's name, what is said of it)


def nothing(_image: str, _line: str) -> None:
    """Say nothing."""


def this_python() -> str:
    """Return the minor version of this interpreter, such as "3.11": what packs a model must be what runs it."""
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def default_base(python: str) -> str:
    """Return the base image that is used unless another is named."""
    return f"python:{python}-slim"


class ImageSet:
    """Builds, names and pushes images.

    `registry`: host[:port][/path]; "" keeps images on this Docker daemon, and so does None, for the parts: then no images
    of models are wanted (`builds_models`). `base`: an image with Python of the minor
    version `python`, its venv module, and a shell. `network`: the builder's, as `docker build --network`.
    """

    def __init__(
        self,
        *,
        registry: str | None = "",
        python: str = "",
        base: str = "",
        network: str | None = None,
        progress: Progress = nothing,
    ) -> None:
        self.builds_models = registry is not None
        self._registry = registry or ""
        self._python = python or this_python()
        self._base = base or default_base(self._python)
        self._network = network
        self._progress = progress
        self._docker: DockerImages | None = None
        self._built: dict[Part, str] = {}  # the ids of those that were built here: somebody else may move the tag

    def with_registry(self, registry: str) -> ImageSet:
        """Return the same with another registry."""
        return ImageSet(
            registry=registry, python=self._python, base=self._base, network=self._network, progress=self._progress
        )

    @property
    def registry(self) -> str:
        """Where images are pushed to, "" if they stay on this Docker daemon."""
        return self._registry

    def forget(self, reference: Reference) -> None:
        """Take an image's name away from this Docker host. Raises: ImageError."""
        self._images.remove(reference)

    def name(self, part: Part) -> Reference:
        """Return what the image of a part is called."""
        return part_image(part, toolkit=toolkit_version(), python=self._python, registry=self._registry)

    def build_parts(self, parts: Iterable[Part] = tuple(Part)) -> dict[Part, Reference]:
        """Build the images of these parts and return their names. Raises: ImageError."""
        index = read_index_settings()
        built = {}
        for part in parts:
            reference = self.name(part)
            self._say(reference, f"building on {self._base}")
            self._built[part] = self._images.build(
                part_context(part, python=self._python, index=index),
                reference,
                base=self._base,
                network=self._network,
                said=lambda line, reference=reference: self._say(reference, line),  # type: ignore[misc]
            )
            self._say(reference, "built")
            built[part] = reference
        return built

    def push_parts(self, parts: Iterable[Part] = tuple(Part)) -> dict[Part, Reference]:
        """Push the images of these parts and return their names by digest. Raises: ImageError; there is no registry."""
        return {part: self._push(self.name(part)) for part in parts}

    def find(self, part: Part) -> Reference:
        """Return a part's image as it is to be deployed: by digest where there is a registry, else by a tag with its id.

        A tag that moves would change a cluster that runs: what starts anew would be of another build than what is replaced.
        Raises: ImageError: there is none."""
        reference = self.name(part)
        if self._registry:
            return self._images.resolved(reference)
        fixed = self._images.fixed(reference, self._built.get(part, ""))
        if fixed is None:
            error = ImageError(
                f"There is no image {reference} on this Docker host.", hint="Build it: clipper-nomad images build"
            )
            error.is_missing = True
            raise error
        return fixed

    def build_model(
        self, cluster: str, name: str, version: str, bundle: Path, *, packages: Sequence[str] = (), base: str = ""
    ) -> Reference:
        """Build a model version's image from its bundle, push it if there is a registry, and return what to deploy.

        `packages`: what is installed in it, besides what the bundle's framework needs. `base`: an image of the user's, which
        has that, instead of the runtime's; the runtime is put on it first unless it has it.
        Raises: ImageError.
        """
        reference = model_image(cluster, name, version, registry=self._registry)
        runtime = self._runtime_on(base) if base else str(self.find(Part.RUNTIME))
        self._refuse_other_python(bundle, runtime)
        index = read_index_settings()
        wanted = packages if base else requirements_of(bundle, packages)
        context = model_context(bundle, python=self._python, packages=wanted, index=index)
        self._say(reference, f"building on {runtime}")
        image_id = self._images.build(
            context,
            reference,
            base=runtime,
            network=self._network,
            said=lambda line: self._say(reference, line),
        )
        self._say(reference, "built")
        if self._registry:
            return self._push(reference)
        # a tag that moves would change a version; Nomad never looks for one with an id of its own elsewhere
        fixed = self._images.fixed(reference, image_id)
        if fixed is None:
            raise ImageError(f"{reference} was removed from this Docker host just after it was built.", hint="Try again.")
        return fixed

    def publish_model(
        self,
        cluster: str,
        name: str,
        version: str,
        bundle: Path,
        *,
        base: str = "",
        registry: str | None = None,
        packages: Sequence[str] = (),
    ) -> Reference:
        """Do `build_model` as Clipper's callers ask for it: `base` may be "default", `registry` another than usual."""
        images = self if registry is None else self.with_registry(registry)
        base = "" if base == DEFAULT_BASE else base
        return images.build_model(cluster, name, version, bundle, packages=packages, base=base)

    def _refuse_other_python(self, bundle: Path, runtime: str) -> None:
        """See that the image can load the bundle. Raises: ImageError."""
        wanted, has = packed_by(bundle), self._images.python_of(runtime)
        if wanted is not None and has is not None and wanted != has:
            raise ImageError(
                f"The model was packed by Python {wanted}, and {runtime} has Python {has}; expected the same minor version.",
                hint=f"Deploy it from Python {has}, or on an image with Python {wanted}: base_image=, or"
                f" `clipper-nomad images build` from Python {wanted}.",
            )

    def _runtime_on(self, base: str) -> str:
        """Return the runtime's image on the user's own base, which may be one already."""
        parse(base)
        if self._images.part_of(base) == Part.RUNTIME:
            return base
        reference = self.name(Part.RUNTIME)
        on_base = Reference(f"{reference.repository}-on-{parse(base).repository.rpartition('/')[2]}", reference.tag)
        self._say(on_base, f"putting the runtime on {base}")
        return self._images.build(
            part_context(Part.RUNTIME, python=self._python, index=read_index_settings()),
            on_base,
            base=base,
            network=self._network,
            said=lambda line: self._say(on_base, line),
        )

    def _push(self, reference: Reference) -> Reference:
        if not self._registry:
            raise ImageError(
                f"{reference} has no registry to be pushed to.", hint="Name one: --registry registry.example/team"
            )
        pushed = self._images.push(reference, said=lambda line: self._say(reference, line))
        self._say(reference, "built and pushed")
        return pushed

    @property
    def _images(self) -> DockerImages:
        if self._docker is None:
            self._docker = DockerImages()
        return self._docker

    def say(self, what: str, line: str) -> None:
        """Tell whoever listens how far something is."""
        self._progress(what, line)

    def _say(self, reference: Reference, line: str) -> None:
        self.say(str(reference), line)
