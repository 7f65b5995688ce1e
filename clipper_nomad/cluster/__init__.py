"""A cluster on Nomad, Consul and Fabio. This half is pure: values in, values out; nothing here calls any of the three.

names.py         what the jobs, services, routes, variables and meta of a cluster are called
requirements.py  what a task needs of the machine it runs on, and where it may run
programs.py      what a task runs: an image, perhaps behind a registry's password, or a bundle in a generic image
specs.py         what each job is made from, checked when made
hcl.py           Python values to HCL, and HCL in the form that `nomad fmt` gives it
render.py        a spec, through its template in jobspecs/, to HCL text
ownership.py     which jobs of a Nomad are this cluster's
route_claims.py  who holds which route of Fabio
"""
