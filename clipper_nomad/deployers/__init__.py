"""Deployers: a Python object → a bundle → a running model version. One module for each framework, as in Clipper.

python.py takes any function. packing.py makes the bundle, closure_modules.py says what travels in it and what must be
installed where it runs, unpicklable.py says why something cannot travel. Nothing here loads a pickle.
"""
