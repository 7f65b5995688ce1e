"""What the jobs of a cluster are, from choices to jobspecs. Pure.

blueprint.py     the choices that all jobs of a cluster share, and the specs that follow
requirements.py  what a task needs of the machine it runs on, and where it may run
options.py       what users ask for one job, laid over what the cluster has for all
programs.py      what a task runs: an image, perhaps behind a registry's password, or a bundle in a generic image
specs.py         what each job is made from, checked when made (checks.py)
task_files.py    the files that Nomad writes for a task: addresses from Consul, secrets from Variables
hcl.py           Python values to HCL, and HCL in the form that `nomad fmt` gives it
render.py        a spec, through its template in jobspecs/, to HCL text
"""
