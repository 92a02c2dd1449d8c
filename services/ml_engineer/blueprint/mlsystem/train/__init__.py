"""From training rows to a fitted model: baselines, families, ensemble, calibration, within a budget of wall time.

`problem` is what there is to learn, `matrices` what it looks like, `linear` and `trees` the families, `ensemble`
and `calibrate` what is made of them, `search` the order of it all, `command` the stage with its files.
Only training rows ever come here; the holdout is opened by `evaluation` alone.
"""
