"""The drill: what a system says about rollback and recovery, tried on a copy of it and measured.

`ground` is the copy, `field` its server under the load of `probe`, `scenarios` what is hurt and what must come of it,
`command` the record.
"""
