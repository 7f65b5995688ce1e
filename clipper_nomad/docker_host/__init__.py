"""A cluster as containers on one Docker host, without Nomad, Consul and Fabio.

names.py            names, labels and aliases of the containers (pure)
containers.py       what one container is made from (pure)
parts.py            store, admin and query frontends as such (pure)      replicas.py   the replicas of a model version (pure)
limits.py           what JobOptions are on Docker, and which it cannot do (pure)
verdicts.py         from what Docker says of a container to why it does not serve (pure)
engine.py           the only file that speaks to Docker
ports.py            which ports of the host are free
launching.py        a container with a name and ports that nobody has
starting.py         the parts, started at once and waited for
running.py          a cluster that runs, as its containers tell of it
version_records.py  what starts more replicas of a version, kept in admin's container
manager.py          DockerContainerManager: all of it behind the interface that every place has
"""
