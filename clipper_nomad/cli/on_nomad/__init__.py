"""What the verbs do with a cluster on Nomad; finding.py decides that it is one.

reaching.py      options and environment → the container manager, and a connection
settings.py      what a running cluster was brought up with, from its frontends' job (pure)
bringing_up.py   `up`         planning.py    `plan`, `up --plan`     rendering.py   `render`     taking_down.py   `down`
state.py         `status`: gathers and shows                                   task_logs.py     `logs`
changes.py       what a plan of Nomad's says, as lines (pure)
deploying_there.py  `deploy`
examining.py     `doctor`: asks Nomad, Consul, Fabio, DNS, Docker              verdicts.py      judges them (pure)
"""
