"""Container images: of the parts of the toolkit, and of models. The only code that builds with Docker.

parts.py            what is in the image of each part (pure)
recipes.py          the Dockerfiles (pure)
contexts.py         what a build is given: files as one tar archive
index_settings.py   the host's pip settings, for installs within a build
references.py       names of images (pure)
docker_images.py    build, push, and what a registry has, through the Docker daemon
"""
