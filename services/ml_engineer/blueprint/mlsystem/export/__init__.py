"""A system in the terms of other platforms: lineage for a catalogue, a model for MLflow, features for Feast, KServe.

Each module writes one form from what a version has on record. `command` is the command line. Nothing here is needed
to train or to serve, and none of the platforms is imported.
"""
