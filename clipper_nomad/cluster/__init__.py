"""Clusters on Nomad, Consul and Fabio: rendering and rolling out jobs, finding services, explaining what went wrong.

endpoints.py      where Nomad and Consul are, and how they want to be spoken to (NOMAD_*, CONSUL_*)
nomad_api.py      the only file that speaks to Nomad     consul_api.py   the only file that speaks to Consul
discovery.py      the only file that asks DNS            routes.py       Fabio's listeners and routes
rollout.py        plan, register, follow, roll back; what to do next is decided in rollout_policy.py (pure)
explain.py        Nomad's JSON → one sentence of cause: placement.py, task_failures.py, image_pulls.py (all pure)
"""
