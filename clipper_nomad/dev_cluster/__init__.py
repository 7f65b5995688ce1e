"""A real Consul, Nomad and Fabio on this machine, for development: `clipper-nomad dev up|down|status|env`.

    the user's process                    the supervisor (own process, own session)
    bringing_up.py  checks, starts, waits    supervisor.py   the agents, by local_stack's keepers
    taking_down.py  drains, ends, sweeps
    running.py      what state.py has of it, and how to reach it

    place.py       where everything lies              ports.py     which ports (pure)
    programs.py    on PATH, or downloaded             agents.py    how each agent is started, and its configuration
    agent_api.py   what Consul, Nomad, Fabio say      leftovers.py what Nomad leaves on a machine
    templates.py   configuration from the fragments of the Terraform module

Downloads, which `terraform init` uses too:

    releases.py    which versions, what their files are called and where they are (pure)
    signature.py   who signed a list of checksums; gpgv does the work, the rule is here
    transfer.py    one file over HTTP: goes on where it was cut, there whole or not at all
    checksums.py   a release's checksums, with their signature checked
    install.py     a program of a release into the user's cache
"""
