"""The way in from outside the bus, and the supervisor that sees to it that nothing is lost."""
