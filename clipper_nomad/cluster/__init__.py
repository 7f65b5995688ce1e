"""A cluster on Nomad, Consul and Fabio.

names.py          what the jobs, services, routes, variables and meta of a cluster are called (pure)
ownership.py      which jobs of a Nomad are this cluster's (pure)
route_claims.py   who holds which route of Fabio (pure)
jobs/             what the jobs are, from choices to jobspecs (pure)
rollout/          how a job comes about, and why it does not
endpoints.py      where Nomad and Consul are, and how they want to be spoken to (NOMAD_*, CONSUL_*)
nomad_api.py      the only file that speaks to Nomad      consul_api.py   the only file that speaks to Consul
addresses.py      where a cluster is reached, from here and by its replicas
discovery.py      the only file that asks DNS             routes.py       Fabio's listeners and routes
log_files.py      the logs of a cluster's tasks, as files
own_fabio.py      a Fabio of the cluster's own, where there is none
way_in.py         whether Fabio's listeners are there and its routes are free
legacy_rpc.py     whether a cluster serves Clipper's RPC version 3 (pure)
registering.py    specs to jobs that run, and jobs to nothing
at_once.py        several jobs at the same time, and Ctrl-C meanwhile
secret_keeper.py  passwords, tokens and keys, in Nomad Variables
key_rotation.py   changes the frontends' key while they serve: rotation_policy.py says what comes next (pure)
meeting.py        where replicas meet their first frontends
telling.py        what a notebook's cell shows of it meanwhile
manager.py        NomadContainerManager: all of it behind the interface that every place has
"""
