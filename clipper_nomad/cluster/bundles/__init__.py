"""Models without an image: packed with the packages they need, and sent to the cluster's admin service.

wheels.py     the packages, resolved here for the machines that will run them
shipping.py   a folder with a bundle → what the catalog has as the version's image
"""
