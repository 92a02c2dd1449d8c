"""What the project already knows: a searchable memory of each workspace and of what agents did in it.

Owns the knowledge base, the facts read from files, and the answers to the protocol's three questions. It
decides nothing about tasks and never asks a person anything.
"""
