"""Servers on loopback and the sample application, for the demo, the tests and the benchmarks.

Nothing in here is part of the built collection, and nothing in the collection knows of it.
"""
