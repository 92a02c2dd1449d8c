"""Faults at random, and the verdict on what is left."""
