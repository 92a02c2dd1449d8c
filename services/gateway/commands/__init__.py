"""The words of the command line: one module each, with its `Options` and `execute(options, output) -> exit code`.

A module is imported when its word is used, so that usage and errors come at once.
"""
