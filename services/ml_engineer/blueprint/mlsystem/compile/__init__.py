"""From a fitted model to one ONNX file, and the proof that the two say the same.

`members` is the closed list of what can be compiled; each member predicts natively and emits itself. `features`
emits the encoders, `model` puts encoders, members, ensemble and calibration into one graph, `parity` compares.
"""
