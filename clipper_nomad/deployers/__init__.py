"""Deployers: a Python object → a bundle → a running model version. One module for each framework, as in Clipper.

python.py takes any function; the others also a model, which their framework saves (frameworks.py has what they share).
deploying.py is the way that all go: packing.py makes the bundle, trial.py tries it, ClipperConnection deploys it.
closure_modules.py says what travels in a bundle and what must be installed where it runs, unpicklable.py why something
cannot travel. Nothing here loads a pickle, but packing.py for `test_predict_function`.
"""
