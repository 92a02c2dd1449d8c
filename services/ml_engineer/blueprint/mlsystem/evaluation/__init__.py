"""How good a model is, how sure that is, and whether it passes.

`metrics` is the closed list of measures, `bootstrap` their intervals, `gates` the decisions, `command` the stage.
"""
