"""What a model sees of a row: encoders learnt from the training rows, as plain values.

`encoders` learns them, `native` applies them in numpy, `out_of_fold` keeps target means honest while training.
Nothing here knows ONNX: `compile` turns the same values into a graph, and parity compares the two.
"""
