"""How a job comes about on Nomad: registered, followed until it is healthy, or explained and put back.

rollout.py   plan, register, follow, roll back      events.py    what is told meanwhile
policy.py    what to do next (pure)                 follow.py    asking Nomad what policy.py needs
explain.py   Nomad's JSON → one sentence of cause (pure), from placement.py, task_failures.py, image_pulls.py
evidence.py  fetching what explains a failure       capacity.py  what the clients have room for (pure)
parsed_job.py  looking into a job as Nomad parsed it (pure)      lines.py  what is told, as lines for people (pure)
"""
