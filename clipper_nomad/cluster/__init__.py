"""A cluster on Nomad, Consul and Fabio.

What it consists of (pure):
    names.py         what the jobs, services, routes, variables and meta of a cluster are called
    requirements.py  what a task needs of the machine it runs on, and where it may run
    programs.py      what a task runs: an image, perhaps behind a registry's password, or a bundle in a generic image
    specs.py         what each job is made from, checked when made
    hcl.py           Python values to HCL, and HCL in the form that `nomad fmt` gives it
    render.py        a spec, through its template in jobspecs/, to HCL text
    ownership.py     which jobs of a Nomad are this cluster's
    route_claims.py  who holds which route of Fabio

How it comes about:
    endpoints.py     where Nomad and Consul are, and how they want to be spoken to (NOMAD_*, CONSUL_*)
    nomad_api.py     the only file that speaks to Nomad     consul_api.py   the only file that speaks to Consul
    discovery.py     the only file that asks DNS            routes.py       Fabio's listeners and routes
    rollout.py       plan, register, follow, roll back; what to do next is decided in rollout_policy.py (pure)
    explain.py       Nomad's JSON → one sentence of cause: placement.py, task_failures.py, image_pulls.py (all pure)
    secret_keeper.py passwords, tokens and keys, in Nomad Variables
    manager.py       NomadContainerManager: all of it behind the interface that every place has
"""
