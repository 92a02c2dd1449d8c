"""Tells people how a task ended: from its journal, claim by claim."""
